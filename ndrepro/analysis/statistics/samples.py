"""Numbers that a statistic may be made of: finite, and enough of them. Anything else is refused by name.

Nothing is left out on the way: whoever has a run without a finite result decides what to do about it, in sight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import NdreproError, UsageError

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Floats = numpy.typing.NDArray[numpy.float64]


class TooLittle(NdreproError):
    """No such number can be given: too few values, values that are not finite, or an unequal design."""


def sample(values: Iterable[float], what: str = "the sample", least: int = 2) -> Floats:
    """The values as float64 (n,). Raises TooLittle for fewer than ``least``, or for one that is not finite."""
    import numpy as np

    found: Floats = np.asarray([*values], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(found))
    if bad.size:
        some = ", ".join(str(place) for place in bad[:5])
        raise TooLittle(
            f"{what}: {bad.size} of {len(found)} values are not finite (at {some})",
            "say what is to be done with runs that diverged; they are not left out by themselves",
        )
    if len(found) < least:
        cure = "one seed gives no interval: run more seeds" if len(found) == 1 else "run more seeds"
        said = "1 value" if len(found) == 1 else f"{len(found)} values"
        raise TooLittle(f"{what}: {said}, at least {least} are needed", cure)
    return found


def samples(groups: Mapping[str, Iterable[float]]) -> dict[str, Floats]:
    """Each group as ``sample`` has it, by name. Raises TooLittle, naming the group, also where there is none."""
    if not groups:
        raise TooLittle("there are no groups")
    return {name: sample(values, name) for name, values in groups.items()}


def check_level(confidence: float) -> None:
    """Raises UsageError unless ``confidence`` lies strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence={confidence!r}, expected a number between 0 and 1", "0.95 is usual")
