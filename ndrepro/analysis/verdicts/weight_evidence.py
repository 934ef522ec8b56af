"""The weights, momentum and checkpoints of a run beside those of its repetition."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_state import read_tensors


@dataclass(frozen=True)
class WeightEvidence:
    """The weights after the repetition's last step beside the run's: ``None`` where the run kept none there.

    ``distance`` is the largest of all parameters' and buffers', each relative to its own norm; infinite where names,
    shapes, whole numbers or NaNs differ. ``momentum`` is the distance of all the optimizer's momentum, where both
    kept a checkpoint there.
    """

    identical: bool | None
    distance: float | None
    momentum: float | None = None


@dataclass(frozen=True)
class CheckpointEvidence:
    """The checkpoints that no equal state digest binds: the steps of those that are ``compared``, as both kept them,
    and of those ``left``; the largest ``distance`` and ``momentum`` of the first, as of the weights.
    """

    compared: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    distance: float = 0.0
    momentum: float = 0.0


def compare_weights(original: RunFolder, again: RunFolder, step: int, final: bool) -> WeightEvidence:
    """The repetition's last weights beside the run's final ones, or its checkpoint after the same step."""
    path, prefix = (original.weights, "") if final else (original.checkpoint(step), "net.")
    if not path.exists() or not again.weights.exists():
        return WeightEvidence(None, None)
    then, now = _tensors(path, prefix), _tensors(again.weights, "")
    identical = then.keys() == now.keys() and all(_same_bits(then[name], now[name]) for name in then)
    kept = [folder.checkpoint(step) for folder in (original, again)]
    momentum = None
    if all(each.exists() for each in kept):
        momentum = _whole_distance(*(_tensors(each, "momentum.") for each in kept))
    return WeightEvidence(identical, 0.0 if identical else _largest_distance(then, now), momentum)


def compare_checkpoints(original: RunFolder, again: RunFolder, steps: Collection[int]) -> CheckpointEvidence:
    """The checkpoints after these steps, of which either may be missing."""
    distance = momentum = 0.0
    compared = []
    for step in sorted(steps):
        kept = [folder.checkpoint(step) for folder in (original, again)]
        if all(each.exists() for each in kept):
            compared.append(step)
            distance = max(distance, _largest_distance(*(_tensors(each, "net.") for each in kept)))
            momentum = max(momentum, _whole_distance(*(_tensors(each, "momentum.") for each in kept)))
    left = tuple(sorted(set(steps).difference(compared)))
    return CheckpointEvidence(tuple(compared), left, distance, momentum)


def _tensors(path: Path, prefix: str) -> dict[str, Any]:
    found, _ = read_tensors(path)
    return {name.removeprefix(prefix): array for name, array in found.items() if name.startswith(prefix)}


def _same_bits(one: Any, two: Any) -> bool:
    return bool(one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes())


def _largest_distance(then: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The largest of the tensors' own relative distances: beside one of large numbers, others might be anything."""
    distances = _distances(then, now)
    return math.inf if distances is None else max((_relative(*each) for each in distances), default=0.0)


def _whole_distance(then: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The distance of all tensors relative to their norm."""
    distances = _distances(then, now)
    if distances is None:
        return math.inf
    return _relative(math.hypot(*(apart for apart, _ in distances)), math.hypot(*(norm for _, norm in distances)))


def _distances(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """Distance and norm of each tensor of real numbers; ``None`` where names, shapes or whole numbers differ."""
    import numpy as np

    if then.keys() != now.keys() or any(then[name].shape != now[name].shape for name in then):
        return None
    found = []
    for name, array in then.items():
        if _same_bits(array, now[name]):
            continue
        if not np.issubdtype(array.dtype, np.floating):
            return None
        one, two = array.astype(np.float64), now[name].astype(np.float64)
        found.append((float(np.linalg.norm(one - two)), float(np.linalg.norm(one))))
    return found


def _relative(apart: float, norm: float) -> float:
    if apart == 0.0:
        return 0.0
    return apart / norm if norm > 0 and math.isfinite(apart) else math.inf
