"""Tables 4 to 10 of "[Re] Network Deconvolution" (Obadage et al. 2025) with own values beside the published ones.

An own value is shown only where the whole recipe of the study was kept: network, method, data set, epochs, and no
setting changed; data that were not the published files are marked. Everything else says "not run". Where several
execution environments have runs of a cell, the one with the most runs is shown; the table of all experiments has the
others. A cell's status follows the study's rule: see ``analysis.colours``, rule "relative".
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.analysis.audit.replication_colours import BLACK, GREEN, RED, colours
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.report.elements.table import (
    BETTER,
    NOT_RUN,
    NOT_RUN_TEXT,
    PLAIN,
    WITHIN,
    WORSE,
    Column,
    Table,
    Value,
    count,
    decimal,
    numeric,
    word,
)
from ndrepro.report.sections.claims_held import own_name
from ndrepro.report.sections.run_tables import anchor
from ndrepro.report.sections.seed_groups import SeedGroup

STANDINGS: Mapping[str, str] = {GREEN: BETTER, BLACK: WITHIN, RED: WORSE}
METHODS = ("bn", "nd")
_OTHER_DATA = "†"
_OTHER_DATA_WORDS = f" {_OTHER_DATA} Not trained on the published files, or that is not known: see the manifest."
_ABSENT = Value(NOT_RUN_TEXT, status=NOT_RUN)

Own = Mapping[tuple[str, str, int, str], SeedGroup]  # (network, method, epochs, data set)


def own_cells(cells: Sequence[SeedGroup]) -> dict[tuple[str, str, int, str], SeedGroup]:
    """Cells that kept a study's whole recipe, by what they are; of several environments the one with most runs."""
    found: dict[tuple[str, str, int, str], SeedGroup] = {}
    for cell in cells:
        one = cell.first
        key = (one.arch, one.method, one.epochs, one.dataset)
        if not one.settings and (key not in found or cell.n > found[key].n):
            found[key] = cell
    return found


def published_with_own(cells: Sequence[SeedGroup]) -> tuple[Table, ...]:
    """Every table of the study in which at least one cell has own runs."""
    own = own_cells(cells)
    made = [accuracy_table(4, "cifar10", own), accuracy_table(5, "cifar100", own)]
    made += [imagenet_table(6, ("vgg11",), own), imagenet_table(7, ("resnet18", "densenet121"), own)]
    made += [time_table(8, "cifar10", own), time_table(9, "cifar100", own), imagenet_time_table(own)]
    return tuple(table for table in made if any(value.href for row in table.rows for value in row))


def accuracy_table(number: int, dataset: str, own: Own) -> Table:
    """Table 4 or 5: test accuracies with batch norm and deconvolution after 1, 20 and 100 epochs."""
    columns = [Column("Network", facet=True), Column("Epochs", numeric=True)]
    for method in METHODS:
        heads = ("original", "replication", "own test", "own train", "n")
        columns += [Column(head, numeric=True, group=method.upper()) for head in heads]
    rows = []
    for (network, epochs), values in _by_row("printed", dataset):
        row = [word(own_name(network, dataset)), count(epochs)]
        for method in METHODS:
            said = values[method]
            cell = own.get((own_name(network, dataset), method, epochs, dataset))
            original, mean = said["original_accuracy_pct"], said["reproduced_mean_accuracy_pct"]
            row += [decimal(original), decimal(mean, status=status(original, mean)), *_own_accuracy(cell, original)]
        rows.append(tuple(row))
    caption = (
        f"Published and own accuracies on {DATASETS[dataset].title}, in percent. Original: Ye et al. 2020, Table 1; "
        "replication: mean of three, as printed. Own: test accuracy after the last epoch, mean with its 95 % "
        "interval where n is 3 or more." + _OTHER_DATA_WORDS
    )
    return Table(f"table{number}", f"Table {number}: {DATASETS[dataset].title}", caption, tuple(columns), tuple(rows))


def imagenet_table(number: int, networks: Sequence[str], own: Own) -> Table:
    """Table 6 or 7: top-1 and top-5 accuracies on ImageNet after 90 epochs."""
    columns = [Column("Network", facet=True), Column("Method", facet=True)]
    for top in (1, 5):
        heads = ("original", "replication", "own test")
        columns += [Column(head, numeric=True, group=f"top {top}") for head in heads]
    columns += [Column("own train, top 1", numeric=True), Column("n", numeric=True)]
    rows = []
    table = published_tables()["imagenet"]
    for (network, method), part in table.groups(["architecture", "method"]):
        if network not in networks:
            continue
        by_top = {line["top_k"]: line for line in part.rows()}
        cell = own.get((network, method, by_top[1]["epochs"], "imagenet"))
        row = [word(network), word(method)]
        for top in (1, 5):
            original, other = by_top[top]["original_accuracy_pct"], by_top[top]["reproduced_accuracy_pct"]
            row += [decimal(original), decimal(other, status=status(original, other))]
            row.append(_own_accuracy(cell, original)[0] if top == 1 else _own_top5(cell, original))
        rows.append((*row, *_own_accuracy(cell, 0.0)[1:]))
    caption = "Published and own accuracies on ImageNet after 90 epochs, in percent; one run each in the study."
    caption += _OTHER_DATA_WORDS
    return Table(
        f"table{number}", f"Table {number}: ImageNet, {', '.join(networks)}", caption, tuple(columns), tuple(rows)
    )


def time_table(number: int, dataset: str, own: Own) -> Table:
    """Table 8 or 9: seconds of training."""
    columns = [Column("Network", facet=True), Column("Epochs", numeric=True)]
    for method in METHODS:
        columns += [Column(who, numeric=True, group=method.upper()) for who in ("replication", "own")]
    columns += [Column(who, numeric=True, group="ND / BN") for who in ("replication", "own")]
    rows = []
    for (network, epochs), values in _by_row("times", dataset):
        said = {method: values[method]["printed_mean_train_seconds"] for method in METHODS}
        name = own_name(network, dataset)
        found = {method: own.get((name, method, epochs, dataset)) for method in METHODS}
        row = [word(name), count(epochs)]
        for method in METHODS:
            row += [decimal(said[method]), own_seconds(found[method])]
        rows.append((*row, decimal(said["nd"] / said["bn"]), _ratio(found["nd"], found["bn"])))
    title = DATASETS[dataset].title
    caption = (
        f"Seconds of training on {title}: the replication's means on a V100, as printed, and own means "
        "(training steps only) on the machines that the runs name. Only the ratio can be compared."
    )
    return Table(f"table{number}", f"Table {number}: training time, {title}", caption, tuple(columns), tuple(rows))


def imagenet_time_table(own: Own) -> Table:
    """Table 10: time of training on ImageNet."""
    columns = (Column("Network"), Column("Method"), *numeric("replication s", "own s"))
    rows = tuple(
        (
            word(line["architecture"]),
            word(line["method"]),
            decimal(line["seconds"], 0),
            own_seconds(own.get((line["architecture"], line["method"], 90, "imagenet"))),
        )
        for line in published_tables()["imagenet_times"].rows()
    )
    caption = "Seconds of training on ImageNet: the replication's spreadsheet (one A100), and own runs."
    return Table("table10", "Table 10: training time, ImageNet", caption, columns, rows)


def status(original: float, reproduced: float) -> str:
    """A value's status against the original, by the study's rule."""
    return STANDINGS[str(colours([original], [reproduced])[0])]


def own_seconds(cell: SeedGroup | None) -> Value:
    """Own mean seconds of training."""
    if cell is None:
        return _ABSENT
    return decimal(cell.seconds.mean, missing="not kept", href=f"#{anchor(cell.first)}")


def _own_accuracy(cell: SeedGroup | None, original: float) -> tuple[Value, Value, Value]:
    """Test with its interval and status, train, n."""
    if cell is None:
        return _ABSENT, Value(""), Value("")
    mean = cell.test.mean
    how = PLAIN if mean is None else status(original, mean)
    mark = "" if all(run.official_data for run in cell.runs) else f" {_OTHER_DATA}"
    test = Value(f"{cell.test.text}{mark}", mean, how, f"#{anchor(cell.first)}")
    return test, decimal(cell.train.mean, missing=cell.train.text), count(cell.n)


def _own_top5(cell: SeedGroup | None, original: float) -> Value:
    if cell is None:
        return _ABSENT
    found: list[Any] = [run.test_top5_accuracy_percent for run in cell.runs]
    if None in found:
        return Value("not recorded")
    mean = statistics.fmean(found)
    return decimal(mean, status=status(original, mean), href=f"#{anchor(cell.first)}")


def _ratio(nd: SeedGroup | None, bn: SeedGroup | None) -> Value:
    if nd is None or bn is None:
        return _ABSENT
    if nd.seconds.mean is None or not bn.seconds.mean:
        return Value("not kept")
    return decimal(nd.seconds.mean / bn.seconds.mean)


def _by_row(table: str, dataset: str) -> Iterator[tuple[tuple[str, int], dict[str, dict[str, Any]]]]:
    part = published_tables()[table].matching(dataset=dataset)
    for (network, epochs), lines in part.groups(["architecture", "epochs"]):
        yield (network, epochs), {line["method"]: line for line in lines.rows()}
