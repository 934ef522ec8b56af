"""The tables that every report has: experiments, runs, what was left out, and where it all ran."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from ndrepro.analysis.results.results import ResultRow, Results
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.study.study import text_of
from ndrepro.report.elements.table import (
    MISSING,
    Column,
    Table,
    Value,
    count,
    decimal,
    duration,
    facets,
    interval,
    numeric,
    without_constants,
    word,
)
from ndrepro.report.sections.group_labels import environments_apart
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.report.sections.settings import ENVIRONMENT, EXPERIMENT, SETTINGS, experiment_cells, split_settings
from ndrepro.text.plurals import plural

_OTHER = "repeat of an earlier run"


def cell_table(cells: Sequence[SeedGroup]) -> Table:
    """One row an experiment in one set of environments: train beside test, n, spread, interval."""
    numbers = numeric("n", "Train %", "Test %", "95 % interval", "One more run", "s", "Lowest", "Highest", "Training")
    columns = (*EXPERIMENT, SETTINGS, *numbers, ENVIRONMENT)
    caption = (
        "Mean accuracies after the last epoch over n runs that differ only in their seed, and in the code where "
        "versions of it are named. The 95 % interval is that of the mean test accuracy; one more run of the same "
        "kind is in the range beside it with probability 95 %. "
        f"Both assume that runs are normally distributed, need {FEWEST_RUNS} runs and end at 0 and 100 %. Without that "
        "assumption one more run lies between lowest and highest with probability (n - 1)/(n + 1). s is the standard "
        "deviation (n - 1). Train accuracy is measured during training, on augmented images. Training is the mean time "
        "in training steps. A test accuracy links to its runs."
    )
    shared, apart = split_settings([cell.first for cell in cells])
    places = environments_apart({cell.key: cell.first for cell in cells})
    rows = tuple(_cell_row(cell, apart[cell.first.run_id], places[cell.key]) for cell in cells)
    return without_constants(Table("cells", "Experiments", _with_shared(caption, shared), columns, rows))


def _cell_row(cell: SeedGroup, settings: str, place: str) -> tuple[Value, ...]:
    one, test = cell.first, cell.test
    versions = len({run.code for run in cell.runs})
    settings = ", ".join(filter(None, (settings, f"{versions} versions of the code" if versions > 1 else "")))
    link = f"#{anchor(one)}"
    finite = test.mean is not None
    return (
        *experiment_cells(one),
        word(settings),
        count(cell.n),
        decimal(cell.train.mean, missing=cell.train.text),
        decimal(test.mean, missing=test.text, href=link),
        _range(None if test.low is None or test.high is None else (test.low, test.high), test.n),
        _range(test.next, test.n),
        decimal(test.deviation),
        decimal(min(test.values) if finite and cell.n > 1 else None),
        decimal(max(test.values) if finite and cell.n > 1 else None),
        duration(cell.seconds.mean),
        word(place),
    )


def _range(ends: tuple[float, float] | None, n: int) -> Value:
    """An interval, sorted by its width; of too few runs the reason that there is none."""
    if ends is None:
        return Value(f"none, n = {n}" if n < FEWEST_RUNS else MISSING)
    return interval(*ends)


def run_table(
    runs: Sequence[ResultRow], repeats: Iterable[ResultRow], program: str, manifest: Callable[[ResultRow], str]
) -> Table:
    """One row a run, in the order of their experiments: the manifest behind it, and how to check it.

    ``manifest`` gives the link to a run's manifest.
    """
    columns = (
        Column("Run and manifest"),
        *EXPERIMENT,
        SETTINGS,
        *numeric("Seed", "Train %", "Test %", "Training"),
        *facets("Signed by"),
        Column("Copy the command"),
    )
    again = {run.run_id for run in repeats}
    shared, apart = split_settings(runs)
    rows = []
    for run in runs:
        settings = " ".join(filter(None, (apart[run.run_id], _OTHER if run.run_id in again else "")))
        rows.append(
            (
                Value(run.run_id, href=manifest(run)),
                *experiment_cells(run),
                word(settings),
                Value(str(run.seed) if not run.seeds else f"{run.seed} *", float(run.seed)),
                decimal(run.train_accuracy_percent),
                decimal(run.test_accuracy_percent),
                duration(run.train_seconds),
                word(run.signer),
                Value("", copies=commands(run, program)),
            )
        )
    caption = (
        "Every completed run whose manifest verified. The name links to the signed manifest. "
        "* some random streams have a seed of their own."
    )
    anchors = tuple(anchor(run) for run in runs)
    table = Table("runs", "Every run", _with_shared(caption, shared), columns, tuple(rows), anchors)
    return without_constants(table)


def _with_shared(caption: str, shared: str) -> str:
    return f"{caption} Settings of all: {shared}." if shared else caption


def commands(run: ResultRow, program: str) -> tuple[tuple[str, str], ...]:
    """How to verify a run, to have it judged against a second training, and to train the same experiment elsewhere."""
    folder = shlex.quote(os.fspath(run.folder))
    given = {**run.settings, **{f"seeds.{stream}": seed for stream, seed in run.seeds.items()}}
    given |= {"determinism": run.determinism, "threads": run.threads}
    sets = "".join(f" --set {shlex.quote(f'{key}={text_of(value)}')}" for key, value in given.items())
    environment = "" if run.cell == "main" else f" --env {shlex.quote(run.cell)}"
    if run.image:
        image = PinnedImage.from_text(run.image)
        environment = f" --in {image.engine} --image {shlex.quote(image.reference)}"
    return (
        ("verify", f"{program} verify {folder}"),
        ("reproduce", f"{program} reproduce {folder}"),
        ("run", f"{program} run {shlex.quote(run.name)} --seed {run.seed}{environment}{sets}"),
    )


def left_out_table(scores: Results) -> Table:
    """Every run that is in no number: failed, interrupted, without a manifest, refused."""
    columns = (Column("Run"), Column("Experiment"), Column("Outcome", facet=True), Column("Reason"))
    texts = [(item.run_id, item.name, item.outcome, "recorded in its signed manifest") for item in scores.unfinished]
    texts += [(item.run_id, item.name, item.outcome, f"a run of a {item.kind}, verified") for item in scores.others]
    texts += [(item.run_id, item.name, "no manifest", item.reason) for item in scores.lost]
    texts += [(_tail(item.path), "", "refused", item.reason) for item in scores.refused]
    caption = "Runs that were started, or manifests that were found, and are in no number of this report."
    rows = tuple(tuple(map(word, row)) for row in texts)
    return Table("left_out", "Excluded runs", caption, columns, rows, stacked=True)


def left_out_words(scores: Results, repeats: int, *, study: bool = False) -> str:
    """How many runs (of a ``study``) were started, and how many of those are reported."""
    of_study = " of this study" if study else ""
    kept = len(scores.rows)
    if scores.started is None:
        started = (
            "No ledger covers all of these runs: how many were started is unknown, and unfavourable runs may be "
            "missing. "
        )
    else:
        runs = plural(scores.started, "started run")
        started = f"The ledger records {runs}{of_study}; this report has the results of {kept}. "
    if scores.ledger_problems:
        many = plural(len(scores.ledger_problems), "problem")
        started += f"The ledger has {many}, so that runs may be missing: {scores.ledger_problems[0]}. "
    parts = (
        (len(scores.unfinished), "failed or interrupted, recorded so in a signed manifest"),
        (len(scores.segments), "segments of runs (spot checks, a search), which have no result of their own"),
        (len(scores.others), "scripts and recorded programs, which are not training runs of ndrepro"),
        (len(scores.lost), "without a manifest"),
        (len(scores.refused), "refused, because the manifest does not verify or has no result"),
        (repeats, "repeats of a run with the same seeds and environment, listed but not counted as a further sample"),
    )
    named = "; ".join(f"{number} {what}" for number, what in parts if number)
    return started + (f"Excluded from the statistics: {named}." if named else "No run was excluded.")


def environments_table(runs: Sequence[ResultRow]) -> Table:
    """What the runs ran on, and in what of it they differ."""
    aspects: tuple[tuple[str, Callable[[ResultRow], str]], ...] = (
        ("Environment", lambda run: run.cell),
        ("torch", lambda run: run.torch),
        ("numpy", lambda run: run.numpy),
        ("Python", lambda run: run.python),
        ("Device", lambda run: run.device),
        ("Threads", lambda run: str(run.threads)),
        ("Determinism", lambda run: run.determinism),
        ("Instruction limits", lambda run: run.instructions or "none"),
        ("Code digest", lambda run: run.code[:12]),
        ("Commit", lambda run: run.commit[:12]),
        ("Signed by", lambda run: run.signer),
    )
    rows = []
    for title, value in aspects:
        counts = Counter(value(run) or "unknown" for run in runs)
        same = len(counts) <= 1
        words = ", ".join(name if same else f"{name} ({number})" for name, number in counts.most_common())
        rows.append((word(title), word(words if same else f"{len(counts)} values: {words}")))
    caption = "What the runs were made with. One value: the same in all runs; several: the number of runs with each."
    return Table("environments", "Environments", caption, (Column("Aspect"), Column("Value")), tuple(rows))


def anchor(run: ResultRow) -> str:
    """The name of a run's row in the page."""
    return f"run-{quote(run.run_id, safe='')}"


def relative_link(path: Path, folder: Path) -> str:
    """The link from a page in ``folder`` to a file."""
    return quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute())))


def _tail(path: Path) -> str:
    return "/".join(path.parts[-3:-1]) or str(path)
