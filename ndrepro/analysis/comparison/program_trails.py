"""The numerical trails of two recorded programs, process by process: where the first of them diverges.

Processes that left a trail are paired by RANK where both have one, else in the order of their starts; the trails of a
process (one for each set of tensors that it followed) in their order. Steps are those of the optimizers of one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.comparison.trail_divergence import TrailComparison, compare_trails
from ndrepro.protocol.layout import RunFolder
from ndrepro.text.plurals import plural
from provenance.errors import ProvenanceError
from provenance.formats.trail import Trail
from provenance.observation.process_record import ProcessRecord, TorchRecord, read_processes


@dataclass(frozen=True)
class ProgramTrails:
    """The trails of two programs side by side.

    ``comparison`` is that of the pair that diverges first, or of the longest where none does; ``None`` where no pair
    could be compared. It is identical only where every trail of either program has an equal one. ``other_tensors``:
    a pair follows the tensors of different networks. ``notes`` says what could not be compared, and what else diverges.
    """

    comparison: TrailComparison | None
    other_tensors: bool
    notes: tuple[str, ...]


def compare_program_trails(first: RunFolder, second: RunFolder) -> ProgramTrails:
    """Compare the trails in two run folders. Raises ProvenanceError where a processes.json cannot be read."""
    sides = [_by_process(folder) for folder in (first, second)]
    if not any(sides):
        return ProgramTrails(None, False, ("neither program left a numerical trail",))
    notes: list[str] = []
    found: list[TrailComparison] = []
    other = False
    alone = sorted(sides[0].keys() ^ sides[1].keys())
    for name in alone:
        notes.append(f"only the {'first' if name in sides[0] else 'second'} run has a trail of {name}")
    several = len(sides[0].keys() | sides[1].keys()) > 1
    for name in (each for each in sides[0] if each in sides[1]):
        a, b = sides[0][name], sides[1][name]
        if len(a) != len(b):
            alone.append(name)
            notes.append(f"{name}: {plural(len(a), 'trail')} and {len(b)}, one for each set of tensors")
        for number, pair in enumerate(zip(a, b, strict=False), 1):
            words = [name] * several + [f"trail {number}"] * (max(len(a), len(b)) > 1)
            where = ", ".join(words)
            try:
                if Trail(pair[0]).tensors != Trail(pair[1]).tensors:
                    other = True
                    notes.append(f"{where or name}: {other_tensors(*map(Trail, pair))}")
                else:
                    found.append(replace(compare_trails(*pair), where=where))
            except ProvenanceError as error:
                alone.append(name)
                notes.append(error.message)
    return _first_divergence(found, other, notes, whole=not alone and not other)


def _first_divergence(found: list[TrailComparison], other: bool, notes: list[str], *, whole: bool) -> ProgramTrails:
    if not found:
        return ProgramTrails(None, other, tuple(notes))
    apart = sorted(
        (each for each in found if each.divergence), key=lambda each: each.divergence.step if each.divergence else 0
    )
    chosen = apart[0] if apart else max(found, key=lambda each: each.shared_records)
    for each in apart[1:4]:
        if each.divergence:
            notes.append(f"{each.where} diverges at step {each.divergence.step:,} in {each.divergence.nearest_tensor}")
    identical = whole and all(each.identical for each in found)
    return ProgramTrails(replace(chosen, identical=identical), other, tuple(notes))


def other_tensors(first: Trail, second: Trail) -> str:
    """In which names two trails differ that follow the tensors of different networks."""
    names = [dict.fromkeys(tensor.name for tensor in trail.tensors) for trail in (first, second)]
    only = [[name for name in names[side] if name not in names[1 - side]] for side in (0, 1)]
    some = "; ".join(
        f"only the {which} has {', '.join(mine[:2])}{' and others' * (len(mine) > 2)}"
        for which, mine in zip(("first", "second"), only, strict=True)
        if mine
    )
    shapes = "the same names in other shapes, types or order"
    return f"the trails follow the tensors of different networks and cannot be compared ({some or shapes})"


def _by_process(folder: RunFolder) -> dict[str, list[Path]]:
    """The trails of each process that left some, by "rank 0" or "process 1"."""
    trained = [each for each in read_processes(folder.processes) if each.trails]
    ranks = [each.rank for each in trained]
    named = None not in ranks and len(set(ranks)) == len(ranks)
    found = {}
    for place, process in enumerate(trained, 1):
        name = f"rank {process.rank}" if named else f"process {place}"
        found[name] = [folder.trails / Path(trail).name for trail in process.trails]
    return dict(sorted(found.items(), key=lambda item: int(item[0].split()[1])))


def observed(folder: RunFolder) -> dict[str, Any]:
    """What was seen of the programs' processes, as ``provenance.comparison.groups`` compares it: of those that trained.

    Members: flags, threads, seeds, states (before the first step, of random generators that were drawn from), loaders,
    optimizers, and the number of processes. Of several processes, those of the first; of the others what differs from
    it, with the rank.
    """
    trained = [each for each in read_processes(folder.processes) if each.torch and each.torch.optimizers]
    found: dict[str, Any] = {"training processes": len(trained)}
    for place, process in enumerate(trained):
        suffix = "" if place == 0 else f" of rank {process.rank if process.rank is not None else place}"
        for name, value in _of_process(process).items():
            if not suffix or found.get(name) != value:
                found[name + suffix] = value
    return found


def _drawn_from(torch: TorchRecord) -> dict[str, str]:
    """The states before the first step of the generators that something was drawn from, or may have been."""
    moments = {each.name: each.random for each in torch.moments}
    start = moments.get("first step", {})
    rest = [moments.get(name, {}) for name in ("import", "exit")]
    return {name: state for name, state in start.items() if any(each.get(name) != state for each in rest)}


def used_no_gpu(seen: Mapping[str, Any]) -> bool:
    """Whether a program, according to ``observed``, is known to have used the CPU alone before its first step."""
    return "seeds" in seen and "cuda" not in seen["seeds"]


def _of_process(process: ProcessRecord) -> Mapping[str, Any]:
    torch = process.torch
    start = next((each for each in torch.moments if each.name == "first step"), None) if torch else None
    end = next((each for each in torch.moments if each.name == "exit"), None) if torch else None
    if torch is None or start is None:
        return {}
    threads = {name: start.flags[name] for name in ("threads", "interop_threads") if name in start.flags}
    changed = {
        f"{name} at exit": value
        for name, value in (end.flags.items() if end else ())
        if start.flags.get(name) != value and name not in threads
    }
    return {
        "flags": {**{name: value for name, value in start.flags.items() if name not in threads}, **changed},
        "threads": threads,
        "seeds": {name: each for name, each in start.seeds.items()},
        "states": _drawn_from(torch),
        "data loaders": list(torch.loaders),
        "optimizers": list(torch.optimizers),
    }
