"""How far single runs are from one another, as the pages of findings say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from ndrepro.analysis.sensitivity.analysis import Sensitivity
from ndrepro.analysis.sensitivity.numbers import Breakdown, CellNumbers, Numbers
from ndrepro.analysis.statistics.equivalence import EQUIVALENT, NEGLIGIBLE


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


def numbers_of(found: Sensitivity, method: str) -> Numbers:
    """The numbers of the one network that was trained with a method."""
    (numbers,) = (each for each in found.numbers if f"_{method}_" in each.subject)
    return numbers


def line_of(found: Sensitivity, method: str, cell: str) -> CellNumbers:
    """One cell's numbers."""
    (line,) = (each for each in numbers_of(found, method).cells if each.cell == cell)
    return line


def shift(found: Sensitivity, method: str, cell: str, digits: int = 2) -> str:
    """By how many points a cell moved the mean: "+0.58 (-1.51 to +2.67)"."""
    against = line_of(found, method, cell).against
    assert against is not None
    numbers = against.difference.estimate, against.difference.low, against.difference.high
    return "{} ({} to {})".format(*(f"{each:+.{digits}f}" for each in numbers))


def visible(found: Sensitivity, method: str, cells: Sequence[str]) -> str:
    """The true shifts that so many pairs show four times in five: "1.0, 0.8, 1.1"."""
    powers = [line_of(found, method, cell).detectable for cell in cells]
    return ", ".join(f"{power.difference:.1f}" for power in powers if power is not None)


def equivalent(found: Sensitivity, method: str) -> tuple[str, ...]:
    """The cells that the tests of equivalence establish within the margin."""
    cells = numbers_of(found, method).cells
    return tuple(
        line.cell for line in cells if line.equivalence and line.equivalence.verdict in (EQUIVALENT, NEGLIGIBLE)
    )


def along(breakdowns: Sequence[Breakdown], axis: str) -> Breakdown:
    """The components of variance along an axis."""
    return next(each for each in breakdowns if each.title.startswith(axis))


def share(breakdown: Breakdown, source: str, *, alone: bool = False) -> str:
    """A source's share of the variance, with all its interactions when it changes ``alone``: "6 % (2 to 14)"."""
    part = breakdown.components.of(source)
    numbers = (part.share, part.share_low, part.share_high)
    if alone:
        assert part.total_share is not None and part.total_interval is not None
        numbers = (part.total_share, *part.total_interval)
    return "{:.0f} % ({:.0f} to {:.0f})".format(*(100 * each for each in numbers))
