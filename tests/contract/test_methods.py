"""What every search method must do. A new method adds one row."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.checkpoints import Checkpoints
from tfbnas.costs import Budget, Memory
from tfbnas.errors import UserError
from tfbnas.layers import BatchNormalization, BinaryConv2D, Dense, FloatConv2D, LearnedStep
from tfbnas.search import registry
from tfbnas.search.base import Search


@dataclass(frozen=True)
class Row:
    """A method on a small network.

    Attributes:
      name: As the registry has it.
      settings: Hyperparameters for three epochs that move something. The weights' optimiser is that of several parts,
        which is the harder one to keep in checkpoints and to let grow.
      budget: In bytes.
      network: Family that it searches.
      options: Of the family's builder.
    """

    name: str
    settings: dict[str, Any]
    budget: Budget
    network: str = "test-small"
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, seed=0, **changes) -> Search:
        arguments = {
            "budget": self.budget,
            "settings": self.method.settings(**ADAM | self.settings),
            "seed": seed,
        } | changes
        return self.method.search(self.network, input_shape=(8, 8, 3), classes=4, options=self.options, **arguments)

    @property
    def method(self) -> registry.Method:
        return registry.METHODS[self.name]


def chain(choose, *, input_shape, classes):
    """Two convolutions, for a method that builds and traces a network for each candidate."""
    inputs = tf.keras.Input(input_shape)
    x = BatchNormalization(name="bn1")(FloatConv2D(choose("first", 8), 3, name="conv1")(inputs))
    x = BinaryConv2D(choose("second", 16), 3, name="conv2")(LearnedStep(name="step")(x))
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(BatchNormalization(name="bn2")(x))
    return tf.keras.Model(inputs, Dense(classes, name="logits", dtype="float32")(x))


networks.register("test-two-layers", chain)

ADAM = {"recipe": "adam_sgd", "kernel_learning_rate": 0.02}
CNF = {"columns": 2, "scales": 2, "filters": 4}
CELLS = {"depth": 1, "nodes": 1, "channels": 4}
MOVING = {"learning_rate": 0.05, "architecture_learning_rate": 0.05}

METHODS = [
    Row("dms", {"rounds": 3, "weight_epochs": 1, **MOVING}, Budget(Memory(), 1200.0)),
    Row(
        "bsn",
        {"epochs": 3, "warm_up_epochs": 0, "groups": 4, "initial_logit": 0.02, "architecture_optimizer": "adam"}
        | MOVING,
        Budget(Memory(), 600.0),
        "cnf",
        CNF,
    ),
    Row("random", {"candidates": 3, "learning_rate": 0.05, "fast_on": None}, Budget(Memory(), 1600.0), "test-small"),
    # The weekly workflow runs these: a step of them takes half a minute to trace.
    pytest.param(
        Row("dcpnas", {"epochs": 3, **MOVING}, Budget(Memory(), 850.0), "cells", CELLS), marks=pytest.mark.slow
    ),
    pytest.param(  # the same class with other defaults
        Row("cpnas", {"epochs": 3, **MOVING}, Budget(Memory(), 850.0), "cells", CELLS), marks=pytest.mark.slow
    ),
    pytest.param(
        Row(
            "rbcn",
            {"epochs": 3, "warm_up_epochs": 1, "mask_interval": 1, "sparsity": 5.0, **MOVING},
            Budget(Memory(), 500.0),
        ),
        marks=pytest.mark.slow,
    ),
    pytest.param(
        Row(
            "cibcnn",
            {"epochs": 3, "warm_up_epochs": 0, "interval": 1, "rollouts": 2, "rollout_steps": 2, **MOVING},
            Budget(Memory(), 1e6),
            "resnet20",
            {"base": 4, "n": 1},
        ),
        marks=pytest.mark.slow,
    ),
]


@pytest.fixture(params=METHODS, ids=lambda row: row.name, scope="module")
def row(request):
    return request.param


@pytest.fixture(scope="module")
def data(image_batches):
    return image_batches(32, batch=16), image_batches(32, batch=16, seed=1)


def compiled(row, data, seed=0):
    search = row.make(seed)
    search.compile(**search.optimizers(data[0]))
    return search


def variables(held) -> list[tf.Variable]:
    """All variables of what `tracked` gives."""
    if isinstance(held, tf.Variable):
        return [held]
    if isinstance(held, Mapping):
        held = list(held.values())
    if isinstance(held, list | tuple):
        return [variable for one in held for variable in variables(one)]
    return list(held.variables)


def outcome(search):
    """All that a search leaves, bit for bit."""
    return search.architecture(), search.record(), [one.numpy().tobytes() for one in variables(search.tracked())]


class Records(tf.keras.callbacks.Callback):
    """Logs and record of each epoch; with checkpoints the process ends, so to speak, behind the first."""

    def __init__(self, checkpoints=None):
        super().__init__()
        self.checkpoints, self.rows = checkpoints, []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"logs": {name: float(value) for name, value in logs.items()}, **self.model.record()})
        if self.checkpoints is not None:
            self.checkpoints.save(epoch + 1, {"rows": self.rows})
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(row, data):
    tf.keras.utils.set_random_seed(11)  # none of a method's business
    search, records = compiled(row, data), Records()
    history = search.fit(*data, callbacks=[records])
    return search, history, records.rows


def test_is_a_keras_model_that_fits(undisturbed):
    search, history, _ = undisturbed
    assert isinstance(search, Search) and isinstance(history, tf.keras.callbacks.History)
    assert history.epoch == [0, 1, 2] == list(range(search.epochs))
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy", "cost"} <= set(history.history)
    assert np.all(np.isfinite([values for values in history.history.values()]))


def test_is_what_the_registry_says(row, undisturbed):
    search, _, _ = undisturbed
    assert type(search) is row.method.search and search.method == row.name and search.name == row.name
    assert search.settings_class is row.method.settings and row.method.title and row.method.source
    assert search.choice_label and search.budgets == (row.budget,)


def test_gives_a_closed_architecture_within_its_budget(row, undisturbed):
    search, _, _ = undisturbed
    found = search.architecture()
    assert isinstance(found, Architecture) and found.method == row.name
    assert row.budget.cost.of(found) <= search.budget.limit
    model = networks.build(Architecture.from_dict(found.to_dict()))
    assert model.output_shape == (None, 4)


def candidates(choice):
    """Closed values of a choice and their probabilities: a module has one to be there, what has none is certain."""
    if "candidates" not in choice:
        certain = not isinstance(choice.get("closed", True), bool)
        return [(choice["closed"], 1.0)] if certain else [(False, 1.0 - choice["value"]), (True, choice["value"])]
    values = choice.get("candidate_channels", choice["candidates"])
    return list(zip(values, choice["probabilities"], strict=True))


def test_expects_the_cost_of_what_its_probabilities_draw(row, undisturbed):
    """The expected cost is the mean over all architectures, up to that of a few dozen draws."""
    search, _, _ = undisturbed
    choices = search.record()["choices"]
    values, chances = [], []
    for picked in itertools.product(*(candidates(one) for one in choices.values())):
        closed = dict(zip(choices, [value for value, _ in picked], strict=True))
        values.append(row.budget.cost.of(replace(search.template, choices=closed)))
        chances.append(math.prod(chance for _, chance in picked))
    mean = np.dot(chances, values)
    assert sum(chances) == pytest.approx(1.0, rel=1e-4)
    tolerance = 3 * math.sqrt(np.dot(chances, np.square(values - mean)) / 64)
    assert tolerance < 0.25 * mean
    assert search.costs() == [pytest.approx(mean, abs=tolerance)]
    assert search.cost().shape == () and float(search.cost()) == pytest.approx(mean, abs=tolerance)


def test_several_budgets(row, data):
    """What comes out is within all of them; logs and bar have the expected cost of each."""
    made, deployed = row.make(), Budget(Memory("deployed"), 1.0)
    (least,) = row.method.search.least_costs(made.template, [deployed], made.settings)
    limit = 1.02 * (least or Memory("deployed").of(made.architecture()))
    search = row.make(budget=[row.budget, Budget(Memory("deployed"), limit)])
    search.compile(**search.optimizers(data[0]))
    history = search.fit(*data, verbose=False).history
    found = search.architecture()
    assert len(search.costs()) == len(search.budgets) == 2 and search.budget == row.budget
    assert Memory("deployed").of(found) <= limit and history["cost_2"][0] > history["cost"][0]
    assert set(search.shown({"cost": 1.0, "cost_2": 1.0})) >= {"cost", "cost_2"}


def test_least_costs_are_those_that_a_search_can_end_with(row, undisturbed):
    search, _, _ = undisturbed
    (least,) = row.method.search.least_costs(search.template, search.budgets, search.settings)
    if least is None:
        return
    assert 0 < least <= row.budget.cost.of(search.architecture())
    assert row.method.search.least_text(search.template, search.settings)
    row.make(budget=replace(row.budget, limit=1.001 * least))
    with pytest.raises(UserError, match=f"at least {least:.6g} bytes"):
        row.make(budget=replace(row.budget, limit=0.99 * least))


def test_records_are_json_about_every_choice(undisturbed):
    search, _, rows = undisturbed
    assert json.loads(json.dumps(rows)) == rows and len(rows) == 3
    kinds = networks.choices(search.template)
    for record in rows:
        assert record.keys() == rows[0].keys() and set(record["choices"]) == set(kinds)
        for name, choice in record["choices"].items():
            assert choice.keys() == rows[0]["choices"][name].keys()
            assert math.isfinite(choice["value"])
            assert choice.get("low", -math.inf) <= choice["value"] <= choice.get("high", math.inf)
            found = candidates(choice)
            assert sum(probability for _, probability in found) == pytest.approx(1.0, rel=1e-5)
            for value in [*(value for value, _ in found), *([choice["closed"]] if "closed" in choice else [])]:
                assert kinds[name].check(name, value) == value
            assert choice.get("base", 0) == getattr(kinds[name], "base", 0)
    assert rows[-1] == {"logs": rows[-1]["logs"], **search.record()}
    if all("closed" in choice for choice in rows[-1]["choices"].values()):
        closed = {name: choice["closed"] for name, choice in rows[-1]["choices"].items()}
        assert closed == search.architecture().choices


def test_scalars_and_the_bar_say_what_is_going_on(undisturbed):
    search, _, rows = undisturbed
    scalars = search.scalars()
    assert scalars and all(isinstance(value, int | float) for value in scalars.values())
    shown = search.shown(rows[-1]["logs"])
    assert shown["cost"].endswith(" MiB") and " of " in shown["cost"]
    assert all(text is None or isinstance(text, str) for text in shown.values())
    assert all(isinstance(search.shown({"cost": value}), dict) for value in (math.nan, math.inf))


def test_predicts_and_evaluates_like_any_model(undisturbed, data):
    search, _, _ = undisturbed
    images, labels = (np.concatenate(parts) for parts in zip(*data[0].as_numpy_iterator(), strict=True))
    logits = search.predict(images, verbose=0)
    found = search.evaluate(images, labels, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(logits, axis=1) == labels))
    loss = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert found["loss"] == pytest.approx(float(tf.reduce_mean(loss)), rel=1e-4)


def test_searches_something(row, undisturbed):
    """What decides the architecture has moved, further than rounding."""
    now, before = (search.record()["choices"] for search in (undisturbed[0], row.make()))
    assert max(abs(now[name]["value"] - before[name]["value"]) for name in now) > 0.01


def test_killed_and_resumed_it_is_the_undisturbed_one(row, undisturbed, data, tmp_path):
    """Whatever Keras' global seed is: the search's own decides everything."""
    tf.keras.utils.set_random_seed(99)
    killed = compiled(row, data)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(*data, callbacks=[Records(Checkpoints(tmp_path, **killed.tracked()))])
    tf.keras.utils.set_random_seed(5)
    search, records = compiled(row, data), Records()
    start = outcome(search)
    step, state = Checkpoints(tmp_path, **search.tracked()).restore()
    history = search.fit(*data, initial_epoch=step, callbacks=[records])
    assert step == 1 and history.epoch == [1, 2]
    assert outcome(search) == outcome(undisturbed[0])
    assert [*state["rows"], *records.rows] == undisturbed[2]
    assert outcome(compiled(row, data, seed=1)) != start


def test_hyperparameters_belong_to_the_constructor(row, undisturbed, data):
    search, _, _ = undisturbed
    with pytest.raises(UserError, match=r"in its constructor. Received: fit\(batch_size=8\); write .*batch_size=8\)"):
        search.fit(*data, batch_size=8)
    with pytest.raises(UserError, match="'initial_epok'. Did you mean 'initial_epoch'"):
        search.fit(*data, initial_epok=1)
    with pytest.raises(UserError, match="'batch_sizes'. Did you mean 'batch_size'"):
        row.make(batch_sizes=8)
    with pytest.raises(UserError, match="Expected `settings` of .* Received: 7"):
        row.make(settings=7)
    assert row.make(batch_size=8).settings.batch_size == 8


def test_arguments_are_checked_where_they_enter(row, data):
    for changes, expected in (
        ({"budget": 0.1}, "`budget` to be a Budget or a list of them"),
        ({"batch_size": "8"}, "`batch_size` to be an integer. Received: batch_size='8'"),
        ({"seed": -1}, "`seed` to be an integer of at least 0"),
    ):
        with pytest.raises(UserError, match=expected):
            row.make(**changes)
    with pytest.raises(UserError, match="Expected a compiled search"):
        row.make().fit(*data)
