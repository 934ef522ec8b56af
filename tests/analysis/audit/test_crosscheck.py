"""A printed column that is another column's is found by computation, in made-up data and in the published tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ndrepro.analysis.audit.claims import CrossCheck
from ndrepro.analysis.audit.crosscheck import CrossFinding, cross_check
from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.analysis.audit.table import DataTable, from_rows
from ndrepro.protocol.errors import UsageError

CHECK = CrossCheck("t", "t", "printed", "mean", "raw", "score", "net", ("size",), "seed", among=("seconds",))
NETS = [f"net{number}" for number in range(8)]


def made_up(**printed: str | float) -> dict[str, DataTable]:
    """Eight networks in three sizes, three seeds each; ``printed`` replaces columns or single cells of the means."""
    generator = np.random.RandomState(7)
    places = [(net, size, seed) for net in NETS for size in ("small", "middle", "large") for seed in (1, 2, 3)]
    raw = [
        {
            "net": net, "size": size, "seed": seed,
            "score": round(generator.uniform(10, 90), 2), "seconds": round(generator.uniform(100, 900), 2),
        }
        for net, size, seed in places
    ]  # fmt: skip
    means = {
        (net, size): round(float(np.mean([row["score"] for row in raw if (row["net"], row["size"]) == (net, size)])), 2)
        for net in NETS for size in ("small", "middle", "large")
    }  # fmt: skip
    for place, value in printed.items():
        net, _, size = place.partition("_")
        means[net, size] = float(value)
    rows = [{"net": net, "size": size, "mean": value} for (net, size), value in means.items()]
    return {"raw": from_rows("raw", raw, list(raw[0])), "printed": from_rows("printed", rows, ["net", "size", "mean"])}


def values(tables: dict[str, DataTable], size: str, seed: int | None, quantity: str = "score") -> list[float]:
    part = tables["raw"].matching(size=size) if seed is None else tables["raw"].matching(size=size, seed=seed)
    return [float(np.mean(part.matching(net=net)[quantity])) for net in NETS]


def heads(found: CrossFinding) -> dict[str, int]:
    return {head.head: head.differing for head in found.heads}


def test_means_that_are_right_agree() -> None:
    found = cross_check(CHECK, made_up(), 2)
    assert found.agrees and found.cells == 24 and heads(found) == {"small": 0, "middle": 0, "large": 0}


def test_a_single_changed_cell_is_found_with_its_digit() -> None:
    right = made_up()["printed"].matching(net="net3", size="middle")["mean"][0]
    found = cross_check(CHECK, made_up(net3_middle=right + 5), 2)
    assert heads(found) == {"small": 0, "middle": 1, "large": 0}
    (cell,) = found.heads[1].cells
    assert (cell.row, cell.how, cell.note) == ("net3", "differs", "one digit differs")
    assert found.heads[1].origin is None, "one cell is no column"


def test_a_column_that_is_anothers_is_found() -> None:
    other = values(made_up(), "large", None)
    found = cross_check(CHECK, made_up(**{f"{n}_small": round(v, 2) for n, v in zip(NETS, other, strict=True)}), 2)
    origin = found.heads[0].origin
    assert heads(found)["small"] == 8 and origin is not None
    assert origin.words == "mean of score of large" and (origin.rows, origin.of) == (8, 8) and origin.by_chance < 4


def test_a_mean_of_wrong_cells_is_found_across_quantities() -> None:
    tables = made_up()
    parts = values(tables, "small", 1), values(tables, "small", 2), values(tables, "large", 3, "seconds")
    wrong = [round(sum(triple) / 3, 2) for triple in zip(*parts, strict=True)]
    found = cross_check(CHECK, made_up(**{f"{n}_small": v for n, v in zip(NETS, wrong, strict=True)}), 2)
    origin = found.heads[0].origin
    assert origin is not None and origin.words == "mean of score of small, seed 1 and 2 with seconds of large, seed 3"
    assert origin.rows == 8 and origin.others == 0 and origin.candidates == 816


def test_numbers_from_nowhere_get_no_origin() -> None:
    generator = np.random.RandomState(11)
    found = cross_check(CHECK, made_up(**{f"{net}_small": round(generator.uniform(10, 90), 2) for net in NETS}), 2)
    assert heads(found)["small"] == 8 and found.heads[0].origin is None


def test_cut_off_is_told_from_wrong() -> None:
    tables = made_up()
    cut = {
        f"{n}_small": math.floor(v * 100 + 1e-6) / 100 for n, v in zip(NETS, values(tables, "small", None), strict=True)
    }
    found = cross_check(CHECK, made_up(**cut), 2)
    assert found.agrees and found.heads[0].cut_off > 0 and found.heads[0].cut_off + found.heads[0].equal == 8


@pytest.mark.parametrize(
    ("check", "drop", "said"),
    [
        (CHECK, ("net2", "small", 2), "'raw' has no seed 2 of net2 small"),
        (replace(CHECK, statistic="mode"), None, "no statistic 'mode'"),
    ],
)
def test_incomplete_raw_data_are_refused(check: CrossCheck, drop: tuple[str, str, int] | None, said: str) -> None:
    tables = made_up()
    if drop:
        keep = np.asarray([key != drop for key in tables["raw"].keys(["net", "size", "seed"])])
        tables["raw"] = tables["raw"].where(keep)
    with pytest.raises(UsageError, match=said):
        cross_check(check, tables, 2)


@pytest.mark.parametrize(
    ("printed", "column", "values", "among", "origins", "single"),
    [
        (
            "printed", "reproduced_mean_accuracy_pct", "reproduced_accuracy_pct", (),
            {
                "cifar10 bn 100": "mean of reproduced_accuracy_pct of cifar10 bn 100, attempt 1 and 2 "
                "with reproduced_accuracy_pct of cifar10 nd 100, attempt 2"
            },
            {},
        ),
        (
            "times", "printed_mean_train_seconds", "train_seconds", ("test_seconds",),
            {
                "cifar100 nd 20": "mean of train_seconds of cifar100 bn 100",
                "cifar100 bn 100": "mean of test_seconds of cifar100 nd 100, attempt 1 and 2 "
                "with train_seconds of cifar100 nd 100, attempt 3",
            },
            {"cifar100 bn 1": [("dpn92", "one digit differs")]},
        ),
    ],
)  # fmt: skip
def test_the_published_columns_that_are_others(
    printed: str, column: str, values: str, among: tuple[str, ...], origins: dict[str, str], single: dict[str, object]
) -> None:
    heads = ("dataset", "method", "epochs")
    check = CrossCheck("t", "t", printed, column, "attempts", values, "architecture", heads, "attempt", among=among)
    found = cross_check(check, published_tables(), 2)
    with_origin = {head.head: head.origin for head in found.heads if head.origin}
    assert {head: origin.words for head, origin in with_origin.items()} == origins
    assert all(origin.rows == origin.of == 10 and origin.by_chance <= 3 for origin in with_origin.values())
    alone = {
        head.head: [(cell.row, cell.note) for cell in head.cells if cell.how == "differs"]
        for head in found.heads
        if head.differing and not head.origin
    }
    assert alone == single
