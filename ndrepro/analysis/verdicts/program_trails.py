"""Compares the numerical trails of a program's processes with those of its repetition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ndrepro.analysis.verdicts.compared_part import ComparedPart, ValueDifference, largest_first
from ndrepro.analysis.verdicts.reproduction_claims import Tolerance
from ndrepro.protocol.layout import RunFolder
from ndrepro.text.plurals import all_of, bounded, plural
from provenance.errors import TrailError
from provenance.formats.digest import file_digest
from provenance.formats.trail import Divergence, Trail, compare, shared_records
from provenance.observation.process_record import read_processes

# of each trail, the largest
_LOSSES = 100


def compare_trails(then: RunFolder, now: RunFolder) -> tuple[ComparedPart, Divergence | None, float, int]:
    """The trails of both runs' processes, in pairs; where they diverge, and how far losses do."""
    before, after = trails_of(then.trails), trails_of(now.trails)
    if not before:
        more = f"; {plural(len(after), 'trail')} now" if after else ""
        return ComparedPart("trail", 0, False, False, f"none was recorded{more}"), None, 0.0, 0
    steps, first = 0, None
    if len(before) != len(after):
        words = f"{plural(len(before), 'trail')} then, {len(after)} now"
        return ComparedPart("trail", len(before), False, False, words), None, 0.0, 0
    places: list[str] = []
    losses: list[ValueDifference] = []
    for number, (one, other) in enumerate(_pairs(before, after, {**_ranks(then), **_ranks(now)}), 1):
        a, b = Trail(one), Trail(other)
        largest = max((each.by for each in losses), default=0.0)
        try:
            found = compare(a, b)
        except TrailError as error:
            return ComparedPart("trail", len(before), False, False, error.message), first, largest, steps
        steps += found.compared
        if {found.compared} != set(found.lengths):  # what only one of them has was not compared
            words = f"{found.lengths[0]} steps then, {found.lengths[1]} now, {found.compared} of both"
            return ComparedPart("trail", len(before), False, False, words), first, largest, steps
        if found.divergence is not None or not found.identical:
            first = first or found.divergence
            which = f"trail {number} of {len(before)}, " if len(before) > 1 else ""
            places.append(f"{which}{_where(found.divergence)}")
            losses += _loss_differences(a, b, which)
    if not places:
        return ComparedPart("trail", steps, True, True, f"{plural(steps, 'step')} equal bit for bit"), None, 0.0, steps
    largest = max((each.by for each in losses), default=0.0)
    distance = f"losses: {largest_first(losses) or 'equal'}" if largest < math.inf else "losses cannot be compared"
    evidence = f"{bounded('; '.join(places))}; {distance}"
    return ComparedPart("trail", steps, False, largest <= Tolerance.loss, evidence), first, largest, steps


def _pairs(before: Sequence[Path], after: Sequence[Path], known: Mapping[Path, str]) -> list[tuple[Path, Path]]:
    """Each trail with one of its rank, where both sides have the same ranks: with an equal one, else in the order of
    their starts, since processes that start together swap places."""
    if len(before) == 1:  # which need not be read for that
        return [(before[0], after[0])]
    ranks = {path: known.get(path, "") for path in (*before, *after)}
    if sorted(map(ranks.__getitem__, before)) != sorted(map(ranks.__getitem__, after)):
        ranks = dict.fromkeys(ranks, "")
    left, found = [*after], dict[Path, Path]()
    digests = {path: file_digest(path).sha256 for path in ranks}
    for is_equal in (True, False):
        for one in (each for each in before if each not in found):
            others = (each for each in left if ranks[each] == ranks[one])
            other = next((each for each in others if not is_equal or digests[each] == digests[one]), None)
            if other is not None:
                found[one] = other
                left.remove(other)
    return [(one, found[one]) for one in before]


def _ranks(folder: RunFolder) -> dict[Path, str]:
    """The rank of the process of each trail that is of a process with one."""
    processes = read_processes(folder.processes) if folder.processes.is_file() else ()
    return {folder.trails / Path(name).name: each.ranks.get("RANK", "") for each in processes for name in each.trails}


def _where(first: Divergence | None) -> str:
    return "" if first is None else f"bits differ from step {first.step} ({all_of(first.tensors) or 'the loss alone'})"


def _loss_differences(first: Trail, second: Trail, which: str) -> list[ValueDifference]:
    """The largest differences of the losses of steps that both have, by infinity where no loss was seen."""
    import numpy as np

    one, other = shared_records(first, second)
    a, b = (np.ascontiguousarray(rows[:, 1]).view(np.float64) for rows in (one, other))
    if not ((a != 0) & np.isfinite(a)).any():  # nothing but hashes, of which none is near another
        return [ValueDifference(math.inf, f"{which}loss", "none", "none")]
    with np.errstate(all="ignore"):
        spans = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    spans[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    spans = np.nan_to_num(spans, nan=math.inf)
    rows = [int(row) for row in np.argsort(-spans, kind="stable")[:_LOSSES] if spans[row]]
    return [
        ValueDifference(float(spans[row]), f"{which}step {int(one[row, 0])}", repr(float(a[row])), repr(float(b[row])))
        for row in rows
    ]


def trails_of(folder: Path) -> list[Path]:
    """The trails in a folder: trail-PID-NANOSECONDS-NUMBER.bin, in the order of their processes' starts."""
    found = [path for path in folder.glob("trail-*.bin") if path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: [int(part) for part in path.stem.split("-")[2:] if part.isdecimal()])
