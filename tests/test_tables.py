"""Tables of text."""

from __future__ import annotations

import pytest

from tfbnas.tables import table


def test_columns_stand_below_each_other():
    rows = [("network", "cost", "accuracy", ""), ("a", "12", "80.00 %", "front"), ("longer name", "3", "7 %", "")]
    assert table(rows).splitlines() == [
        "network      cost  accuracy",
        "a              12   80.00 %  front",
        "longer name     3       7 %",
    ]
    assert table(rows, "><").splitlines()[1] == "          a  12    80.00 %   front"


def test_rows_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        table([("a", "b"), ("c",)])
