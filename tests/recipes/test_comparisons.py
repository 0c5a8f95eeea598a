"""How long the networks are trained that the searched one is compared with."""

from types import SimpleNamespace

import pytest

from tfbnas.recipes.comparisons import from_scratch
from tfbnas.recipes.options import TrainSettings
from tfbnas.search.dms_settings import Settings as FromScratch
from tfbnas.search.rbcn_settings import Settings as FineTuned

TRAIN = TrainSettings(epochs=4, batch_size=32, recipe="sgd", learning_rate=0.01)


def schedule(search):
    return from_scratch(SimpleNamespace(settings=SimpleNamespace(search=search, train=TRAIN)))


@pytest.mark.parametrize("search", [None, FromScratch(), FineTuned(fine_tune=False)])
def test_as_long_as_a_searched_network_that_starts_from_scratch(search):
    assert schedule(search) is TRAIN


def test_as_long_as_search_and_fine_tuning_together_at_the_rates_of_the_search():
    found = schedule(FineTuned(epochs=10, recipe="adam_sgd", learning_rate=0.07, kernel_learning_rate=0.02))
    assert (found.epochs, found.batch_size, found.schedule) == (14, 32, "cosine")
    assert (found.recipe, found.learning_rate, found.kernel_learning_rate) == ("adam_sgd", 0.07, 0.02)
