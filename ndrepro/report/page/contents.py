"""The contents of a report: counts, findings, kinds of reproducibility, figures, tables, notes.

    Scores (verified) ── contents() ──> Report ── html, plain, report.json

Nothing is dropped: runs that did not complete or do not verify are counted and named, repeats of a run are
shown and kept out of the statistics, numbers that are not finite leave their cell without a mean, and what
limits a conclusion (one seed, unequal replicates, unlike environments) is among the notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import ResultRow, Results
from ndrepro.analysis.results.reviewer_verdicts import Attestations
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS
from ndrepro.checklists.forms import Form
from ndrepro.report.elements.figure import Figure
from ndrepro.report.elements.table import Table
from ndrepro.report.figures.published_tables import published_with_own
from ndrepro.report.figures.studies import study_figures, study_numbers
from ndrepro.report.sections.claims_held import ClaimOutcome, findings_of
from ndrepro.report.sections.comparisons import comparison_tables
from ndrepro.report.sections.divergences import Divergences, divergence_sentences, divergences_of
from ndrepro.report.sections.forms_page import filled_in, form_table, overview
from ndrepro.report.sections.own_summary import cost_sentence, summary_of
from ndrepro.report.sections.reproducibility_kinds import kinds_table, verdict_table
from ndrepro.report.sections.run_tables import cell_table, environments_table, left_out_table, left_out_words, run_table
from ndrepro.report.sections.seed_groups import SeedGroup, cells_of
from ndrepro.text.plurals import first_of, plural, span

SCHEMA = "urn:ndrepro:report:v1"
METHOD = (
    f"All intervals are 95 % intervals of Student's t distribution over seeds, from {FEWEST_RUNS} runs on. Those of "
    "accuracies end at 0 and 100 %. They assume normally distributed values, which few runs cannot show. Where another "
    "method is used, the caption names it."
)
COMPARING = (
    " A difference between methods is the mean over pairs of runs with equal seeds; its p-value is that of the paired "
    "t-test, corrected by Holm's method over all comparisons of this page. An interval excludes zero exactly where the "
    "uncorrected p-value is below 0.05."
)
_MOST = 3


@dataclass(frozen=True)
class About:
    """The subject of a report: title, the program's name, and the planned runs of a study.

    ``planned`` counts the study's runs and ``missing`` those that have no verified result (labels); both are empty for
    a folder of runs. ``again`` are commands to make and check it, (label, command). ``others`` counts completed runs
    in the folder that are not the study's. ``verdicts`` are reviewers' words on the runs; ``code`` is a folder that
    the forms are filled in from, besides the runs.
    """

    title: str
    version: str
    program: str = "ndrepro"
    planned: int | None = None
    missing: tuple[str, ...] = ()
    others: int = 0
    again: tuple[tuple[str, str], ...] = ()
    verdicts: Attestations = field(default_factory=Attestations)
    code: Path | None = None


@dataclass(frozen=True)
class Links:
    """Links from the page to a run's manifest or a signed verdict."""

    manifest: Callable[[ResultRow], str]
    verdict: Callable[[Path], str]


@dataclass(frozen=True)
class Fact:
    """One number of the strip below the title."""

    label: str
    text: str
    warn: bool = False


@dataclass(frozen=True)
class Report:
    """Everything in a report, in the order of the page."""

    about: About
    scores: Results
    distinct: tuple[ResultRow, ...]
    repeats: tuple[ResultRow, ...]
    table_of_cells: tuple[SeedGroup, ...]
    counts: tuple[Fact, ...]
    summary: tuple[str, ...]
    findings: tuple[ClaimOutcome, ...]
    kinds: Table
    verdicts: Table
    figures: tuple[Figure, ...]
    numbers: tuple[Table, ...]
    tables: tuple[Table, ...]
    comparisons: tuple[Table, ...]
    cells: Table
    runs: Table
    left_out: Table
    left_out_words: str
    environments: Table
    forms: tuple[Form, ...]
    notes: tuple[str, ...]

    @property
    def form_tables(self) -> tuple[Table, ...]:
        """Every form as a table."""
        return tuple(map(form_table, self.forms))

    @property
    def forms_overview(self) -> Table:
        """How much of each form could be answered."""
        return overview(self.forms)

    @property
    def method(self) -> str:
        """How every interval and p-value of the page was computed, named once."""
        return METHOD + (COMPARING if self.comparisons else "")

    @property
    def manifest_alone(self) -> str:
        """A clause about runs of which not every file was there."""
        count = sum(not run.files_checked for run in self.distinct)
        return f"; of {count} of {plural(len(self.distinct), 'run')}, the manifest alone" if count else ""

    @property
    def lead(self) -> str:
        """One line: what was run, when, where."""
        if not self.distinct:
            return "No run with a verified result."
        networks = sorted({run.arch for run in self.distinct})
        datasets = sorted({run.dataset for run in self.distinct})
        seeds = {run.seed for run in self.distinct}
        devices = sorted({run.device or "unknown device" for run in self.distinct})
        when = span(run.started[:10] for run in self.distinct)
        return (
            f"{plural(len(networks), 'network')} on {', '.join(datasets)}, {plural(len(seeds), 'seed')}, "
            f"{', '.join(devices)}, {when}. Every number is from a signed manifest "
            f"that was verified{self.manifest_alone}."
        )

    def to_json(self) -> dict[str, Any]:
        """The whole report, figures with their data."""
        return {
            "schema": SCHEMA,
            "title": self.about.title,
            "ndrepro": self.about.version,
            "lead": self.lead,
            "planned": self.about.planned,
            "not_run": self.about.missing,
            "account": self.scores.account(),
            "repeats": [run.run_id for run in self.repeats],
            "summary": self.summary,
            "findings": self.findings,
            "kinds": self.kinds,
            "verdicts": self.about.verdicts,
            "notes": self.notes,
            "cells": self.table_of_cells,
            "runs": [_run_json(run) for run in self.scores.rows],
            "numbers": self.numbers,
            "tables": self.tables,
            "comparisons": self.comparisons,
            "environments": self.environments,
            "forms": self.forms,
            "figures": [{"key": drawn.key, "title": drawn.title, "data": drawn.data} for drawn in self.figures],
        }


def contents(scores: Results, about: About, links: Links) -> Report:
    """The report of some verified scores; of the studies' tables and figures those whose runs are there."""
    distinct, repeats = scores.distinct()
    cells = cells_of(distinct)
    of_studies = published_with_own(cells)
    divergences = divergences_of(cells, repeats)
    drawn, undrawn = study_figures(distinct, cells, divergences)
    ordered = [run for cell in cells for run in cell.runs] + list(repeats)
    return Report(
        about=about,
        scores=scores,
        distinct=distinct,
        repeats=repeats,
        table_of_cells=cells,
        counts=_counts(scores, about, repeats),
        summary=_summary(scores, distinct, cells, divergences),
        findings=findings_of(distinct),
        kinds=kinds_table(scores, distinct, cells, of_studies, about.verdicts),
        verdicts=verdict_table(about.verdicts, links.verdict),
        figures=drawn,
        numbers=study_numbers(distinct, divergences),
        tables=of_studies,
        comparisons=comparison_tables(distinct),
        cells=cell_table(cells),
        runs=run_table(ordered, repeats, about.program, links.manifest),
        left_out=left_out_table(scores),
        left_out_words=left_out_words(scores, len(repeats), study=about.planned is not None),
        environments=environments_table(distinct),
        forms=filled_in(ordered, cells, about.verdicts, about.code),
        notes=(*_notes(scores, distinct, cells, about), *undrawn),
    )


def _summary(
    scores: Results, distinct: Sequence[ResultRow], cells: Sequence[SeedGroup], divergences: Sequence[Divergences]
) -> tuple[str, ...]:
    cost = [cost_sentence(total)] if (total := scores.cost()).runs else []
    return (*summary_of(distinct, cells), *divergence_sentences(divergences), *cost)


def _counts(scores: Results, about: About, repeats: Sequence[ResultRow]) -> tuple[Fact, ...]:
    started = "unknown" if scores.started is None else str(scores.started)
    facts = [Fact("runs started (ledger)", started, scores.started is None)]
    if about.planned is not None:
        facts.insert(0, Fact("runs planned by the study", str(about.planned)))
        facts.append(Fact("planned, no result", str(len(about.missing)), bool(about.missing)))
    facts += [
        Fact("runs completed and verified", str(len(scores.rows)), not scores.rows),
        Fact("failed or interrupted", str(len(scores.unfinished)), bool(scores.unfinished)),
        Fact("without a manifest", str(len(scores.lost)), bool(scores.lost)),
        Fact("refused", str(len(scores.refused)), bool(scores.refused)),
    ]
    extra = (("segments", len(scores.segments)), ("repeats", len(repeats)), ("of other kinds", len(scores.others)))
    return (*facts, *(Fact(label, str(number)) for label, number in extra if number))


def _notes(scores: Results, runs: Sequence[ResultRow], cells: Sequence[SeedGroup], about: About) -> tuple[str, ...]:
    notes: list[str] = []
    if not runs:
        return ("There is no completed run whose manifest verifies: this report has no numbers.",)
    if about.missing:
        few = first_of(about.missing, _MOST)
        notes.append(f"{len(about.missing)} of the study's {about.planned} runs have no verified result: {few}.")
    if about.others:
        notes.append(
            f"The folder also holds {plural(about.others, 'completed run')} that the study did not plan. "
            "They are not part of this report and of no count on this page."
        )
    notes += [f"Verdict refused: {item.path.name}: {item.reason}." for item in about.verdicts.refused[:_MOST]]
    if len(about.verdicts.refused) > _MOST:
        notes.append(f"{len(about.verdicts.refused) - _MOST} more verdicts are refused: see report.json.")
    if scores.started is None:
        notes.append("No ledger covers all of these runs: how many others were started is unknown.")
    sizes = Counter(cell.n for cell in cells)
    if set(sizes) == {1}:
        notes.append("Every experiment has one seed: no value has an interval, and no difference can be tested.")
    elif len(sizes) > 1:
        counts = ", ".join(f"{plural(size, 'run')} in {number}" for size, number in sorted(sizes.items()))
        notes.append(f"Experiments have unequal numbers of runs ({counts} of {len(cells)} experiments).")
    wild = [run for run in runs if not run.finite]
    if wild:
        names = first_of([f"{run.name} seed {run.seed}" for run in wild], _MOST)
        notes.append(
            f"{plural(len(wild), 'run')} ended with a number that is not finite: {names}. The tables show NaN."
        )
    places = {run.execution_environment for run in runs}
    if len(places) > 1:
        notes.append(
            f"Runs of {len(places)} execution environments (versions, device, threads, determinism) are never averaged "
            "together."
        )
    codes = {run.code for run in runs}
    if len(codes) > 1:
        notes.append(f"The runs were made with {len(codes)} different versions of the code.")
    others = Counter((run.dataset, run.data) for run in runs if run.data)
    if others:
        named = [f"{name} ({digits}, {plural(number, 'run')})" for (name, digits), number in others.items()]
        notes.append(
            "Data that are not the published files, or not known to be, with the first digits of the SHA-256 of their "
            f"files: {first_of(named, _MOST)}. Runs on different files are never averaged together or compared."
        )
    reduced = sum("train_images" in run.settings for run in runs)
    if reduced:
        notes.append(f"{_of_all(reduced, len(runs))} used only part of the training data (setting train_images).")
    return tuple(notes)


def _of_all(number: int, runs: int) -> str:
    return f"{number} of {runs} runs" if number < runs else f"All {runs} runs" if runs > 1 else "The run"


def _run_json(run: ResultRow) -> dict[str, Any]:
    return {
        **vars(run),
        "folder": str(run.folder),
        "seeds": dict(run.seeds),
        "settings": dict(run.settings),
        "cost": asdict(run.cost),
    }
