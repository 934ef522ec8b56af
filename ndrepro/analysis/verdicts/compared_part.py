"""One part of what two runs of a program left, as it was compared: how near it is, in words that name each value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import bounded


@dataclass(frozen=True)
class ComparedPart:
    """One thing that was compared: ``same`` bit for bit, ``near`` within tolerances; ``aside`` names what was not."""

    name: str
    compared: int
    same: bool
    near: bool
    evidence: str
    aside: tuple[str, ...] = ()

    def as_claim(self) -> ClaimCheck:
        """The claim that it is equal or near; not checked where nothing was compared."""
        return claim(self.name, (self.same or self.near) if self.compared else None, self.evidence)


@dataclass(frozen=True, order=True)
class ValueDifference:
    """A value that differs ``by`` so much, relative to the larger one, with its name and both values as text."""

    by: float
    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} {self.then} then, {self.now} now ({self.by:.2g})"


def largest_first(found: Iterable[ValueDifference]) -> str:
    """Every difference, relative, the largest first."""
    return bounded("; ".join(map(str, sorted(found, reverse=True))))
