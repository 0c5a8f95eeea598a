"""A search that weighs nothing says so; one that moves its choices little by little does not."""

import numpy as np
import pytest
import tensorflow as tf

import tfbnas
from tfbnas.search.doubt import doubt


def record(*values, least=0.0, most=1.0):
    return {"choices": {str(i): {"value": v, "least": least, "most": most} for i, v in enumerate(values)}}


@pytest.mark.parametrize(
    "records",
    [
        [record(0.0, 1.0), record(1.0, 0.0)],
        [record(0.5, 0.5), record(1.0, 0.5), record(0.0, 1.0)],  # a warm-up; what nothing reaches stays
        [record(1.0, 0.0)],
        [record(1.0 - 1e-7, 0.0), record(0.0, 0.0)],
    ],
)
def test_values_that_jump_from_end_to_end(records):
    text = doubt(records, 1e6)
    assert "weighed nothing" in text and "Lower `architecture_learning_rate`, which was 1e+06" in text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record(0.5, 0.5)],
        [record(0.5, 0.5), record(0.5, 0.5)],
        [record(0.5, 0.5), record(0.51, 0.5), record(1.0, 0.0)],  # decided in the end
        [record(0.5, 0.5), record(1.0, 0.6)],
        [{"choices": {"a": {"value": 1.0}}}, {"choices": {"a": {"value": 0.0}}}],  # no gradient moves it
        [{"loss": 1.0}],
    ],
)
def test_values_that_were_weighed(records):
    assert doubt(records, 0.1) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number(value):
    assert f"its choice '1' became {value}" in doubt([record(0.5, value)])


BUDGET = tfbnas.Budget(tfbnas.Memory(), limit=1200.0)


def searched(make, image_batches, rate):
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("warnings.warn", lambda text, **_: said.append(str(text)))
        search = make(rate)
        batches = image_batches(64, batch=8), image_batches(64, batch=8, seed=1)
        search.compile(**search.optimizers(batches[0]))
        search.fit(*batches)
    return [text for text in said if "search" in text]


def widths(rate):
    return tfbnas.DMS("test-small", budget=BUDGET, input_shape=(8, 8, 3), classes=4, rounds=3, weight_epochs=1,
                      architecture_learning_rate=rate)  # fmt: skip


def modules(rate):
    return tfbnas.BSN("cnf", budget=BUDGET, input_shape=(8, 8, 3), classes=4, epochs=3, warm_up_epochs=1, batch_size=8,
                      architecture_learning_rate=rate, options={"columns": 2, "scales": 2, "filters": 4})  # fmt: skip


@pytest.mark.parametrize("make", [widths, modules])
def test_an_architecture_rate_of_a_million_ends_with_a_warning(make, image_batches):
    (text,) = searched(make, image_batches, 1e6)
    assert "weighed nothing" in text and "1e+06" in text


@pytest.mark.parametrize(("make", "rate"), [(widths, 4e-3), (widths, 0.05), (modules, 0.01), (modules, 0.3)])
def test_ordinary_rates_end_without(make, rate, image_batches):
    assert not searched(make, image_batches, rate)


def test_the_ends_of_a_width_are_those_that_the_round_allowed():
    search = widths(4e-3)
    search.sigma.assign(0.5)
    search.next_sigma.assign(0.4)
    search.anchor.assign(tf.constant([1.5, 1.0, 0.6]))
    ends = [(choice["least"], choice["most"]) for choice in search.choices().values()]
    reach, least = 0.8 * 0.4, max(0.25 + 0.4 * 0.5, 0.3)
    expected = [(max(mu - reach, least), max(mu + reach, least)) for mu in (1.5, 1.0, 0.6)]
    np.testing.assert_allclose(ends, expected, rtol=1e-6)
    search.deflate(0, 3)  # the scale shrinks for the next round; the ends are still those of the last one
    ends = [(choice["least"], choice["most"]) for choice in search.choices().values()]
    np.testing.assert_allclose(ends, expected, rtol=1e-6)
