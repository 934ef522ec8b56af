"""The replication study's own verdicts, as it defines them, and next to them what it left open.

Obadage et al. 2025 ("[Re] Network Deconvolution", ReScience C), captions of Tables 4 and 6: **green** where the
reproduced value is greater than the original, **black** where it is less but by no more than 10 %, **red** where it is
lower by more than 10 %. Whether "10 %" is relative to the original or percentage points is not said there; its
discussion says relative, its printed colours follow points. Both rules are here, under their names. Equal values are
black, as the paper prints them.

Pure functions over arrays of accuracies in percent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ndrepro.protocol.errors import UsageError

GREEN, BLACK, RED = "green", "black", "red"
RULES = ("relative", "absolute")
THRESHOLD_PCT = 10.0
_ROUNDING = 1e-9  # decimals such as 0.1 * 72.89 are not exact in binary


def colours(original_pct: ArrayLike, reproduced_pct: ArrayLike, rule: str = "relative") -> NDArray[np.str_]:
    """The colour of every pair. ``rule``: "relative" to the original value, or "absolute" percentage points.

    Raises UsageError for another rule, unequal lengths, or values that are no finite numbers.
    """
    original, reproduced = _numbers(original_pct, "original"), _numbers(reproduced_pct, "reproduced")
    if original.shape != reproduced.shape:
        raise UsageError(
            f"{original.shape} original and {reproduced.shape} reproduced values", "give one reproduced value for each"
        )
    if rule not in RULES:
        raise UsageError(f"no rule '{rule}'", f"one of {', '.join(RULES)}")
    allowed = THRESHOLD_PCT / 100 * np.abs(original) if rule == "relative" else THRESHOLD_PCT
    inside = original - reproduced <= allowed + _ROUNDING
    return np.where(reproduced > original, GREEN, np.where(inside, BLACK, RED))


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(numbers)):
        raise UsageError(f"{what}: not all are finite numbers", "leave out what has no value, and say so")
    return numbers
