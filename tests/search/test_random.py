"""Random search: what is drawn, what is kept, and which candidate wins."""

import numpy as np
import pytest
import tensorflow as tf

import tfbnas
from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Budget, Distributed, Latency, Memory
from tfbnas.costs.closed import price
from tfbnas.errors import UserError

SMALL = {"input_shape": (8, 8, 3), "classes": 4}


def search(limit=1200.0, **settings):
    return tfbnas.Random("test-small", budget=Budget(Memory(), limit), **SMALL, **settings)


def test_candidates_differ_fit_the_budget_and_compare():
    found = search(candidates=6, least_share=0.8).candidates
    costs = [Memory().of(one) for one in found]
    assert len({one.id for one in found}) == 6 and all(0.8 * 1200 <= cost <= 1200 for cost in costs)
    assert {one.method for one in found} == {"random"}


def test_every_number_of_channels_is_drawn_equally_often():
    template, chance = Architecture("random", "test-small", {}, **SMALL), np.random.default_rng(0)
    drawn = [networks.draw(template, chance).choices["stream"] for _ in range(4000)]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == list(range(1, 11))  # 0.25 to 2.5 times 4
    assert np.all(np.abs(counts - 400) < 5 * np.sqrt(400))


def test_widths_are_proportions_that_were_drawn_closed_to_the_budget_and_liked_by_kernels():
    """Of networks drawn by their widths alone, two in 5000 are within a tenth of this budget."""
    limit, own = 60_000.0, {"candidates": 3, "draws": 3, "least_share": 0.97}
    found = tfbnas.Random("resnet18", budget=Budget(Memory("file"), limit), **own)
    size, time = (price(cost, found.template) for cost in (Memory("file"), Latency("raspberry_pi_4b")))
    chance = np.random.default_rng(0)
    for one in found.candidates:
        drawn = networks.draw(found.template, chance).choices
        factors = [one.choices[name] / drawn[name] for name in drawn]
        assert np.std(factors) < 0.3 * np.mean(factors)
        assert size(one.choices) <= limit
        for name, width in one.choices.items():
            for multiple in (8, 32):
                wider = {**one.choices, name: -(-width // multiple) * multiple}
                assert size(wider) > limit or time(wider) >= time(one.choices) * (1 - 1e-5)


def test_several_budgets_hold_at_once():
    options = {"n": 1, "base": 4}
    limits = [Budget(Distributed(2), 7.0), Budget(Memory(), 2200.0)]
    both = tfbnas.Random("resnet_fabric", budget=limits, options=options, candidates=3, least_share=0.5, **SMALL)
    for one in both.candidates:
        assert all(limit.cost.of(one) <= limit.limit for limit in limits)
        assert networks.build(one).output_shape == (None, 4)


@pytest.mark.parametrize("network", ["test-small", "resnet_fabric"])
def test_the_fast_price_is_the_cost(network):
    template = Architecture("random", network, {}, **SMALL, options={"n": 1, "base": 4} if "fabric" in network else {})
    chance, of = np.random.default_rng(1), price(Memory("deployed"), template)
    for drawn in filter(None, (networks.draw(template, chance) for _ in range(5))):
        assert of(drawn.choices) == pytest.approx(Memory("deployed").of(drawn), rel=1e-5)


def test_a_budget_that_chance_does_not_meet_is_refused_with_what_was_drawn():
    with pytest.raises(UserError, match=r"of 50 bytes. Received: 0 of 30 drawn, which take [\d.]+ to [\d.]+ bytes"):
        search(limit=50.0, draws=30)


def test_a_generous_budget_leaves_the_proportions():
    found = search(limit=1e6, candidates=3, least_share=0.0, fast_on=None).candidates
    assert len({one.id for one in found}) == 3
    bases = {name: kind.base for name, kind in networks.choices(found[0]).items()}
    for one in found:
        ratios = sorted(one.choices[name] / base for name, base in bases.items())
        assert ratios[-1] == pytest.approx(2.5, abs=0.2) and ratios[0] < 2.3


@pytest.fixture(scope="module")
def fitted(image_batches):
    """A search of two candidates, its history, and the optimiser's steps and the stem before each candidate."""
    began = []

    class Look(tf.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kernels = [layer.get_weights()[0] for layer in self.model.network.layers if layer.name == "stem"]
            began.append((int(self.model.optimizer.iterations), kernels[0]))

    own = search(candidates=2, seed=4)
    own.compile(**own.optimizers(image_batches(32)))
    history = own.fit(image_batches(32), image_batches(64, seed=1), callbacks=[Look()], verbose=False).history
    return own, history, began


def test_the_best_on_the_other_images_wins(fitted):
    own, history, _ = fitted
    assert own.accuracies.numpy().tolist() == pytest.approx(history["validation_accuracy"])
    assert own.architecture() == own.candidates[int(np.argmax(history["validation_accuracy"]))]
    assert history["cost"] == [pytest.approx(Memory().of(one)) for one in own.candidates]


def test_every_candidate_begins_with_the_weights_of_its_seed_and_a_fresh_optimiser(fitted):
    own, _, began = fitted
    for candidate, (steps, kernel) in zip(own.candidates, began, strict=True):
        tf.keras.utils.set_random_seed(4)
        fresh = networks.build(candidate).get_layer("stem").get_weights()[0]
        assert steps == 0 and np.array_equal(kernel, fresh)
