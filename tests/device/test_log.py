"""The three shapes of the benchmark program's log, old and new columns, and its odd cases.

plain.txt: Larq's documentation, QuickNet on a Raspberry Pi 4B. info.txt: tensorflow#62775. logcat.txt:
tensorflow#56301. The others are written after TensorFlow's stats_calculator.cc.
"""

from pathlib import Path

import pytest

from tfbnas.device import DeviceError, OperatorTime, parse

LOGS = Path(__file__).parent / "logs"


def read(name):
    # Bytes, because reading as text would drop logcat's carriage returns.
    return (LOGS / name).read_bytes().decode()


@pytest.mark.parametrize(
    ("name", "count", "mean", "deviation", "minimum", "first", "initialization", "memory"),
    [
        ("plain.txt", 50, 31.4206, 0.260, 31.138, 41.707, 1.471, 18.7227),
        ("info.txt", 261, 3.79092, 0.358, 3.190, 3.678, 0.630, 7.25),
        ("logcat.txt", 75, 12.1676, 0.325, 11.787, 32.942, 126.059, 30.8594),
        ("all_same.txt", 50, 0.012, 0.0, 0.012, None, 0.010, None),
        ("single.txt", 1, 0.007, 0.0, 0.007, None, None, None),
        ("exponents.txt", 50, 1150.0, 21.0, 1100.0, 1200.0, None, None),
    ],
)
def test_statistics(name, count, mean, deviation, minimum, first, initialization, memory):
    measured = parse(read(name))
    assert (measured.count, measured.mean, measured.deviation) == pytest.approx((count, mean, deviation))
    assert measured.minimum == pytest.approx(minimum)
    if first is not None:
        assert measured.first == pytest.approx(first)
    assert measured.initialization == initialization and measured.memory == memory
    assert measured.operators == ()


@pytest.mark.parametrize(("name", "median"), [("profile_with_start.txt", None), ("profile_without_start.txt", 3.205)])
def test_operators_come_from_the_runs_and_columns_from_their_names(name, median):
    measured = parse(read(name))
    assert measured.mean == 3.2094 and measured.median == median and measured.maximum == 4.005
    assert measured.operators == (
        OperatorTime("LceQuantize", "quantize", 0.25),
        OperatorTime("LceBconv2d", "model/conv_1;model/bn", 1.386),
        OperatorTime("LceBconv2d", "model/conv_2", 1.403),
        OperatorTime("ADD", "model/add/add", 0.08),
    )


def test_a_profile_of_the_initialisation_alone_is_none_of_the_runs():
    text = read("profile_with_start.txt").split("Operator-wise")[0]
    assert parse(text).operators == ()


def test_names_may_contain_tabs_and_operators_may_be_called_twice():
    text = "count=2 first=5 curr=5 min=5 max=6 avg=5.5 std=0.5\n====== Run Order ======\n"
    text += "\t[node type]\t[avg ms]\t[times called]\t[Name]\n\tADD\t0.5\t2\t[a\tb]:0\n"
    assert parse(text).operators == (OperatorTime("ADD", "a\tb", 1.0),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (read("failed.txt"), "Failed to allocate tensors"),
        (read("no_runs.txt"), "no runs"),
        ("", "printed nothing"),
        ("bash: ./program: cannot execute binary file", "cannot execute"),
        (read("plain.txt").replace("avg=31420.6", "avg=21420.6"), "damaged"),
        (read("plain.txt").replace("avg=31420.6", "av"), "damaged"),
    ],
)
def test_what_cannot_be_trusted_is_refused(text, message):
    with pytest.raises(DeviceError, match=message):
        parse(text)
