"""What every search method must do. A new method adds one row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import Budget, Memory
from tfbnas.search.bsn import BSN
from tfbnas.search.dms import DMS


@dataclass(frozen=True)
class Method:
    """A row.

    Attributes:
      name: As an architecture names it.
      make: Gives the search model with a seed, not compiled, under a budget of bytes.
      fit: Arguments of `fit` for three rounds.
      resumed: Arguments of `fit` that go on behind the first round.
      state: What a checkpoint must hold, by name, beside the optimisers.
    """

    name: str
    make: Callable[..., tf.keras.Model]
    fit: dict[str, Any]
    resumed: dict[str, Any]
    state: Callable[[tf.keras.Model], dict[str, Any]]


def make_dms(seed, limit=1200.0):
    return DMS("test-small", budget=Budget(Memory(), limit), input_shape=(8, 8, 3), classes=4, seed=seed)


def make_bsn(seed, limit=600.0):
    return BSN(
        "cnf",
        budget=Budget(Memory(), limit),
        input_shape=(8, 8, 3),
        classes=4,
        options={"columns": 2, "scales": 2, "filters": 4},
        groups=4,
        initial_logit=0.02,  # so that a few steps decide something
        seed=seed,
    )


METHODS = [
    Method(
        "dms",
        make_dms,
        {"rounds": 3, "weight_epochs": 1},
        {"rounds": 3, "weight_epochs": 1, "initial_round": 1},
        lambda search: {
            "network": search.network,
            "sizes": [width.size for width in search.widths],
            "variables": search.state,
        },
    ),
    Method(
        "bsn",
        make_bsn,
        {"epochs": 3, "warm_up_epochs": 0},
        {"epochs": 3, "warm_up_epochs": 0, "initial_epoch": 1},
        lambda search: {"network": search.network, "variables": search.state},
    ),
]


@pytest.fixture(params=METHODS, ids=lambda method: method.name, scope="module")
def method(request):
    return request.param


def compiled(method, seed=0):
    search = method.make(seed)
    search.compile(
        weight_optimizer=tf.keras.optimizers.SGD(0.05, momentum=0.9),
        architecture_optimizer=tf.keras.optimizers.Adam(0.05),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return search


def outcome(search):
    """All that a search leaves, bit for bit."""
    variables = [*search.network.variables, *search.optimizer.variables, *search.architecture_optimizer.variables]
    return search.architecture(), [variable.numpy().tobytes() for variable in variables]


class SaveAndStop(tf.keras.callbacks.Callback):
    """Ends the process, so to speak, behind the first round."""

    def __init__(self, checkpoints):
        super().__init__()
        self.checkpoints = checkpoints

    def on_epoch_end(self, epoch, logs=None):
        self.checkpoints.save(epoch + 1, {"logs": {name: float(value) for name, value in logs.items()}})
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(image_batches):
    return image_batches(32, batch=16), image_batches(32, batch=16, seed=1)


@pytest.fixture(scope="module")
def undisturbed(method, data):
    tf.keras.utils.set_random_seed(11)  # none of a method's business
    search = compiled(method)
    history = search.fit(*data, **method.fit)
    return search, history


def checkpoints(method, search, directory):
    return Checkpoints(
        directory,
        weight_optimizer=search.optimizer,
        architecture_optimizer=search.architecture_optimizer,
        **method.state(search),
    )


def test_is_a_keras_model_that_fits(method, undisturbed):
    search, history = undisturbed
    assert isinstance(search, tf.keras.Model) and isinstance(history, tf.keras.callbacks.History)
    assert history.epoch == [0, 1, 2]
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy", "cost"} <= set(history.history)
    assert np.all(np.isfinite([values for values in history.history.values()]))


def test_gives_a_closed_architecture_within_its_budget(method, undisturbed):
    search, _ = undisturbed
    found = search.architecture()
    assert isinstance(found, Architecture) and found.method == method.name
    assert Memory().of(found) <= search.budget.limit
    model = networks.build(Architecture.from_dict(found.to_dict()))
    assert model.output_shape == (None, 4)


def test_gives_an_expected_cost(method, undisturbed):
    search, _ = undisturbed
    cost = search.cost()
    assert cost.shape == () and 0 < float(cost) < 10 * search.budget.limit


def test_predicts_and_evaluates_like_any_model(method, undisturbed, data):
    search, _ = undisturbed
    images, labels = (np.concatenate(parts) for parts in zip(*data[0].as_numpy_iterator(), strict=True))
    logits = search.predict(images, verbose=0)
    found = search.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(logits, axis=1) == labels))
    loss = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert found["loss"] == pytest.approx(float(tf.reduce_mean(loss)), rel=1e-4)


def test_searches_something(method, undisturbed):
    """What decides the architecture has moved, further than rounding."""
    now, before = undisturbed[0].state[0].numpy(), method.make(0).state[0].numpy()
    assert np.abs(now - before).max() > 0.01


def test_the_seed_decides_everything(method, undisturbed, data):
    tf.keras.utils.set_random_seed(99)
    again = compiled(method)
    again.fit(*data, **method.fit)
    assert outcome(again) == outcome(undisturbed[0])
    other = compiled(method, seed=1)
    assert outcome(other)[1] != outcome(compiled(method))[1]


def test_resumed_search_is_the_undisturbed_one(method, undisturbed, data, tmp_path):
    killed = compiled(method)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(*data, **method.fit, callbacks=[SaveAndStop(checkpoints(method, killed, tmp_path))])
    tf.keras.utils.set_random_seed(5)
    search = compiled(method)
    step, state = checkpoints(method, search, tmp_path).restore()
    history = search.fit(*data, **method.resumed)
    assert step == 1 and history.epoch == [1, 2]
    assert outcome(search) == outcome(undisturbed[0])
    whole = undisturbed[1].history
    for name, values in history.history.items():
        assert [state["logs"][name], *values] == pytest.approx(whole[name], rel=1e-6)
