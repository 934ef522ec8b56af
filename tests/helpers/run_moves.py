"""How far single runs are from one another, as the pages of findings say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from ndrepro.analysis.sensitivity.analysis import Sensitivity


@dataclass(frozen=True)
class Moves:
    """Differences of test accuracy in points, each of two runs that differ in one thing."""

    points: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many of the pairs differ at all."""
        return sum(each != 0 for each in self.points)

    @property
    def rms(self) -> float:
        """Root mean square."""
        return sqrt(sum(each**2 for each in self.points) / len(self.points))

    @property
    def largest(self) -> float:
        """The largest, whatever its sign."""
        return max(map(abs, self.points))


def moves(found: Sensitivity, method: str, cell: str) -> Moves:
    """The runs of a method in a cell beside those of the same seeds in the reference."""
    design = found.design
    (subject,) = (each for each in design.subjects if f"_{method}_" in each)
    (there,) = (each for each in design.cells if each.label == cell)
    ours, theirs = design.of(subject, there), design.of(subject, design.reference)
    return Moves(tuple(ours[key].test_accuracy_percent - theirs[key].test_accuracy_percent for key in theirs))


def leads(found: Sensitivity) -> Sequence[float]:
    """By how many points deconvolution is above batch norm, in every cell."""
    return [each.found.difference.estimate for each in found.contrasts[0].cells if each.found is not None]
