"""One diagnostic finding: its subject, status and remedy."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"  # nothing to do
WARNING = "warning"  # a run works, but less than it could
PROBLEM = "problem"  # a run that needs this fails


@dataclass(frozen=True)
class Finding:
    """The subject, its status ("ok", "warning", "problem"), the finding, and the remedy ("" where none)."""

    name: str
    status: str
    message: str
    cure: str = ""

    @classmethod
    def of(cls, name: str, good: bool, message: str, cure: str, otherwise: str = WARNING) -> Finding:
        """A finding that is ok where ``good``, and else has the status ``otherwise`` and a cure."""
        return cls(name, OK, message) if good else cls(name, otherwise, message, cure)
