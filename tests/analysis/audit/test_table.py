"""Tables of a paper: rows, groups, and what cannot be done without guessing."""

from __future__ import annotations

import numpy as np
import pytest

from ndrepro.analysis.audit.table import DataTable, from_rows
from ndrepro.protocol.errors import UsageError, suggestion

RUNS = from_rows(
    "runs",
    [
        {"net": "b", "seed": 1, "score": 2.5},
        {"net": "a", "seed": 1, "score": 1.5},
        {"net": "b", "seed": 2, "score": 3.5},
    ],
    ["net", "seed", "score"],
)


def test_rows_keep_their_order_and_their_plain_values() -> None:
    assert len(RUNS) == 3 and next(RUNS.rows()) == {"net": "b", "seed": 1, "score": 2.5}
    assert [type(value) for value in next(RUNS.rows()).values()] == [str, int, float]
    assert [(key, len(part)) for key, part in RUNS.groups(["net"])] == [(("b",), 2), (("a",), 1)]
    assert [key for key, _ in RUNS.groups([])] == [()]


def test_choosing_rows_makes_another_table() -> None:
    assert RUNS.matching(net="b", seed=2)["score"].tolist() == [3.5] and len(RUNS) == 3


def test_what_would_have_to_be_guessed_is_refused() -> None:
    with pytest.raises(UsageError, match="has no column 'scores'"):
        RUNS["scores"]
    with pytest.raises(UsageError, match="chosen by a comparison"):
        RUNS.where(np.asarray([1, 0, 1]))
    assert DataTable("empty", {}).columns == {} and len(DataTable("empty", {})) == 0


def test_the_nearest_names_are_the_cure() -> None:
    assert suggestion("scor", ["score", "net"]) == "did you mean score?"
    assert suggestion("xyz", ["score", "net"]) == "it is one of score, net"
