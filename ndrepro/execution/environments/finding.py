"""One thing that was looked at before a run, how it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

OK = "ok"  # nothing to do
WARNING = "warning"  # a run works, but less than it could
PROBLEM = "problem"  # a run that needs this fails


@dataclass(frozen=True)
class Finding:
    """What was looked at, its status ("ok", "warning", "problem"), what was found, and the cure ("" where none)."""

    name: str
    status: str
    message: str
    cure: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self)
