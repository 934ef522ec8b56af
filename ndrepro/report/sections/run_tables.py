"""The tables that every report has: experiments, runs, what was left out, and where it all ran."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from ndrepro.analysis.results.results import ResultRow, Results
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
    without_constants,
    word,
)
from ndrepro.report.sections.seed_groups import SeedGroup, Spread
from ndrepro.report.sections.settings import split_settings

_OTHER = "repeat of an earlier run"


def cell_table(cells: Sequence[SeedGroup]) -> Table:
    """One row an experiment in one set of environments: train beside test, n, spread, interval."""
    columns = (
        Column("Network", facet=True),
        Column("Method", facet=True),
        Column("Epochs", numeric=True),
        Column("Data set", facet=True),
        Column("Settings"),
        Column("n", numeric=True),
        Column("Train %", numeric=True),
        Column("Test %", numeric=True),
        Column("s", numeric=True),
        Column("Mean ±", numeric=True),
        Column("One more run", numeric=True),
        Column("Lowest", numeric=True),
        Column("Highest", numeric=True),
        Column("Training", numeric=True),
        Column("Environment", facet=True),
    )
    caption = (
        "Accuracies after the last epoch, means over n runs that differ by nothing but their seed; s is the standard "
        "deviation (n - 1). Mean ± is half the 95 % interval of the mean test accuracy (Student), and one more run "
        "falls between the ends beside it with 95 %, if runs are normal; whatever they are, between lowest and highest "
        "with (n - 1)/(n + 1). One run has neither. The train accuracy is met while training, on augmented "
        "images. A mean links to its runs."
    )
    shared, apart = split_settings([cell.first for cell in cells])
    rows = tuple(_cell_row(cell, apart[cell.first.run_id]) for cell in cells)
    return without_constants(Table("cells", "Experiments", _with_shared(caption, shared), columns, rows))


def _cell_row(cell: SeedGroup, settings: str) -> tuple[Value, ...]:
    one, test = cell.first, cell.test
    link = f"#{anchor(one)}"
    finite = test.mean is not None
    return (
        word(one.arch),
        word(one.method),
        count(one.epochs),
        word(one.dataset),
        word(settings),
        count(cell.n),
        decimal(cell.train.mean, missing=cell.train.text),
        decimal(test.mean, missing=test.text, href=link),
        decimal(test.deviation),
        decimal(None if test.low is None or test.high is None else (test.high - test.low) / 2),
        _one_more(test),
        decimal(min(test.values) if finite and cell.n > 1 else None),
        decimal(max(test.values) if finite and cell.n > 1 else None),
        duration(cell.seconds.mean),
        word(place_text(one)),
    )


def _one_more(test: Spread) -> Value:
    """Where one more run falls, sorted by how wide that is."""
    if test.next is None:
        return Value(MISSING)
    low, high = test.next
    return Value(f"{decimal(low).text} to {decimal(high).text}", high - low)


def run_table(
    runs: Sequence[ResultRow], repeats: Iterable[ResultRow], program: str, manifest: Callable[[ResultRow], str]
) -> Table:
    """One row a run, in the order of their experiments: the manifest behind it, and how to check it.

    ``manifest`` gives the link to a run's manifest.
    """
    columns = (
        Column("Run and manifest"),
        Column("Network", facet=True),
        Column("Method", facet=True),
        Column("Epochs", numeric=True),
        Column("Data set", facet=True),
        Column("Settings"),
        Column("Seed", numeric=True),
        Column("Train %", numeric=True),
        Column("Test %", numeric=True),
        Column("Training", numeric=True),
        Column("Signed by", facet=True),
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
                word(run.arch),
                word(run.method),
                count(run.epochs),
                word(run.dataset),
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
        "Every completed run whose manifest verified. The name leads to the signed manifest. "
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
    columns = (Column("Run"), Column("Experiment"), Column("What became of it", facet=True), Column("Reason"))
    rows = [
        (word(item.run_id), word(item.name), word(item.outcome), word("its manifest says so, signed"))
        for item in scores.unfinished
    ]
    rows += [
        (word(item.run_id), word(item.name), word(item.outcome), word(f"a run of a {item.kind}, verified"))
        for item in scores.others
    ]
    rows += [(word(item.run_id), word(item.name), word("no manifest"), word(item.reason)) for item in scores.lost]
    rows += [(word(_tail(item.path)), word(""), word("refused"), word(item.reason)) for item in scores.refused]
    caption = "Runs that were started, or manifests that were found, and enter no number of this report."
    return Table("left_out", "Excluded runs", caption, columns, tuple(rows))


def left_out_words(scores: Results, repeats: int) -> str:
    """How many were started, and how many of those are reported."""
    kept = len(scores.rows)
    if scores.started is None:
        started = (
            "There is no ledger for all of these runs, so how many were started is not known, and good ones may have "
            "been picked. "
        )
    else:
        started = f"The ledger has {scores.started} runs that were started; {kept} of them are reported. "
    parts = (
        (len(scores.unfinished), "failed or interrupted, signed as such"),
        (len(scores.segments), "segments of runs (spot checks, a search), which have no result of their own"),
        (len(scores.others), "of scripts and recorded programs, which are no training runs"),
        (len(scores.lost), "without a manifest"),
        (len(scores.refused), "refused, since the manifest does not verify or has no result"),
        (repeats, "repeats of a run with the same seeds and environments: shown, but no further sample"),
    )
    named = "; ".join(f"{number} {what}" for number, what in parts if number)
    return started + (f"Left out of the statistics: {named}." if named else "Nothing was left out.")


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
        ("Code that ran", lambda run: run.code[:12]),
        ("Commit", lambda run: run.commit[:12]),
        ("Signed by", lambda run: run.signer),
    )
    rows = []
    for title, value in aspects:
        counts = Counter(value(run) or "not known" for run in runs)
        same = len(counts) <= 1
        words = ", ".join(name if same else f"{name} ({number})" for name, number in counts.most_common())
        rows.append((word(title), Value("the same" if same else f"{len(counts)} differ"), word(words or MISSING)))
    caption = "Every surrounding that is recorded in a row of results, and the values it had (number of runs)."
    columns = (Column("What"), Column("Over all runs"), Column("Values"))
    return Table("environments", "Environments", caption, columns, tuple(rows))


def place_text(run: ResultRow) -> str:
    """Environment, device, threads and level in one line."""
    limits = f", {run.instructions}" if run.instructions else ""
    threads = f"{run.threads} thread{'s' if run.threads != 1 else ''}"
    return f"{run.environment}; {run.device}, {threads}, {run.determinism}{limits}"


def anchor(run: ResultRow) -> str:
    """The name of a run's row in the page."""
    return f"run-{quote(run.run_id, safe='')}"


def relative_link(path: Path, folder: Path) -> str:
    """The link from a page in ``folder`` to a file."""
    return quote(os.fsencode(os.path.relpath(path.absolute(), folder.absolute())))


def _tail(path: Path) -> str:
    return "/".join(path.parts[-3:-1]) or str(path)
