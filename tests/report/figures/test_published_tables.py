"""The tables' own columns, fed with the published raw values, are the published columns, but where the audit says not.

What stands in "own" is computed from runs by the code that every report uses. Here the runs are the replication's own
attempts: each as a verified run would be. So a wrong definition (which mean, which seconds, which network, which
column) shows as a difference from what was printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from signed_runs import SignedRuns, rows

from ndrepro.analysis.audit.claims import read_claims
from ndrepro.analysis.audit.crosscheck import cross_check
from ndrepro.analysis.audit.published_tables import CLAIMS, published_tables
from ndrepro.analysis.results.results import ResultRow
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.report.elements import style
from ndrepro.report.elements.table import Table, Value
from ndrepro.report.figures.published_tables import published_with_own
from ndrepro.report.figures.replication_figures import replication_figures
from ndrepro.report.sections.claims_held import own_name
from ndrepro.report.sections.seed_groups import cells_of

PUBLISHED = Path(__file__).resolve().parents[3] / "published"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> ResultRow:
    signed = SignedRuns(tmp_path_factory.mktemp("sample"))
    signed.add(Experiment.from_name("vgg16_bn_1"), rows(1, 0.5))
    signed.close()
    return signed.scores().rows[0]


def as_run(sample: ResultRow, arch: str, method: str, epochs: int, dataset: str, **values: Any) -> ResultRow:
    name = f"{arch}_{method}_{epochs}" + ("" if dataset == "cifar10" else f"_{dataset}")
    new = {"arch": arch, "method": method, "epochs": epochs, "dataset": dataset, "name": name, "seed": 0}
    return replace(sample, **{**new, "run_id": f"{name}-{values.get('seed', 0)}", **values})


@pytest.fixture(scope="module")
def runs(sample: ResultRow) -> list[ResultRow]:
    """One for each published attempt."""
    found = published_tables()
    runs = [
        as_run(
            sample,
            own_name(line["architecture"], line["dataset"]),
            line["method"],
            line["epochs"],
            line["dataset"],
            seed=line["attempt"],
            test_accuracy_percent=line["reproduced_accuracy_pct"],
            train_seconds=line["train_seconds"],
        )
        for line in found["attempts"].rows()
    ]
    seconds = {(line["architecture"], line["method"]): line["seconds"] for line in found["imagenet_times"].rows()}
    for (arch, method), part in found["imagenet"].groups(["architecture", "method"]):
        top = {line["top_k"]: line["reproduced_spreadsheet_pct"] for line in part.rows()}
        values = {
            "test_accuracy_percent": top[1],
            "test_top5_accuracy_percent": top[5],
            "train_seconds": seconds[arch, method],
        }
        runs.append(as_run(sample, arch, method, 90, "imagenet", **values))
    return runs


@pytest.fixture(scope="module")
def tables(runs: list[ResultRow]) -> dict[str, Table]:
    """Tables 4 to 10, their own columns from the published attempts."""
    return {table.key: table for table in published_with_own(cells_of(runs))}


def test_numbers_at_an_axis_do_not_overlap(
    runs: list[ResultRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of training times are on a logarithmic axis of one to two decades."""
    seen = []

    def look(figure: Any, path: Path, hover: Any = None) -> None:
        figure.canvas.draw()
        for axes in figure.axes:
            labels = [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)]
            low, high = sorted(axes.get_xlim())
            shown = [each for each in labels if each.get_text() and low <= each.get_position()[0] <= high]
            boxes = sorted((each.get_window_extent() for each in shown), key=lambda box: box.x0)
            assert len(boxes) > 1 and not any(one.overlaps(two) for one, two in pairwise(boxes)), path
            seen.append(path)

    monkeypatch.setattr(style, "save_svg", look)
    for figure in replication_figures(cells_of(runs)):
        figure.draw(tmp_path / figure.key)
    assert len(seen) >= 8


def columns(table: Table, said: str, own: str) -> Iterable[tuple[tuple[str, ...], Value, Value]]:
    """(row and group, published value, own value) of every pair of columns with these titles."""
    heads = [(column.group, column.title) for column in table.columns]
    for place, (group, title) in enumerate(heads):
        if title == said:
            beside = heads.index((group, own))
            for row in table.rows:
                yield (row[0].text, row[1].text, group), row[place], row[beside]


def unlike(table: Table, said: str, own: str, decimals: int = 2) -> set[tuple[str, ...]]:
    """The cells whose own value, rounded as was printed, is not the printed one."""
    differing = set()
    for cell, published, found in columns(table, said, own):
        assert published.number is not None and found.number is not None
        if abs(found.number - published.number) > (0.5 + 1e-6) * 10**-decimals:
            differing.add(cell)
    return differing


def audited(name: str, dataset: str) -> set[tuple[str, ...]]:
    """The cells of a data set that are not their attempts' mean by the audit: cut off instead of rounded, or others."""
    check = next(check for check in read_claims(PUBLISHED / CLAIMS).crosschecks if check.name == name)
    found = set()
    for head in cross_check(check, published_tables(), 2).heads:
        data, method, epochs = head.head.split()
        found |= {(own_name(cell.row, data), epochs, method.upper()) for cell in head.cells if data == dataset}
    return found


@pytest.mark.parametrize(("key", "dataset"), [("table4", "cifar10"), ("table5", "cifar100")])
def test_accuracies_are_the_attempts_means(key: str, dataset: str, tables: dict[str, Table]) -> None:
    assert unlike(tables[key], "replication", "own test") == audited("tables-4-5", dataset)
    assert {row[place].text for row in tables[key].rows for place in (6, 11)} == {"3"}, "three attempts each"


@pytest.mark.parametrize(("key", "dataset"), [("table8", "cifar10"), ("table9", "cifar100")])
def test_seconds_are_the_attempts_means(key: str, dataset: str, tables: dict[str, Table]) -> None:
    audit = audited("tables-8-9", dataset)
    methods = {cell for cell in unlike(tables[key], "replication", "own") if cell[2] != "ND / BN"}
    assert methods == audit
    if key == "table9":
        shifted = {(cell[1], cell[2]) for cell in audit}
        assert {("20", "ND"), ("100", "BN")} <= shifted, "the columns that the audit says are shifted"


@pytest.mark.parametrize("key", ["table8", "table9"])
def test_ratios_are_those_of_the_printed_means(key: str, tables: dict[str, Table]) -> None:
    for row in tables[key].rows:
        bn, nd, ratio = (row[place].number for place in (2, 4, 6))
        assert bn and nd and ratio and math.isclose(ratio, nd / bn)


@pytest.mark.parametrize(("key", "rows_of"), [("table6", 3), ("table7", 4)])
def test_imagenet_s_printed_values_are_the_spreadsheet_s_rounded(
    key: str, rows_of: int, tables: dict[str, Table]
) -> None:
    assert unlike(tables[key], "replication", "own test") == set()
    assert len(tables[key].rows) == rows_of


def test_own_and_replicated_values_stand_alike_to_the_original(tables: dict[str, Table]) -> None:
    """The same rule for both: but for cells that differ from their attempts, and ties of the last digit."""
    for key, name, dataset in (("table4", "tables-4-5", "cifar10"), ("table5", "tables-4-5", "cifar100")):
        other = {
            cell for cell, said, own in columns(tables[key], "replication", "own test") if said.status != own.status
        }
        assert other <= audited(name, dataset)


def test_imagenet_s_seconds_are_printed_in_days_hours_and_minutes(tables: dict[str, Table]) -> None:
    for line in published_tables()["imagenet_times"].rows():
        minutes = line["seconds"] // 60
        assert line["printed"] == f"{minutes // 1440}d {minutes // 60 % 24}h {minutes % 60}min"
    for row in tables["table10"].rows:
        assert row[2].number == row[3].number


def test_a_wrong_column_would_show(sample: ResultRow) -> None:
    """A control: the first attempt alone, in place of the mean, is not what was printed."""
    lines = published_tables()["attempts"].matching(attempt=1, dataset="cifar10").rows()
    runs = [
        as_run(
            sample,
            own_name(line["architecture"], "cifar10"),
            line["method"],
            line["epochs"],
            "cifar10",
            test_accuracy_percent=line["reproduced_accuracy_pct"],
        )
        for line in lines
    ]
    table = published_with_own(cells_of(runs))[0]
    assert len(unlike(table, "replication", "own test")) > 40
