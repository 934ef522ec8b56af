"""How far pairs of runs are apart, step by step: their losses, and the tensors whose bits are still equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.comparison.trail_divergence import growth
from provenance.formats.trail import Trail


@dataclass(frozen=True)
class Growth:
    """Divergence of pairs of runs by step, over the steps that all pairs have.

    ``median``, ``low`` and ``high`` are of the relative difference of the two losses over the pairs, ``equal_tensors``
    is the median share of tensors with equal bits, from 0 to 1. ``first_steps`` are the first steps that differ, of
    the pairs that do.
    """

    cell: str
    steps: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    equal_tensors: tuple[float, ...]
    first_steps: tuple[int, ...]
    pairs: int

    @property
    def identical(self) -> int:
        """Pairs whose bits are equal at every step."""
        return self.pairs - len(self.first_steps)


def growth_of(pairs: Sequence[tuple[Path, Path]], label: str) -> Growth | None:
    """Of pairs of trail files. None where no pair follows the same tensors or shares a step. Raises TrailError."""
    import numpy as np

    curves, shares, firsts = [], [], []
    steps = None
    for first, second in pairs:
        trails = Trail(first), Trail(second)
        if trails[0].tensors != trails[1].tensors:
            continue
        numbers, counts, _, relative = growth(*trails)
        if not len(numbers):
            continue
        if steps is None or len(numbers) < len(steps):
            steps = numbers
        curves.append(np.nan_to_num(relative, nan=np.inf))
        shares.append(1 - counts / max(1, len(trails[0].tensors)))
        apart = np.flatnonzero((counts > 0) | (relative != 0))
        firsts += [int(numbers[apart[0]])] if apart.size else []
    if steps is None:
        return None
    losses, tensors = (np.stack([each[: len(steps)] for each in table]) for table in (curves, shares))

    def middle(table: Any) -> tuple[float, ...]:
        return tuple(map(float, np.quantile(table, 0.5, axis=0, method="lower")))

    low, high = (tuple(map(float, end)) for end in (losses.min(axis=0), losses.max(axis=0)))
    return Growth(
        label, tuple(map(int, steps)), middle(losses), low, high, middle(tensors), tuple(sorted(firsts)), len(curves)
    )
