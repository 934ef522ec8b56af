"""Which cells have equal bits, where each pair diverges, and how the difference grows: from signed trails.

A trail counts only with the digest that the run's manifest signed. Two runs agree when their trails are equal in every
step; a cell agrees with another when all their pairs (same subject, same replicate) do. Runs without a trail, or with
another than was signed, are listed and not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ndrepro.analysis.comparison.trail_divergence import compare_trails
from ndrepro.analysis.results.result_row import ResultRow, manifest_of
from ndrepro.analysis.sensitivity.experimental_design import Condition, ExperimentalDesign, Replicate
from ndrepro.analysis.sensitivity.growth import Growth, growth_of
from ndrepro.protocol.layout import RunFolder
from provenance.errors import ProvenanceError, TrailError
from provenance.formats.digest import file_digest


@dataclass(frozen=True)
class PairOfCells:
    """Two cells of one subject: pairs that could be compared, how many have equal bits, where the others diverge.

    ``steps`` are the first steps that differ, of the pairs that diverge; ``tensor`` is the one nearest to where the
    difference came in, most often, and ``forward`` how many pairs diverge in the loss (the forward pass) already.
    ``problem`` says why pairs that have both trails could not be compared.
    """

    first: str
    second: str
    pairs: int
    equal: int
    steps: tuple[int, ...] = ()
    tensor: str = ""
    forward: int = 0
    problem: str = ""


@dataclass(frozen=True)
class BitComparison:
    """One subject: every pair of cells, groups of cells with equal bits, growth against the reference, what lacks.

    ``repeated`` counts runs that were run again with nothing changed and have both trails, ``repeated_equal`` those
    of them with bit-identical trails.
    """

    subject: str
    pairs: tuple[PairOfCells, ...]
    groups: tuple[tuple[str, ...], ...]
    growth: tuple[Growth, ...]
    without_trail: Mapping[str, str] = field(default_factory=dict)
    repeated: int = 0
    repeated_equal: int = 0

    def pair(self, first: str, second: str) -> PairOfCells | None:
        """Two cells by label, in either order."""
        return next((item for item in self.pairs if {item.first, item.second} == {first, second}), None)


def compare_bits(design: ExperimentalDesign, subject: str) -> BitComparison:
    """Compare the trails of every pair of cells, replicate by replicate."""
    trails: dict[Condition, dict[Replicate, tuple[Path, str]]] = {}
    without: dict[str, str] = {}
    for cell in design.cells:
        for replicate, run in design.of(subject, cell).items():
            try:
                trails.setdefault(cell, {})[replicate] = signed_trail(run)
            except ProvenanceError as error:
                without[run.run_id] = error.message
    cells = [cell for cell in design.cells if cell in trails]
    pairs = [
        _compare(trails[first], trails[second], first.label, second.label)
        for place, first in enumerate(cells)
        for second in cells[place + 1 :]
    ]
    reference = trails.get(design.reference, {})
    growths = [
        growth_of([(reference[each][0], found[each][0]) for each in found if each in reference], cell.label)
        for cell, found in trails.items()
        if cell != design.reference
    ]
    labels = [cell.label for cell in cells]
    again = _repeats(design, subject)
    grown = tuple(filter(None, growths))
    return BitComparison(subject, tuple(pairs), _groups(labels, pairs), grown, without, len(again), sum(again))


def _repeats(design: ExperimentalDesign, subject: str) -> list[bool]:
    """For every repeated run that has both trails, whether its bits were reproduced."""
    first = {run.identity: run for (name, _), runs in design.runs.items() if name == subject for run in runs.values()}
    found = []
    for run in design.repeats:
        if run.identity in first:
            with suppress(ProvenanceError):
                found.append(signed_trail(run)[1] == signed_trail(first[run.identity])[1])
    return found


def signed_trail(run: ResultRow) -> tuple[Path, str]:
    """A run's trail and its digest, as its manifest has it. Raises TrailError where it is not there or another."""
    folder, manifest = RunFolder(run.folder), manifest_of(run)
    if manifest is None:
        raise TrailError("its manifest has changed meanwhile")
    signed = manifest.artifact(folder.trail.name)
    if signed is None:
        raise TrailError("it recorded no trail")
    if not folder.trail.is_file():
        raise TrailError("its trail was not kept")
    if file_digest(folder.trail).sha256 != signed.sha256:
        raise TrailError("its trail is not the one that was signed")
    return folder.trail, signed.sha256


def _compare(
    first: Mapping[Replicate, tuple[Path, str]], second: Mapping[Replicate, tuple[Path, str]], label: str, other: str
) -> PairOfCells:
    shared = [replicate for replicate in first if replicate in second]
    equal, forward, problem = 0, 0, ""
    steps, tensors = [], []
    for replicate in shared:
        (path, digest), (other_path, other_digest) = first[replicate], second[replicate]
        if digest == other_digest:
            equal += 1
            continue
        try:
            found = compare_trails(path, other_path)
        except TrailError as error:
            problem = error.message
            continue
        if found.divergence is None:
            problem = "they are of unequal length, and equal as far as both go"
            continue
        steps.append(found.divergence.step)
        tensors.append(found.divergence.nearest_tensor)
        forward += found.divergence.loss_differs
    tensor = Counter(tensors).most_common(1)[0][0] if tensors else ""
    return PairOfCells(label, other, len(shared), equal, tuple(sorted(steps)), tensor, forward, problem)


def _groups(labels: Sequence[str], pairs: Sequence[PairOfCells]) -> tuple[tuple[str, ...], ...]:
    """Cells put together whose pairs are all equal, in the order of the cells."""
    same = {frozenset((item.first, item.second)) for item in pairs if item.pairs and item.equal == item.pairs}
    groups: list[list[str]] = []
    for label in labels:
        home = next((group for group in groups if frozenset((group[0], label)) in same), None)
        if home is None:
            groups.append([label])
        else:
            home.append(label)
    return tuple(tuple(group) for group in groups)
