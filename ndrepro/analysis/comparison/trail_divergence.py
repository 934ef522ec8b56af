"""Where the numbers of two runs diverge, and how their difference grows, step by step, from their numerical trails.

Trails are read as plain files (numpy, no torch). Losses come from the trail's bits and are those of single steps. A
difference of zero is a finding like any other; a trail that is truncated or starts later than the other is
compared over their common steps, with a note.

The relative difference of two losses a and b is |a - b| / max(|a|, |b|), 0 where their bits are equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.formats.trail import Trail, compare, float_of, shared_records

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Floats = numpy.typing.NDArray[numpy.float64]
    Integers = numpy.typing.NDArray[numpy.int64]
    Records = numpy.typing.NDArray[numpy.uint64]

_CHUNK = 1024


@dataclass(frozen=True)
class Point:
    """One step: tensors whose bits differ after it, the two losses' difference, absolute and relative."""

    step: int
    tensors: int
    loss_difference: float
    relative: float


@dataclass(frozen=True)
class TrailDivergence:
    """The first step whose bits differ.

    Attributes:
        step: 0 for the state before the first step.
        equal_steps: how many steps before it both have, all of them equal.
        loss_differs: whether the loss of that step does: if not, its forward pass was the same.
        losses: of that step, in both; None at the first record, which has none.
        tensors: those whose bits differ after it, in the network's order.
        of: how many tensors there are.
        same_batch_by: the network's first running statistics, if this step changed them to the same bits in both: then
            both saw the same batch; "" where they differ, stayed as they were, or there are none.
        everywhere_from: the first step after which all of them differ; None where that never comes.
        growth: the difference at this step, 1, 2, 4, 8 ... steps later, and at the last.
        largest: the step with the largest relative difference of losses.
    """

    step: int
    equal_steps: int
    loss_differs: bool
    losses: tuple[float, float] | None
    tensors: tuple[str, ...]
    of: int
    same_batch_by: str
    everywhere_from: int | None
    growth: tuple[Point, ...]
    largest: Point

    @property
    def in_first_forward_pass(self) -> bool:
        """Whether the first record differs in running statistics alone.

        A program's first record is taken when its optimizer is first called, after the first forward pass.
        """
        return self.step == 0 and bool(self.tensors) and all(map(_is_statistic, self.tensors))

    @property
    def nearest_tensor(self) -> str:
        """The tensor that lies nearest to where the difference came in; "" where no tensor differs.

        Running statistics are taken in the forward pass: where the loss differs, it is the first of them that does.
        Where the losses agree the difference came in on the way back, where the last layers are first.
        """
        if not self.tensors or self.step == 0:
            return self.tensors[0] if self.tensors else ""
        if not self.loss_differs:
            return self.tensors[-1]
        return next(filter(_is_statistic, self.tensors), self.tensors[0])

    def to_json(self) -> dict[str, Any]:
        """Every attribute, and the tensor that is nearest to the cause."""
        return {**vars(self), "nearest_tensor": self.nearest_tensor}


@dataclass(frozen=True)
class TrailComparison:
    """Two trails: each one's first and last step (-1: no record), records compared, where they diverge, notes.

    ``where`` names the process of a program of several, and the trail of a process of several; "" else.
    """

    first_steps: tuple[int, int]
    last_steps: tuple[int, int]
    shared_records: int
    divergence: TrailDivergence | None
    identical: bool
    notes: tuple[str, ...] = ()
    where: str = ""


def compare_trails(first: Path, second: Path) -> TrailComparison:
    """Compare two trail files. Raises TrailError where one is none, or where they follow different tensors."""
    a, b = Trail(first), Trail(second)
    found = compare(a, b)
    notes = [f"the {name} trail: {problem}" for name, trail in _named(a, b) for problem in trail.problems()]
    notes += [f"the {name} trail begins at step {trail.start:,}" for name, trail in _named(a, b) if trail.start]
    lasts = [trail.last() or (-1, math.nan) for trail in (a, b)]
    divergence = _divergence(a, b, found.divergence.step) if found.divergence else None
    return TrailComparison(
        found.starts, (lasts[0][0], lasts[1][0]), found.compared, divergence, found.identical, tuple(notes)
    )


def growth(first: Trail, second: Trail) -> tuple[Integers, Integers, Floats, Floats]:
    """Of every step that both have: its number, tensors that differ, the losses' difference, absolute and relative."""
    import numpy as np

    a, b = shared_records(first, second)
    counts = np.empty(len(a), dtype=np.int64)
    for place in range(0, len(a), _CHUNK):
        chunk = slice(place, place + _CHUNK)
        counts[chunk] = np.count_nonzero(a[chunk, 2:] != b[chunk, 2:], axis=1)
    bits = np.array(a[:, 1]), np.array(b[:, 1])
    losses = bits[0].view(np.float64), bits[1].view(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = np.where(bits[0] == bits[1], 0.0, np.abs(losses[0] - losses[1]))
        largest = np.maximum(np.abs(losses[0]), np.abs(losses[1]))
        relative = np.where(difference == 0, 0.0, difference / largest)
    if first.start != second.start:
        # the first record of the later one is a state without a loss
        difference[:1] = relative[:1] = 0.0
    return np.array(a[:, 0], dtype=np.int64), counts, difference, relative


def _named(first: Trail, second: Trail) -> tuple[tuple[str, Trail], tuple[str, Trail]]:
    return ("first", first), ("second", second)


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2].startswith("running_")


def _divergence(first: Trail, second: Trail, step: int) -> TrailDivergence:
    import numpy as np

    a, b = shared_records(first, second)
    steps, counts, difference, relative = growth(first, second)
    loss_differs = a[:, 1] != b[:, 1]
    if first.start != second.start:
        loss_differs[:1] = False
    # by place, not by number: a damaged trail may count its steps wrongly
    at = int(((counts > 0) | loss_differs | (a[:, 0] != b[:, 0])).argmax())

    def point(place: int) -> Point:
        return Point(int(steps[place]), int(counts[place]), float(difference[place]), float(relative[place]))

    names, width = [tensor.name for tensor in first.tensors], len(first.tensors)
    everywhere = np.flatnonzero(counts[at:] == width)
    # a loss that is no number in one of them differs more than any number
    worst = at + int(np.nan_to_num(relative[at:], nan=np.inf).argmax())
    return TrailDivergence(
        step=step,
        equal_steps=max(at - 1, 0),
        loss_differs=bool(loss_differs[at]),
        losses=None if at == 0 else (float_of(int(a[at, 1])), float_of(int(b[at, 1]))),
        tensors=tuple(names[index] for index in np.flatnonzero(a[at, 2:] != b[at, 2:])),
        of=width,
        same_batch_by=_same_batch_by(names, a[: at + 1], b[: at + 1]),
        everywhere_from=int(steps[at + int(everywhere[0])]) if everywhere.size else None,
        growth=tuple(point(place) for place in _doubling(at, len(steps))),
        largest=point(worst),
    )


def _same_batch_by(names: list[str], a: Records, b: Records) -> str:
    """The first running statistics, if the last of these steps changed them, and to the same bits in both."""
    column = next((2 + index for index, name in enumerate(names) if _is_statistic(name)), None)
    if column is None or len(a) < 2 or a[-1, column] != b[-1, column] or a[-1, column] == a[-2, column]:
        return ""
    return names[column - 2]


def _doubling(start: int, end: int) -> list[int]:
    """start, start + 1, + 2, + 4, ... below ``end``, and the last place."""
    places = [start]
    distance = 1
    while start + distance < end:
        places.append(start + distance)
        distance *= 2
    return places if places[-1] == end - 1 else [*places, end - 1]
