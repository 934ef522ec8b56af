"""Methods, results and inferential reproducibility (Goodman, Fanelli and Ioannidis 2016), distinguished by evidence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import ResultRow, Results
from ndrepro.analysis.results.reviewer_verdicts import Attestation, Attestations, results_of
from ndrepro.protocol.verdicts import CHECKED, FAILED, VERDICTS
from ndrepro.report.elements.table import BETTER, SIGNS, WITHIN, WORSE, Column, Table, Value, count, word
from ndrepro.report.sections.run_tables import anchor
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.text.plurals import plural


def kinds_table(
    scores: Results,
    runs: Sequence[ResultRow],
    cells: Sequence[SeedGroup],
    tables: Sequence[Table],
    verdicts: Attestations,
) -> Table:
    """One row a kind: what it asks, what these runs say, and what they cannot say."""
    columns = (Column("Kind"), Column("Question"), Column("Evidence in these runs"))
    texts = (
        (
            "Methods",
            "Same code, same data, same seeds: the same numbers?",
            f"{_reviewed(scores, verdicts)} {_made_twice(scores)}",
        ),
        ("Results", "Trained anew: values close to the published ones?", _results(tables)),
        ("Inferential", "Do conclusions hold for other seeds, data, environments?", _inferential(runs, cells)),
    )
    caption = "The evidence for each kind, and where there is none."
    rows = tuple(tuple(map(word, row)) for row in texts)
    return Table("kinds_of", "Kinds of reproducibility", caption, columns, rows, stacked=True)


def verdict_table(verdicts: Attestations, link: Callable[[Path], str]) -> Table:
    """One row a signed verdict: on which run, by whom, what was trained again. ``link`` leads to its file."""
    columns = (
        Column("Run"),
        Column("Experiment", facet=True),
        Column("Seed", numeric=True),
        Column("Verdict", facet=True),
        Column("Trained again"),
        Column("Signed by", facet=True),
        *map(Column, ("Not checked", "Sandbox", "Differed", "File")),
    )
    rows = tuple(_verdict_row(item, link) for item in verdicts.held)
    caption = (
        "Runs that were trained again from their manifests, each verdict signed by whoever did it. Identical: every "
        "step, the weights and all results, bit for bit; close: the same trajectory within tolerances; consistent: "
        "another trajectory that ends inside the replicates' prediction interval."
    )
    return Table("verdicts", "Runs that were trained again", caption, columns, rows)


def _verdict_row(item: Attestation, link: Callable[[Path], str]) -> tuple[Value, ...]:
    epochs = ", ".join(map(str, item.epochs))
    part = f"epoch {epochs} of {item.run.epochs}" if len(item.epochs) == 1 else f"epochs {epochs} of {item.run.epochs}"
    differed = "; ".join(item.differences[:2]) + (
        f"; and {len(item.differences) - 2} more" if len(item.differences) > 2 else ""
    )
    return (
        Value(item.run.run_id, href=f"#{anchor(item.run)}"),
        word(item.run.name),
        count(item.run.seed),
        Value(item.verdict, float(VERDICTS.index(item.verdict))),
        word(part if item.epochs else "the whole run"),
        word(item.signer if item.by_another else f"{item.signer}, as the run"),
        word(_not_checked(item)),
        word(item.sandbox or "not recorded"),
        word(differed or "nothing recorded"),
        Value("signed", href=link(item.path)),
    )


def _not_checked(item: Attestation) -> str:
    """The names of the claims that the verdict says nothing of, or that failed."""
    if not item.claims:
        return "not recorded"
    open_claims = [each for each in item.claims if each.status != CHECKED]
    names = (f"{each.name} ({FAILED})" if each.status == FAILED else each.name for each in open_claims)
    return ", ".join(dict.fromkeys(names)) or "nothing"


def _reviewed(scores: Results, verdicts: Attestations) -> str:
    """What reviewers signed: of how many runs, who, and what came of it."""
    by_run = verdicts.of_run()
    notes = ""
    if verdicts.refused:
        notes += f" {plural(len(verdicts.refused), 'verdict')} refused: see the notes."
    if verdicts.elsewhere:
        notes += f" {plural(verdicts.elsewhere, 'verdict')} on runs outside this report."
    if verdicts.on_others:
        notes += (
            f" {plural(len(verdicts.on_others), 'verdict')} on runs of scripts and programs, which are not counted."
        )
    if not by_run:
        return (
            "No signed verdict: nobody has reproduced one of these runs from its manifest. "
            f"The command ndrepro reproduce does that.{notes}"
        )
    counts = Counter(item.verdict for item in verdicts.held)
    signers = Counter(item.signer for item in verdicts.held)
    whole = sum(any(not item.epochs for item in items) for items in by_run.values())
    parts = f", {len(by_run) - whole} of them in part" if whole < len(by_run) else ""
    own = sum(not item.by_another for item in verdicts.held)
    alone = f" {own} of the verdicts by the key that signed the run itself: no second party." if own else ""
    return (
        f"{len(by_run)} of {plural(len(scores.rows), 'run')} trained again from the manifest{parts}: "
        f"{', '.join(f'{counts[name]} {name}' for name in VERDICTS if counts[name])}. "
        f"Signed by {', '.join(f'{name} ({number})' for name, number in sorted(signers.items()))}.{alone}{notes}"
    )


def _made_twice(scores: Results) -> str:
    """What the runs themselves show, where some were made more than once."""
    groups: dict[Any, list[ResultRow]] = defaultdict(list)
    for run in scores.rows:
        groups[run.identity].append(run)
    repeated = [found for found in groups.values() if len(found) > 1]
    if not repeated:
        return "No run was repeated."
    same = sum(len({results_of(run) for run in found}) == 1 for found in repeated)
    attempts = sum(map(len, repeated))
    return (
        f"{plural(len(repeated), 'run')} made more than once ({attempts} times in all): "
        f"{same} of {len(repeated)} ended in the same four scores to the last bit."
    )


def _results(tables: Sequence[Table]) -> str:
    # own values are those that lead to a run; the replication's stand beside them
    own = [value for table in tables for row in table.rows for value in row if value.href]
    standings = Counter(value.status for value in own)
    judged = {name: standings[name] for name in (BETTER, WITHIN, WORSE)}
    if not any(judged.values()):
        return "No published result has the network, data set, number of epochs and recipe of one of these experiments."
    ratings = ", ".join(f"{SIGNS[name]} {judged[name]} {name}" for name in (BETTER, WITHIN, WORSE))
    return f"Own values beside {sum(judged.values())} published accuracies: {ratings}. See the tables."


def _inferential(runs: Sequence[ResultRow], cells: Sequence[SeedGroup]) -> str:
    seeds, places = {run.seed for run in runs}, {run.environment for run in runs}
    scope = (
        f"{plural(len(seeds), 'seed')}, {plural(len({run.dataset for run in runs}), 'data set')}, "
        f"{plural(len(places), 'environment')}"
    )
    if not cells or max(cell.n for cell in cells) < 2:
        return f"Undecided: {scope}; no experiment has a second seed, so the effect of the seed is unknown."
    few = sum(cell.n < 2 for cell in cells)
    rest = f" Without a second seed: {plural(few, 'experiment')}." if few else ""
    return f"{scope}: the summary states what these show. Others were not run.{rest}"
