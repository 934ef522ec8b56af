"""A sensitivity analysis in words and tables, once: the terminal prints these sections, Markdown holds the same.

Differences are a cell less the reference; intervals stand behind their estimate, "0.3 (-0.2 to 0.8)". What could not
be given is a dash, and a sentence below the table says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ndrepro.analysis.sensitivity.analysis import Sensitivity
from ndrepro.analysis.sensitivity.bits import BitComparison, PairOfCells
from ndrepro.analysis.sensitivity.conclusion import Contrast
from ndrepro.analysis.sensitivity.experimental_design import ExperimentalDesign, Replicate, described
from ndrepro.analysis.sensitivity.numbers import Breakdown, CellNumbers, Numbers
from ndrepro.analysis.statistics.equivalence import EQUIVALENT, NEGLIGIBLE, UNDECIDED
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS, Interval
from ndrepro.analysis.statistics.reml import REML
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.text.markdown import markdown_table, markdown_text
from ndrepro.text.plurals import first_of, span

NOTHING = "-"
_NAMED = 4


@dataclass(frozen=True)
class Section:
    """A heading, sentences, and a table (none where ``head`` is empty): the first column is text, others numbers."""

    title: str
    sentences: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    level: int = 2


def sections(found: Sensitivity) -> tuple[Section, ...]:
    """Everything that is said, in the order in which it is asked."""
    made = [_runs(found)]
    if len(found.design.cells) > 1:
        made.append(Section("Bits: which cells agree", (_BITS,)))
        made += [_bits(bits, found.design) for bits in found.bits]
    made.append(Section(f"Numbers: {found.options.metric.replace('_', ' ')} in {found.options.unit}", _numbers(found)))
    for numbers in found.numbers:
        made.append(_cells(numbers, found))
        made += [
            _breakdown(item, found.options.unit, f"{numbers.subject}: what the spread comes from")
            for item in numbers.components
        ]
    made.append(Section("Conclusion: does it hold everywhere", _conclusion(found)))
    for contrast in found.contrasts:
        made.append(_contrast(contrast, found.options.unit))
        title = f"{contrast.first} less {contrast.second}: what the spread of the difference comes from"
        made += [_breakdown(item, found.options.unit, title) for item in contrast.breakdowns]
    return tuple(made)


def findings(found: Sensitivity) -> tuple[str, ...]:
    """The answer in a few lines."""
    said = [] if len(found.design.cells) > 1 else ["Nothing but the seed varies: there are no cells to compare."]
    for bits in found.bits if len(found.design.cells) > 1 else ():
        groups = [" = ".join(group) for group in bits.groups]
        if len(groups) > 1:
            said.append(f"{bits.subject}: {len(groups)} groups of equal bits: {' | '.join(groups)}")
        elif groups:
            said.append(f"{bits.subject}: equal bits in {groups[0]}")
    for numbers in found.numbers:
        said += _shifts(numbers, found)
    said += [_verdict(contrast) for contrast in found.contrasts]
    return tuple(said)


_BITS = (
    "Two runs agree when every step of their signed trails is equal, loss and every tensor. The tensor is the one "
    "nearest to where the difference came in."
)


_CROSSED = (
    "Replicates draw several streams each against the others, so that many share a draw: intervals of means and of P, "
    "which take them for independent, are too narrow where the streams matter. The components are not."
)


def _runs(found: Sensitivity) -> Section:
    scores, design = found.scores, found.design
    started = "an unknown number (there is no ledger)" if scores.started is None else str(scores.started)
    said = [
        f"{len(scores.rows)} verified and completed runs of {started} started; "
        f"{len(scores.unfinished)} did not complete, "
        f"{len(scores.lost)} have no manifest, {len(scores.refused)} were refused."
    ]
    said += [f"refused: {item.path}: {item.reason}" for item in scores.refused[:_NAMED]]
    if len(scores.refused) > _NAMED:
        said.append(f"and {len(scores.refused) - _NAMED} more refused")
    if design.axes:
        said.append(f"Every cell is compared with {design.reference.label}: {described(design.reference)}.")
    else:
        said.append("Nothing but the seed varies: there is one cell, and nothing to compare it with.")
    for cell, image in dict.fromkeys((row.cell, row.image) for row in scores.rows if row.image):
        pinned = PinnedImage.from_text(image)
        said.append(f"{cell} is the image {pinned.image}, {pinned.digest}.")
    missing = design.missing
    if missing:
        total = len(design.full)
        some = "; ".join(f"{subject} in {cell.label}, {_seed(seed)}" for subject, cell, seed in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        said.append(f"{len(missing)} of {total} runs of the full design are not there: {some}{more}.")
    if design.repeats:
        said.append(f"{len(design.repeats)} runs repeat another; the first of each counts.")
    return Section("Runs", tuple(said))


def _bits(bits: BitComparison, design: ExperimentalDesign) -> Section:
    said = [f"Equal bits: {' | '.join(' = '.join(group) for group in bits.groups)}."] if bits.groups else []
    if bits.repeated:
        said.append(f"Run again with nothing changed: {bits.repeated}, of which {bits.repeated_equal} in equal bits.")
    if bits.without_trail:
        some = ", ".join(f"{run} ({why})" for run, why in list(bits.without_trail.items())[:_NAMED])
        said.append(f"{len(bits.without_trail)} runs have no trail to compare: {some}.")
    reference = design.reference.label
    pairs = [pair for pair in bits.pairs if reference in (pair.first, pair.second)]
    rows = [(pair.second if pair.first == reference else pair.first, *_pair(pair)) for pair in pairs]
    said += [f"{pair.first} and {pair.second}: {pair.problem}." for pair in pairs if pair.problem]
    head = (f"against {reference}", "pairs", "equal", "diverge at step", "in the loss", "first tensor")
    return Section(bits.subject, tuple(said), head if rows else (), tuple(rows), level=3)


def _pair(pair: PairOfCells) -> tuple[str, ...]:
    steps = span(pair.steps) or NOTHING
    return str(pair.pairs), str(pair.equal), steps, str(pair.forward) if pair.steps else NOTHING, pair.tensor or NOTHING


def _numbers(found: Sensitivity) -> tuple[str, ...]:
    level, margin = f"{100 * found.options.confidence:g} %", f"{found.options.margin:g} {found.options.unit}"
    return (
        f"Means and differences over pairs with {level} intervals of Student's t distribution, from {FEWEST_RUNS} runs "
        "on; one more run falls within so much of the mean. All assume that runs are normally distributed. p-values of "
        "paired t-tests, corrected (Holm) over the cells of one subject; the intervals are not corrected.",
        f"Within {margin}: equivalent, two one-sided tests at 5 % put the difference inside; different, it is shown by "
        "the corrected test too; undecided, neither, and behind it the least margin that would have been shown. "
        "Can see: the true difference that so many pairs show four times in five.",
        *([_CROSSED] if any(isinstance(each, str) for each in found.design.replicates) else []),
    )


def _cells(numbers: Numbers, found: Sensitivity) -> Section:
    head = (
        "cell",
        "n",
        "mean",
        "sd",
        "one more",
        "difference",
        "p (Holm)",
        f"within {found.options.margin:g}",
        "can see",
    )
    said = [f"{line.why}." for line in numbers.cells if line.why]
    lost: list[str] = []
    for line in numbers.cells:
        if line.not_finite:
            said.append(f"{line.cell}: not finite, and in no number: {', '.join(map(_seed, line.not_finite))}.")
        if line.against and (line.against.only_first or line.against.only_second):
            alone = len(line.against.only_first) + len(line.against.only_second)
            lost.append(f"{line.cell} ({alone}, {line.against.difference.n} pairs)")
    said += [f"Runs without a partner, in no difference: {', '.join(lost)}."] if lost else []
    said += [f"No components along {why}." for why in numbers.why_not]
    return Section(numbers.subject, tuple(said), head, tuple(_line(line) for line in numbers.cells), level=3)


def _line(line: CellNumbers) -> tuple[str, ...]:
    mean = line.mean
    return (
        line.cell,
        str(len(line.values)),
        f"{mean.estimate:.2f} ± {_half(mean)}" if mean else _only(line),
        f"{mean.spread:.2f}" if mean else NOTHING,
        f"± {_half(line.one_more)}" if line.one_more else NOTHING,
        _interval(line.against.difference) if line.against else NOTHING,
        f"{line.p_holm:.3f}" if line.p_holm is not None else NOTHING,
        _within(line),
        f"{line.detectable.difference:.2f}" if line.detectable else NOTHING,
    )


def _within(line: CellNumbers) -> str:
    if line.equivalence is None:
        return NOTHING
    verdict = line.equivalence.corrected(line.p_holm)
    return f"{verdict} ({line.equivalence.smallest_margin:.2f})" if verdict == UNDECIDED else verdict


def _only(line: CellNumbers) -> str:
    """One value, without an interval."""
    return ", ".join(f"{value:.2f}" for value in line.values.values()) or NOTHING


def _breakdown(item: Breakdown, unit: str, title: str) -> Section:
    components = item.components
    said = [
        f"{item.title}: {components.n} runs, "
        + ", ".join(f"{count} levels of {axis}" for axis, count in components.levels.items())
        + "."
    ]
    if components.method == REML:
        said.append(f"A mixed model (REML, intervals of the profile likelihood) of all these runs; {item.unequal}.")
    if item.dropped:
        said.append(f"Left out, since the design is not complete there: {', '.join(item.dropped)}.")
    if item.check is not None:
        said.append(_checked(item))
    if item.unchecked:
        said.append(f"Analysis of variance, without a mixed model beside it: {item.unchecked}.")
    said += [f"{note[0].upper()}{note[1:]}." for note in components.notes]
    if not components.total:
        said.append("Every value is the same: there is no variance to divide.")
    rows = [
        (
            component.source,
            _share(component.share, component.share_low, component.share_high),
            f"{component.deviation:.2f}",
            NOTHING
            if component.total_share is None or component.total_interval is None
            else _share(component.total_share, *component.total_interval),
            NOTHING if component.degrees is None else str(component.degrees),
        )
        for component in components.components
    ]
    head = ("source", "share of the variance", f"sd, {unit}", "with interactions", "df")
    return Section(title, tuple(said), head, tuple(rows), level=4)


def _checked(item: Breakdown) -> str:
    """How far a mixed model of the same runs is from the analysis of variance."""
    parts = item.components.components
    apart = 100 * max(abs(part.share - (item.check or {})[part.source]) for part in parts)
    if apart < 1:
        return "Analysis of variance; a mixed model (REML) gives the same shares."
    below = [part.source for part in parts if part.estimate < 0]
    why = f"; of {' and '.join(below)} the estimate is below zero, and counts as none" if below else ""
    return f"Analysis of variance; shares by a mixed model (REML) are up to {apart:.0f} % of the variance apart{why}."


def _share(share: float, low: float, high: float) -> str:
    return f"{100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _conclusion(found: Sensitivity) -> tuple[str, ...]:
    if not found.contrasts:
        return ("There is only one method: no conclusion to test.",)
    said = [
        "P is the share of pairs that the first wins, ties half, with its exact 95 % interval (Clopper and Pearson). "
        "Better: the interval lies above 0.5 and P is at least 0.75 (after Bouthillier et al. 2021; six pairs at "
        "least)."
    ]
    for cell, agreement in found.orders.items():
        swapped = ", ".join(" and ".join(names) for names in agreement.swapped[:_NAMED])
        if swapped:
            said.append(f"The order changes in {cell}: {swapped} (Kendall's tau {agreement.tau:.2f}).")
    if found.orders and not any(agreement.swapped for agreement in found.orders.values()):
        said.append(f"The order of the subjects' means is the same in all {len(found.orders) + 1} cells.")
    return tuple(said)


def _contrast(contrast: Contrast, unit: str) -> Section:
    rows, said = [], [_verdict(contrast)]
    lost = [
        f"{item.cell} ({alone}, {item.found.difference.n} pairs)"
        for item in contrast.judged
        if item.found and (alone := len(item.found.only_first) + len(item.found.only_second))
    ]
    said += [f"Runs without a partner, in no difference: {', '.join(lost)}."] if lost else []
    bad = [f"{item.cell} ({item.not_finite})" for item in contrast.cells if item.not_finite]
    said += [f"Runs whose result is not finite, in no pair: {', '.join(bad)}."] if bad else []
    for item in contrast.cells:
        if item.found is None:
            rows.append((item.cell, *[NOTHING] * 4))
            said.append(f"{item.why}.")
            continue
        share = item.found.superiority
        rows.append(
            (
                item.cell,
                str(share.n),
                _interval(item.found.difference),
                f"{share.share:.2f} ({share.low:.2f} to {share.high:.2f})",
                share.verdict,
            )
        )
    head = ("cell", "pairs", f"difference, {unit}", "P(first > second)", "verdict")
    return Section(f"{contrast.first} against {contrast.second}", tuple(said), head, tuple(rows), level=3)


def _verdict(contrast: Contrast) -> str:
    """One sentence about a contrast."""
    judged, holds = len(contrast.judged), len(contrast.holds)
    if not judged:
        return f"{contrast.first} against {contrast.second}: no cell has {FEWEST_RUNS} pairs."
    signs = contrast.signs
    if len(signs) > 1:
        sign = "the sign of the mean difference is not the same in all"
    else:
        sign = f"the mean difference is {'above' if 1 in signs else 'below' if -1 in signs else 'exactly'} zero in all"
    return f"{contrast.first} is better than {contrast.second} in {holds} of {judged} cells; {sign}."


def _shifts(numbers: Numbers, found: Sensitivity) -> Iterator[str]:
    lines = [line for line in numbers.cells if line.against]
    if lines:
        largest = max(lines, key=lambda line: abs(line.against.difference.estimate) if line.against else 0)
        shown = [line.cell for line in lines if line.p_holm is not None and line.p_holm < 0.05]
        equal = [
            line.cell for line in lines if line.equivalence and line.equivalence.verdict in (EQUIVALENT, NEGLIGIBLE)
        ]
        assert largest.against is not None
        yield (
            f"{numbers.subject}: largest shift {largest.cell}, {_interval(largest.against.difference)} "
            f"{found.options.unit}; {f'shown in {first_of(shown, _NAMED)}' if shown else 'no shift is shown'}; "
            f"equivalent within {found.options.margin:g}: {first_of(equal, _NAMED) if equal else 'none'}"
        )
    seen = [line.detectable for line in lines if line.detectable]
    needed = [line.needed.n for line in lines if line.needed]
    if seen:
        differences = [power.difference for power in seen]
        sizes = dict.fromkeys(f"{size:.1f}" for size in (min(differences), max(differences)))
        yield (
            f"{numbers.subject}: with {span(power.n for power in seen)} pairs a true shift of {' to '.join(sizes)} "
            f"{found.options.unit} is seen four times in five; one of {found.options.margin:g} takes "
            f"{span(needed)} pairs, by the cell"
        )
    for item in numbers.components:
        parts = [f"{part.source} {100 * part.share:.0f} %" for part in item.components.components]
        yield f"{numbers.subject}, variance along {item.title}: {', '.join(parts)}"


def _seed(replicate: Replicate) -> str:
    return f"seed {replicate}" if isinstance(replicate, int) else replicate


def _interval(found: Interval) -> str:
    return f"{found.estimate:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _half(found: Interval) -> str:
    """Half the width of an interval that lies evenly about its estimate."""
    return f"{(found.high - found.low) / 2:.2f}"


def markdown(found: Sensitivity, figures: Sequence[str] = ()) -> str:
    """The whole answer as Markdown, what comes from runs escaped; ``figures`` are names of image files beside it."""
    lines = ["# What moves the result", "", *(f"* {markdown_text(said)}" for said in findings(found)), ""]
    for name in figures:
        lines += [f"![{name.rpartition('.')[0].replace('_', ' ')}]({name})", ""]
    for section in sections(found):
        lines += [f"{'#' * section.level} {markdown_text(section.title)}", ""]
        for said in section.sentences:
            lines += [markdown_text(said), ""]
        if section.head:
            lines.append(markdown_table(section.head, section.rows, range(1, len(section.head))))
    return "\n".join(lines)
