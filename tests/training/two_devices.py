"""`two_devices.py FILE none mirrored`: trains and searches with Adam for the kernels on one device and on two.

What is written to FILE is what tests/distributed/losses.py writes for its own cases.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "distributed"))

import losses as common  # noqa: E402

from tfbnas import training  # noqa: E402
from tfbnas.architecture import Architecture  # noqa: E402
from tfbnas.costs import Budget, Memory  # noqa: E402
from tfbnas.recipes.options import TrainSettings  # noqa: E402
from tfbnas.search.dms import DMS  # noqa: E402

SETTINGS = TrainSettings(recipe="adam_sgd", epochs=2, learning_rate=0.05, kernel_bound=1.0)


def both(model):
    rates = training.learning_rates(SETTINGS, 20)
    return training.weight_optimizer(SETTINGS, rates, model, epoch_steps=10)


def train(losses):
    shape, classes = common.SHAPE, common.CLASSES
    model = training.trainable(Architecture("plain", "chain", {"a": 5, "b": 6}, shape, classes, {}))
    training.compile_with(model, both(model))
    batches = common.divided(common.batches().repeat())
    model.fit(batches, steps_per_epoch=20, callbacks=[losses], verbose=0)
    return [*model.weights, *model.optimizer.variables]


def dms(losses):
    own = {"budget": Budget(Memory(), 700.0), "input_shape": common.SHAPE, "classes": common.CLASSES}
    search = DMS("chain", rounds=2, weight_epochs=1, **own)
    search.compile(both(search.network), common.sgd())
    search.fit(common.batches(), common.batches(), callbacks=[losses], verbose=False)
    assert len(search.optimizer.members[0]._index_dict) == 1
    return [*search.network.weights, search.mu, *search.optimizer.variables]


common.CASES = (train, dms)

if __name__ == "__main__":
    common.main(*sys.argv[1:])
