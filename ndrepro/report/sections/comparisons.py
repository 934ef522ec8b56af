"""Deconvolution against batch norm, network by network and over data sets: the differences that the means hide.

A row of the first table is one network on one data set, with one set of settings in one environment; the second
combines those of several data sets. Missing values are named: "n too small" below three seeds, "NaN" for a run that did
not end with a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.statistics.differences import Difference, corrected, difference_of, over_strata
from ndrepro.analysis.statistics.intervals import FEWEST_RUNS
from ndrepro.analysis.statistics.power import Power
from ndrepro.report.elements.table import (
    MISSING,
    Column,
    Table,
    Value,
    count,
    decimal,
    facets,
    interval,
    numeric,
    without_constants,
    word,
)
from ndrepro.report.sections.claims_held import pairs_of
from ndrepro.report.sections.group_labels import environments_apart
from ndrepro.report.sections.settings import DATASET, ENVIRONMENT, EPOCHS, SETTINGS, split_settings
from ndrepro.text.plurals import plural

MARGIN = 1.0  # points of accuracy
_MANY = 10_000  # seeds: nobody runs more, and how many more is of no use

_PARTS = ("train_images=", "test_images=", "data=")

# network, epochs, data set, settings, execution environment
Place = tuple[Any, ...]


def comparison_tables(runs: Sequence[ResultRow]) -> tuple[Table, ...]:
    """The tables for which these distinct runs hold both methods; the second where there are several data sets."""
    found = differences_of(runs)
    if not found:
        return ()
    samples = {place: run for place, run in samples_of(runs).items() if place in found}
    settings = split_settings([samples[place] for place in found])[1]
    places = environments_apart(samples)
    ends = {place: (word(settings[samples[place].run_id]), word(places[place])) for place in found}
    return (_table(found, ends), *_overall(found, ends))


def samples_of(runs: Sequence[ResultRow]) -> dict[Place, ResultRow]:
    """A run of every place."""
    return {place: run for run in runs for place in [_place(run)]}


def differences_of(runs: Sequence[ResultRow]) -> dict[Place, Difference]:
    """ND less BN in points of test accuracy at every place where both were run, p-values corrected over all."""
    grouped: dict[Place, dict[str, dict[Any, float]]] = defaultdict(lambda: {"nd": {}, "bn": {}})
    for method, side in pairs_of(runs, lambda run: run.test_accuracy_percent).items():
        if method in ("nd", "bn"):
            for (*place, drawn), value in side.items():
                grouped[tuple(place)][method][drawn] = value
    both = {place: sides for place, sides in grouped.items() if sides["nd"] and sides["bn"]}
    order = sorted(both, key=lambda place: (place[2], place[0], place[1], str(place[3:])))
    found = corrected([difference_of(both[place]["nd"], both[place]["bn"], margin=MARGIN) for place in order])
    return dict(zip(order, found, strict=True))


def _place(run: ResultRow) -> Place:
    (side,) = pairs_of([run], lambda _: 0.0).values()
    (key,) = side
    return tuple(key[:-1])


def _table(found: Mapping[Place, Difference], ends: Mapping[Place, tuple[Value, Value]]) -> Table:
    columns = (
        *facets("Network"),
        EPOCHS,
        DATASET,
        SETTINGS,
        *numeric("Seeds", "ND \N{MINUS SIGN} BN", "95 % interval", "p (Holm)"),
        Column(f"Within {MARGIN:g} point"),
        *numeric("Seeds needed", f"Seeds for {MARGIN:g} point"),
        ENVIRONMENT,
    )
    rows = tuple(
        (word(place[0]), count(place[1]), word(place[2]), ends[place][0], *_numbers(each), ends[place][1])
        for place, each in found.items()
    )
    tested = sum(each.p_value is not None for each in found.values())
    caption = (
        "Test accuracy with deconvolution minus that with batch norm, in percentage points, over pairs of equal seeds. "
        "Marked *: over all runs of each method, because their seeds differ. p is that of the t-test, corrected (Holm) "
        f"over {plural(tested, 'comparison')}; the intervals are not corrected. Within {MARGIN:g} point: two one-sided "
        "t-tests at 5 %. Seeds needed: the number with which a t-test at 5 % finds a true difference of the size "
        f"observed, or of {MARGIN:g} point, with probability 80 %, estimated from the spread of these runs. + counts "
        "runs without a partner."
    )
    return without_constants(Table("comparisons", "Deconvolution against batch norm", caption, columns, rows))


def _numbers(each: Difference) -> tuple[Value, ...]:
    size = f"{each.sizes[0]}" if len(set(each.sizes)) == 1 else f"{each.sizes[0]} and {each.sizes[1]}"
    marks = f"{' +' + str(each.alone) if each.alone else ''}{'' if each.paired or each.why else ' *'}"
    seeds = Value(size + marks, float(min(each.sizes)))
    if each.interval is None:
        return (seeds, word(each.why), *[Value(MISSING)] * 5)
    return (
        seeds,
        decimal(each.interval.estimate),
        interval(each.interval.low, each.interval.high),
        p_value(each.p_holm),
        word(MISSING if each.equivalence is None else each.equivalence.corrected(each.p_holm)),
        _needed(each.needed),
        _needed(each.needed_for_margin),
    )


def p_value(value: float | None) -> Value:
    """A p-value with three digits, with more where it would be rounded to 0.050; a small one as a bound."""
    if value is not None and value < 0.0005:
        return Value("< 0.001", value)
    return decimal(value, 4 if value is not None and 0.0495 <= value < 0.0505 else 3)


def _needed(power: Power | None) -> Value:
    if power is None:
        return Value(MISSING)
    return count(power.n) if power.n <= _MANY else Value(f"over {count(_MANY).text}", float(power.n))


def _overall(found: Mapping[Place, Difference], ends: Mapping[Place, tuple[Value, Value]]) -> tuple[Table, ...]:
    """Several data sets in one number, of each network and of all of them; none where there is one data set."""
    alike = _alike(found)
    asked = [
        (network, [place for place in places if place[0] == network])
        for places in alike
        for network in sorted({place[0] for place in places})
    ]
    several = [(len({place[0] for place in places}), places) for places in alike]
    asked += [(f"all {networks}", places) for networks, places in several if networks > 1]
    rows = tuple(
        (
            word(name),
            count(places[0][1]),
            word(_without_parts(ends[places[0]][0].text)),
            *_stratified(places, found),
            ends[places[0]][1],
        )
        for name, places in asked
        if len({place[2] for place in places}) > 1
    )
    columns = (
        *facets("Network"),
        EPOCHS,
        SETTINGS,
        Column("Data sets"),
        *numeric("Pairs", "ND \N{MINUS SIGN} BN", "95 % interval"),
        Column("ND higher in"),
        *numeric("Left out"),
        ENVIRONMENT,
    )
    caption = (
        "Mean of the differences above over data sets (all networks: over networks and data sets), with equal weights. "
        "The interval is Student's, with the spread of pairs within each data set (degrees of freedom by Welch and "
        "Satterthwaite), because data sets were chosen and seeds were drawn: it says nothing of other data sets. "
        f"Left out: fewer than {FEWEST_RUNS} pairs, or a result that is not finite."
    )
    table = Table("comparisons_overall", "Over data sets", caption, columns, rows)
    return (without_constants(table),) if rows else ()


def _alike(places: Iterable[Place]) -> list[list[Place]]:
    """Places that differ in their network and data set alone, and in how much of the data set was taken.

    Where a network was run on several parts of one data set, those are distinguished again: each data set counts once.
    """
    groups: dict[tuple[Any, ...], list[Place]] = defaultdict(list)
    for place in places:
        groups[(place[1], _without_parts(place[3]), *place[4:])].append(place)
    found: list[list[Place]] = []
    for group in groups.values():
        split: dict[str, list[Place]] = defaultdict(list)
        once = len({(place[0], place[2]) for place in group}) == len(group)
        for place in group:
            split["" if once else place[3]].append(place)
        found += split.values()
    return found


def _without_parts(settings: str) -> str:
    """Settings as text, less those that say how many images of a data set were taken."""
    return " ".join(part for part in settings.split(" ") if not part.startswith(_PARTS))


def _stratified(places: Sequence[Place], found: Mapping[Place, Difference]) -> tuple[Value, ...]:
    strata = {f"{place[0]} on {place[2]}": found[place] for place in places}
    kept = [place for place in places if found[place].values]
    over, left = over_strata(strata), count(len(places) - len(kept))
    names = word(", ".join(sorted({place[2] for place in kept or places})))
    pairs = count(sum(len(found[place].values) for place in kept))
    if over is None or len({place[2] for place in kept}) < 2:
        return (names, pairs, word("n too small"), Value(MISSING), Value(MISSING), left)
    higher = sum(each.interval is not None and each.interval.estimate > 0 for each in map(found.__getitem__, kept))
    share = Value(f"{higher} of {len(kept)}", higher / len(kept))
    return (names, pairs, decimal(over.estimate), interval(over.low, over.high), share, left)
