"""How far runs that were asked for nearly the same are apart, from their numerical trails.

The runs of an experiment in one setting and environment, the reference, are compared seed by seed with those in every
other, its seeds with each other, and runs that were run again with the first. Trails hold the loss of every step and a
hash of every tensor: they show how far losses are apart and how many tensors are equal, and nothing else.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.sensitivity.bits import signed_trail
from ndrepro.analysis.sensitivity.experimental_design import natural
from ndrepro.analysis.sensitivity.growth import Growth, growth_of
from ndrepro.report.elements.table import MISSING, Column, Table, Value, count, numeric, without_constants, word
from ndrepro.report.sections.group_labels import distinguished, method_name
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.report.sections.settings import EXPERIMENT, experiment_cells
from ndrepro.text.plurals import plural, span
from provenance.errors import ProvenanceError

OTHER_SEED, AGAIN = "another seed", "run again"
_MOST_EXPERIMENTS, _MOST_COMPARISONS, _MOST_PAIRS, _MOST_SENTENCES = 4, 4, 10, 4

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class Divergences:
    """One experiment: one of its runs, the reference ("" where nothing but the seed varies), and how others grow apart.

    ``omitted`` counts comparisons that are left out for want of space.
    """

    run: ResultRow
    reference: str
    growths: tuple[Growth, ...]
    omitted: int = 0

    @property
    def title(self) -> str:
        """The experiment in words."""
        one = self.run
        return f"{one.arch} with {method_name(one.method)} on {one.dataset}, {plural(one.epochs, 'epoch')}"

    @property
    def others(self) -> tuple[Growth, ...]:
        """Those with equal seeds."""
        return tuple(each for each in self.growths if each.cell != OTHER_SEED)

    @property
    def seeds(self) -> Growth | None:
        """Those of different seeds."""
        return next((each for each in self.growths if each.cell == OTHER_SEED), None)

    def to_json(self) -> dict[str, Any]:
        """Experiment, reference and growths; infinities stay numbers."""
        return {"experiment": self.title, "reference": self.reference, "omitted": self.omitted, "growth": self.growths}


def divergences_of(groups: Sequence[SeedGroup], repeats: Sequence[ResultRow]) -> tuple[Divergences, ...]:
    """Of every experiment whose runs kept their signed trails, up to a few; those in which more varies come first."""
    experiments: dict[tuple[Any, ...], list[SeedGroup]] = defaultdict(list)
    for group in groups:
        one = group.first
        experiments[one.arch, one.method, one.epochs, one.dataset].append(group)
    ordered = sorted(experiments.values(), key=lambda found: -len(found))
    made: list[Divergences] = []
    for found in ordered:
        if len(made) < _MOST_EXPERIMENTS and (one_made := _experiment(found, repeats)):
            made.append(one_made)
    return tuple(made)


def _experiment(groups: Sequence[SeedGroup], repeats: Sequence[ResultRow]) -> Divergences | None:
    reference = max(groups, key=_preference)
    labels = distinguished({group.key: group.first for group in groups})
    firsts = {run.identity: run for run in reference.runs}
    wanted = [(group, [pair for pair in _same_seed(reference, group)]) for group in groups if group is not reference]
    rows = [(labels[group.key], pairs) for group, pairs in wanted]
    again = [(firsts[run.identity], run) for run in repeats if run.identity in firsts]
    named = [*rows[:_MOST_COMPARISONS], (AGAIN, again), (OTHER_SEED, list(pairwise(reference.runs)))]
    growths = []
    for label, pairs in named:
        with suppress(ProvenanceError):
            found = growth_of(_trails(pairs[:_MOST_PAIRS]), label)
            growths += [found] if found else []
    omitted = len(rows[_MOST_COMPARISONS:])
    return Divergences(reference.first, labels[reference.key], tuple(growths), omitted) if growths else None


def _preference(group: SeedGroup) -> tuple[Any, ...]:
    """The reference has the most runs; of equals the newest release, the fewest settings and the fewest threads."""
    one = group.first
    return group.n, natural(one.environment), -len(one.settings), -one.threads


def _same_seed(first: SeedGroup, second: SeedGroup) -> Iterator[tuple[ResultRow, ResultRow]]:
    by_seed = {(run.seed, *sorted(run.seeds.items())): run for run in first.runs}
    for run in second.runs:
        if (key := (run.seed, *sorted(run.seeds.items()))) in by_seed:
            yield by_seed[key], run


def _trails(pairs: Sequence[tuple[ResultRow, ResultRow]]) -> Pairs:
    """The trails of the pairs of which both are there as they were signed."""
    found: Pairs = []
    for first, second in pairs:
        with suppress(ProvenanceError):
            found.append((signed_trail(first)[0], signed_trail(second)[0]))
    return found


def divergence_sentences(divergences: Sequence[Divergences]) -> tuple[str, ...]:
    """In plain words; the seeds of an experiment only where nothing else varies in any."""
    said = [f"{one.title}: {_said(one, grown)}" for one in divergences for grown in one.others]
    if not said:
        said = [f"{one.title}: {_said_of_seeds(one.seeds)}" for one in divergences if one.seeds]
    more = len(said) - _MOST_SENTENCES
    rest = [f"{plural(more, 'comparison')} more are in the table of divergence."] if more > 0 else []
    return (*said[:_MOST_SENTENCES], *rest)


def _said(one: Divergences, grown: Growth) -> str:
    changed = f"with {grown.cell} instead of {one.reference or 'the default'}" if grown.cell != AGAIN else AGAIN
    pairs = f"{plural(grown.pairs, 'pair')} of runs with equal seeds"
    if grown.identical == grown.pairs:
        return f"{changed}, {pairs}: bit-identical at every step."
    last = grown.median[-1]
    apart = f"differ by {percent(last)}" if last else "are equal"
    seeds = f"; those of different seeds differ by {percent(one.seeds.median[-1])}" if one.seeds else ""
    return (
        f"{changed}, {len(grown.first_steps)} of {pairs} diverge, first at step {grown.first_steps[0]}. "
        f"At step {grown.steps[-1]} their losses {apart} (median{seeds})."
    )


def _said_of_seeds(grown: Growth) -> str:
    last, pairs = percent(grown.median[-1]), plural(grown.pairs, "pair")
    return f"at step {grown.steps[-1]} runs of different seeds differ by {last} in loss (median, {pairs})."


def divergence_tables(divergences: Sequence[Divergences]) -> tuple[Table, ...]:
    """What the figure shows, in numbers."""
    columns = (
        *EXPERIMENT,
        Column("Compared"),
        Column("Reference"),
        *numeric("Pairs", "Bit-identical"),
        Column("First step that differs"),
        *numeric("Loss, 10 steps later", "Loss, last step", "Tensors equal, last step"),
    )
    rows = tuple(_row(one, grown) for one in divergences for grown in one.growths)
    caption = (
        "Pairs of runs of one experiment. Equal seeds, but for the rows that name another seed. Losses: relative "
        "difference of the losses of one step, median over the pairs. Tensors: share whose bits are equal, median."
    )
    return (without_constants(Table("divergence", "Divergence of runs", caption, columns, rows)),) if rows else ()


def _row(one: Divergences, grown: Growth) -> tuple[Value, ...]:
    steps, firsts = grown.steps, grown.first_steps
    later = next((place for place, step in enumerate(steps) if firsts and step >= firsts[0] + 10), None)
    return (
        *experiment_cells(one.run),
        word(grown.cell),
        word(one.reference),
        count(grown.pairs),
        count(grown.identical),
        word(span(firsts) or MISSING),
        _share(grown.median[later]) if later is not None else Value(MISSING),
        _share(grown.median[-1]),
        Value(percent(grown.equal_tensors[-1]), grown.equal_tensors[-1]),
    )


def _share(value: float) -> Value:
    return Value(percent(value), value)


def percent(share: float) -> str:
    """A share as a percentage with two significant digits."""
    value = 100 * share
    if value == 0 or not math.isfinite(value):
        return f"{value:g} %".replace("inf", "\N{INFINITY}")
    if value >= 0.001:
        return f"{value:.0f} %" if value >= 99.5 else f"{value:.2g} %"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')} \N{MULTIPLICATION SIGN} 10{str(int(power)).translate(_RAISED)} %"
