"""Methods, results and inferential reproducibility (Goodman, Fanelli and Ioannidis 2016), told apart by evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from ndrepro.analysis.scores import Score, Scores
from ndrepro.report.cells import Cell
from ndrepro.report.findings import counted
from ndrepro.report.table import BETTER, SIGNS, WITHIN, WORSE, Column, Table, word


def kinds_table(scores: Scores, runs: Sequence[Score], cells: Sequence[Cell], tables: Sequence[Table]) -> Table:
    """One row a kind: what it asks, what these runs say, and what they cannot say."""
    columns = (Column("Kind"), Column("What it asks"), Column("What these runs say"))
    rows = (
        (word("Methods"), word("Same code, same data, same seeds: the same numbers?"), word(_methods(scores))),
        (word("Results"), word("Trained anew: values like the published ones?"), word(_results(tables))),
        (
            word("Inferential"),
            word("Do conclusions hold for other seeds, data, environments?"),
            word(_inferential(runs, cells)),
        ),
    )
    return Table(
        "kinds_of", "Which reproducibility", "The evidence for each kind, and where there is none.", columns, rows
    )


def _methods(scores: Scores) -> str:
    groups: dict[Any, list[Score]] = defaultdict(list)
    for run in scores.rows:
        groups[run.identity].append(run)
    repeated = [found for found in groups.values() if len(found) > 1]
    if not repeated:
        return "Not tested: no run was made twice. The command ndrepro reproduce trains one again and judges it."
    same = sum(len({_numbers(run) for run in found}) == 1 for found in repeated)
    attempts = sum(map(len, repeated))
    return (
        f"{counted(len(repeated), 'run')} made more than once ({attempts} times in all): "
        f"{same} of {len(repeated)} ended in the same four scores to the last bit."
    )


def _numbers(run: Score) -> tuple[str, ...]:
    # repr, since NaN is a result too
    return tuple(map(repr, (run.train_accuracy, run.test_accuracy, run.train_loss, run.test_loss)))


def _results(tables: Sequence[Table]) -> str:
    # own values are those that lead to a run; the replication's stand beside them
    own = [value for table in tables for row in table.rows for value in row if value.href]
    standings = Counter(value.standing for value in own)
    judged = {name: standings[name] for name in (BETTER, WITHIN, WORSE)}
    if not any(judged.values()):
        return (
            "No published value is about these experiments as they were run (network, data set, epochs, whole recipe)."
        )
    told = ", ".join(f"{SIGNS[name]} {judged[name]} {name}" for name in (BETTER, WITHIN, WORSE))
    return f"Own values beside {sum(judged.values())} published accuracies: {told}. See the tables."


def _inferential(runs: Sequence[Score], cells: Sequence[Cell]) -> str:
    seeds, places = {run.seed for run in runs}, {run.environment for run in runs}
    scope = (
        f"{counted(len(seeds), 'seed')}, {counted(len({run.dataset for run in runs}), 'data set')}, "
        f"{counted(len(places), 'environment')}"
    )
    if not cells or max(cell.n for cell in cells) < 2:
        return f"Cannot be told: {scope}; no experiment has a second seed, so what a seed does is not known."
    few = sum(cell.n < 2 for cell in cells)
    rest = f" {counted(few, 'experiment')} with one seed say nothing of it." if few else ""
    return f"{scope}: the summary says which conclusions hold over them, with intervals.{rest}"
