"""Closing widths, where the best closing can be found by trying all of them."""

import numpy as np
import pytest

from tfbnas import networks
from tfbnas.architecture import Architecture
from tfbnas.costs import Latency, Memory, MultiplyAdds, trace
from tfbnas.costs.closed import prices_of_widths
from tfbnas.layers import OpenWidth
from tfbnas.search.closing_widths import ClosingWidths, channels_of, close

BASE = np.array([8, 12, 16, 24])
PRICES = np.array([40.0, 20.0, 10.0, 5.0])


def linear(prices):
    return lambda rows: (rows @ prices).reshape(len(rows), -1)


def neighbours(centre, reach):
    """All channel numbers at most `reach` from those of `centre`."""
    ranges = [np.arange(max(1, int(c) - reach), int(c) + reach + 1) for c in centre]
    return np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(centre))


@pytest.mark.parametrize("found", [0.8, 0.9, 0.97, 1.0, 1.1])
def test_a_search_that_ended_off_its_budget_is_closed_almost_as_well_as_possible(found):
    """The loss is known: sum of a / channels. Its optimum under a budget is a formula, its best integers are counted.

    The search is taken to have found the right proportions and a wrong size. What the closed network loses is compared
    with the best of all networks within the budget, and with the worst that uses as much of it.
    """
    chance = np.random.default_rng(int(100 * found))
    excess = []
    for _ in range(8):
        need, prices = chance.uniform(0.5, 3.0, 4) * BASE, chance.uniform(0.5, 1.5, 4) * PRICES
        limit = prices @ (chance.uniform(0.8, 1.4) * BASE)
        best_reals = np.sqrt(need / prices)
        best_reals *= limit / (prices @ best_reals)
        closed = close(
            found * best_reals / BASE,
            0.2,
            base=BASE,
            widest=np.ceil(2 * best_reals).astype(int),
            prices=linear(prices),
            limits=np.array([limit]),
        )
        every = neighbours(best_reals, 5)
        every = every[every @ prices <= limit]
        losses = (need / every).sum(axis=1)
        as_full = losses[every @ prices > 0.98 * limit]
        assert closed.share == pytest.approx(closed.channels @ prices / limit) and 0.97 < closed.share <= 1.0
        excess.append(((need / closed.channels).sum() - losses.min()) / (as_full.max() - losses.min()))
    assert np.mean(excess) < 0.02 and np.max(excess) < 0.06


def test_of_equal_widths_the_one_that_rounding_took_most_from_comes_first():
    base = np.array([10, 10, 10])
    for ratios, expected in (([1.04, 1.01, 1.03], [11, 10, 10]), ([1.01, 1.03, 1.02], [10, 11, 10])):
        closed = close(
            np.array(ratios),
            0.2,
            base=base,
            widest=np.array([20, 20, 20]),
            prices=linear(np.ones(3)),
            limits=np.array([31.0]),
        )
        assert closed.channels.tolist() == expected and closed.share == 1.0


def test_a_channel_that_costs_much_for_its_width_waits():
    """Two alike, but one of them is at the foot of a stair: its next channel costs four times as much."""

    def prices(rows):
        stair = np.where(rows[:, 0] > 10, 30.0, 0.0)
        return (10.0 * rows.sum(axis=1) + stair)[:, None]

    closed = close(
        np.array([1.0, 1.0]),
        0.2,
        base=np.array([10, 10]),
        widest=np.array([20, 20]),
        prices=prices,
        limits=np.array([240.0]),
    )
    assert closed.channels.tolist() == [10, 14]


def test_channels_that_cost_nothing_are_taken():
    """Latency rises in stairs, and may be lower behind a ragged number of channels: 9 cost more than 16."""

    def prices(rows):
        stairs = -(-rows // 8) * 8 + np.where(rows % 8, 3, 0)
        return stairs.sum(axis=1)[:, None].astype(float)

    for limit in np.linspace(70.0, 150.0, 10):
        closed = close(
            np.array([0.7, 1.1, 0.9, 1.2]),
            0.2,
            base=BASE,
            widest=3 * BASE,
            prices=prices,
            limits=np.array([limit]),
        )
        assert np.all(closed.channels % 8 == 0)
        assert limit - 8 < prices(closed.channels[None])[0, 0] <= limit


def test_all_of_several_budgets_are_kept_and_one_is_used():
    chance = np.random.default_rng(1)
    for _ in range(10):
        both = chance.uniform(1.0, 10.0, (4, 2))
        limits = chance.uniform(0.7, 1.3, 2) * (BASE @ both)
        closed = close(chance.uniform(0.7, 1.3, 4), 0.2, base=BASE, widest=3 * BASE, prices=linear(both), limits=limits)
        shares = closed.channels @ both / limits
        assert closed.share == pytest.approx(shares.max()) and 0.98 < shares.max() <= 1.0


def test_no_width_is_wider_than_what_was_tried():
    widest = np.array([10, 14, 17, 25])
    close_to = ClosingWidths(linear(PRICES), np.array([1e6]), base=BASE)
    closed = close_to(np.array([1.0, 1.1, 1.0, 1.5]), 0.2, widest)
    assert closed.channels.tolist() == [10, 14, 17, 36] and closed.is_widest  # 36: what mu itself says
    assert "uses 0.1 % of its budget: every width is the widest that the search has tried" in close_to.unspent(closed)


def test_without_filling_mu_is_taken_as_it_is_and_only_scaled_down():
    mu = np.array([1.3, 0.8, 1.06, 0.9])
    for limit, factor in ((1e6, 1.0), (PRICES @ channels_of(mu, BASE), 1.0)):
        close_to = ClosingWidths(linear(PRICES), np.array([limit]), base=BASE, fill=False)
        closed = close_to(mu, 0.2, 3 * BASE)
        assert closed.channels.tolist() == channels_of(factor * mu, BASE).tolist()
        assert ("`fill_budget` is false" in close_to.unspent(closed)) == (limit == 1e6)


def test_steps_too_large_for_the_rest_are_said():
    close_to = ClosingWidths(linear(np.ones(2)), np.array([127.0]), base=np.array([32, 32]), multiple=32)
    closed = close_to(np.array([1.2, 1.6]), 0.2, np.array([96, 96]))
    assert closed.channels.tolist() == [32, 64]
    assert (
        close_to.unspent(closed)
        == "The network uses 75.6 % of its budget: 32 channels more in any width would exceed it."
    )


def test_the_smallest_network_is_kept_where_nothing_fits():
    closed = close(np.ones(4), 0.2, base=BASE, widest=BASE, prices=linear(PRICES), limits=np.array([1.0]))
    assert closed.channels.tolist() == [1, 1, 1, 1] and closed.share == 75.0


COSTS = [Memory(), Memory("deployed"), MultiplyAdds(), Latency("raspberry_pi_4b")]


def test_prices_of_many_networks_are_those_of_the_single_ones():
    opened = {}

    def choose(name, base):
        return opened.setdefault(name, OpenWidth(name, base))

    network = networks.construct("test-small", choose, input_shape=(8, 8, 3), classes=4, options={})
    rows = np.random.default_rng(0).integers(1, 40, (5, 3))
    found = prices_of_widths(COSTS, trace(network), list(opened))(rows)
    for row, costs in zip(rows, found, strict=True):
        one = Architecture("t", "test-small", dict(zip(opened, row.tolist(), strict=True)), (8, 8, 3), 4, {})
        np.testing.assert_allclose(costs, [cost.of(one) for cost in COSTS], rtol=1e-6)


# Widths that kernels like, on ResNet-18.

FOUND = {
    "stem": 30, "stage1/block1/inner": 26, "stage1/block2/inner": 29, "stage2/stream": 59, "stage2/block1/inner": 25,
    "stage2/block2/inner": 45, "stage3/stream": 76, "stage3/block1/inner": 78, "stage3/block2/inner": 84,
    "stage4/stream": 113, "stage4/block1/inner": 128, "stage4/block2/inner": 110,
}  # fmt: skip


@pytest.fixture(scope="module")
def resnet18():
    """Base channels, and a function from many networks to their bytes and milliseconds."""
    opened = {}
    network = networks.construct(
        "resnet18",
        lambda name, base: opened.setdefault(name, OpenWidth(name, base)),
        input_shape=(32, 32, 3),
        classes=10,
        options={},
    )
    base = {name: width.base for name, width in opened.items()}
    return base, prices_of_widths([Memory("file"), Latency("raspberry_pi_4b")], trace(network), list(opened))


@pytest.mark.parametrize("seed", range(2))
def test_what_a_search_found_is_closed_faster_within_the_same_bytes(resnet18, seed):
    base, both = resnet18
    chance = np.random.default_rng(seed)
    bases = np.array(list(base.values()))
    ratios = np.array([FOUND[name] for name in base]) / bases
    ratios *= np.exp(chance.normal(0.0, 0.1, len(bases))) if seed else 1.0
    limit, now = both(channels_of(ratios, bases)[None])[0]
    arguments = {"base": bases, "widest": 4 * bases, "prices": lambda rows: both(rows)[:, :1]}
    plain = close(ratios, 0.2, limits=np.array([limit]), **arguments).channels
    times = lambda rows: both(rows)[:, 1:]  # noqa: E731
    closed = close(ratios, 0.2, limits=np.array([limit]), times=times, **arguments)
    assert 0.97 < closed.share <= 1.0
    assert both(closed.channels[None])[0, 1] <= (0.86 if seed == 0 else 0.9) * both(plain[None])[0, 1]
    assert 0.8 < np.exp(np.mean(np.log(closed.channels / (ratios * bases)))) < 1.1  # the proportions are kept
    # No width is one for which the next multiple of 8 or 32 is faster, where the budget allows that.
    for width, count in enumerate(closed.channels):
        for liked in (8, 32):
            other = closed.channels.copy()
            other[width] = -(-count // liked) * liked
            bytes_, time = both(other[None])[0]
            assert time >= (1 - 1e-5) * both(closed.channels[None])[0, 1] or bytes_ > limit


def test_a_budget_that_liked_widths_would_break_is_kept():
    """Channels cost what they are, and eights are much faster; but the budget has room for three of each."""
    closed = close(
        np.array([0.3, 0.3]),
        0.2,
        base=np.array([10, 10]),
        widest=np.array([20, 20]),
        prices=linear(np.ones(2)),
        limits=np.array([6.0]),
        times=lambda rows: np.where(rows % 8, 100.0, rows).sum(axis=1)[:, None].astype(float),
    )
    assert closed.channels.tolist() == [3, 3]
