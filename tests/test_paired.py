"""Differences of accuracies on the same images: by hand, and against draws."""

import numpy as np
import pytest

from tfbnas import paired


def rows(both, one, other, none):
    return [True] * both + [True] * one + [False] * other + [False] * none, (
        [True] * both + [False] * one + [True] * other + [False] * none
    )


def test_by_hand():
    """b = 12, c = 4, n = 98: cells of one half more give 12.5, 4.5 and 100; se = sqrt(17 - 64 / 100) / 100."""
    found = paired.difference(*rows(50, 12, 4, 32))
    assert found.value == pytest.approx(8 / 98)
    assert found.low == pytest.approx(0.08 - 1.959964 * np.sqrt(16.36) / 100, abs=1e-9)
    assert found.high == pytest.approx(0.08 + 1.959964 * np.sqrt(16.36) / 100, abs=1e-9)


def test_the_interval_holds_the_true_difference_19_times_of_20():
    """Images are drawn; the share of intervals around the true difference is near 95 %, also with few images."""
    chance, cells = np.random.default_rng(0), np.array([0.3, 0.15, 0.10, 0.45])
    for images in (60, 500):
        kinds = chance.choice(4, size=(2000, images), p=cells)
        found = [paired.difference((row == 0) | (row == 1), (row == 0) | (row == 2)) for row in kinds]
        assert 0.935 < np.mean([one.low <= 0.05 <= one.high for one in found]) < 0.97


def test_the_paired_interval_is_narrower_than_that_of_two_samples():
    one, other = rows(400, 40, 30, 30)
    found, images = paired.difference(one, other), 500
    apart = 1.96 * np.sqrt(0.88 * 0.12 / images + 0.86 * 0.14 / images)
    assert found.high - found.low < 2 * apart


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [((50, 30, 5, 15), "better"), ((50, 5, 30, 15), "worse"), ((50, 9, 8, 33), "not distinguishable")],
)
def test_verdicts(cells, verdict):
    assert paired.difference(*rows(*cells)).verdict == verdict


def test_equal_networks_are_not_distinguishable():
    found = paired.difference([True, False], [True, False])
    assert found.value == 0 and found.low < 0 < found.high


@pytest.mark.parametrize("images", [1, 7, 8, 500])
def test_a_bit_for_each_image(images):
    correct = np.random.default_rng(images).random(images) < 0.5
    text = paired.packed(correct)
    assert len(text) <= 4 * -(-images // 24) and np.array_equal(paired.unpacked(text, images), correct)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        paired.difference([True] * 2, [True] * 3)


def test_over_seeds_by_hand():
    """Differences 0.02, 0.01, 0.06: mean 0.03, deviation sqrt((1 + 4 + 9) / 2) / 100, t of 2 degrees 4.303."""
    found = paired.over_seeds([0.62, 0.65, 0.70], [0.60, 0.64, 0.64])
    assert found.value == pytest.approx(0.03)
    reach = 4.303 * np.sqrt(7) / 100 / np.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.03 - reach), pytest.approx(0.03 + reach))
    assert found.verdict == "not distinguishable"
    assert paired.over_seeds([0.62, 0.65, 0.68], [0.60, 0.63, 0.66]).verdict == "better"


@pytest.mark.parametrize("seeds", range(2, 17))
def test_students_quantiles_hold_95_percent(seeds):
    """From differences of which mean and deviation are known; the density of t is integrated."""
    values = np.r_[-1.0, 1.0, np.zeros(seeds - 2)]
    quantile = paired.over_seeds(values, np.zeros(seeds)).high * np.sqrt(seeds) / np.std(values, ddof=1)
    freedom, x = seeds - 1, np.linspace(0, quantile, 100_001)
    density = (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    tail = np.tan(np.linspace(np.arctan(quantile / np.sqrt(freedom)), np.pi / 2, 100_001)[:-1]) * np.sqrt(freedom)
    rest = np.trapz((1 + tail**2 / freedom) ** (-(freedom + 1) / 2), tail)
    inside = np.trapz(density, x)
    assert inside / (inside + rest) == pytest.approx(0.95, abs=2e-4)


def test_other_seeds_are_refused():
    for one, other in (([0.1], [0.2]), ([0.1, 0.2], [0.1, 0.2, 0.3])):
        with pytest.raises(ValueError, match="the same seeds"):
            paired.over_seeds(one, other)
