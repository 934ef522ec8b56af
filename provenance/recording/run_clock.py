"""When a run started and ended, by a clock that may be set meanwhile.

The wall clock is corrected by NTP, by hand, or when a virtual machine is resumed. The monotonic clock is set by nobody
(but stands still while a machine is suspended), so it says where the other one went back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from provenance.attestation.manifest import CLOCK, Resource

# a clock that is corrected by less is not spoken of
SET_BACK_SECONDS = 60


@dataclass(frozen=True)
class RunClock:
    """Both clocks as they were when a run started, which is when this is made."""

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _began: float = field(default_factory=time.monotonic)

    def end(self) -> tuple[datetime, tuple[Resource, ...]]:
        """``end_time`` of the run, which ends now."""
        return end_time(self.started, time.monotonic() - self._began, datetime.now(UTC))


def end_time(started: datetime, elapsed_seconds: float, now: datetime) -> tuple[datetime, tuple[Resource, ...]]:
    """When a run ended, and where the clock was set back meanwhile a byproduct that says by how much.

    The time that passed is then that of the monotonic clock: a run is not shorter than it was, and none ends before it
    started. ``set_back_seconds`` is what the ledger's entry of the end is earlier by.
    """
    passed = started + timedelta(seconds=elapsed_seconds)
    seconds = round((passed - now).total_seconds())
    if seconds < SET_BACK_SECONDS:
        return max(started, now), ()
    return passed, (Resource(CLOCK, annotations={"set_back_seconds": seconds}),)
