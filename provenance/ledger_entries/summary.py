"""What a list of runs says of each run: begun, ended, and with which manifest; read and audited once for many runs.

Only entries that count are taken (``ledger_audit``). A gap, where entries are missing, concerns the runs that were
begun before it: what is missing may be a later attempt at any of them. Runs that were begun after it are whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from provenance.errors import LedgerError
from provenance.ledger_entries.audit import SERIOUS, CountedEntry, LedgerAudit

_SHOWN = 20


@dataclass
class LedgerRun:
    """One run in the ledger.

    Attributes:
        name: what people call it.
        starts: sequence, digest and line of every entry that began or resumed it.
        last: the sequence of its last entry.
        open: whether that is no end.
        manifest: the digest of the manifest with which it ended, "" for none.
        outcome: how it ended. reason: why there is no manifest.
        unsigned: whether its last entry is from before entries were signed.
        ignored: how many entries of it do not count.
    """

    name: str = ""
    starts: list[list[Any]] = field(default_factory=list)
    last: int = 0
    open: bool = True
    manifest: str = ""
    outcome: str = ""
    reason: str = ""
    unsigned: bool = False
    ignored: int = 0

    def read(self, counted: CountedEntry) -> None:
        """Take the next entry of this run: the last one says how it ended."""
        entry = counted.entry
        self.last, self.open, self.unsigned = entry.sequence, entry.event != "ended", not entry.key
        if self.open:
            self.name = self.name or str(entry.fields.get("name", ""))
            self.starts.append([entry.sequence, entry.digest, counted.line])
        self.manifest, self.outcome, self.reason = (
            "" if self.open else str(entry.fields.get(key) or "") for key in ("manifest", "outcome", "reason")
        )


@dataclass
class LedgerSummary:
    """A ledger, read at once.

    Attributes:
        exists: False where there is no ledger: it then has no run, and no objection to any.
        runs: every run that an entry which counts names, in the order of their starts.
        gaps: line and description of every place where entries are missing (line 0: anywhere).
        problems: everything that is wrong with the list in itself, as text.
    """

    exists: bool
    runs: dict[str, LedgerRun] = field(default_factory=dict)
    gaps: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, exists: bool, audit: LedgerAudit) -> LedgerSummary:
        """What an audit found."""
        made = cls(exists)
        for counted in audit.entries:
            if counted.entry.run:
                made.runs.setdefault(counted.entry.run, LedgerRun()).read(counted)
        for problem in audit.problems:
            if problem.kind == "missing":
                made.gaps.append([problem.line, str(problem)])
            if problem.run in made.runs and problem.kind in ("ignored", "unknown"):
                made.runs[problem.run].ignored += 1
            if problem.kind in SERIOUS and len(made.problems) < _SHOWN:
                made.problems.append(str(problem))
        return made

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: of every run its fields in their order."""
        return {**asdict(self), "runs": {name: list(vars(run).values()) for name, run in self.runs.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LedgerSummary:
        """What ``to_json`` wrote."""
        return cls(**{**document, "runs": {name: LedgerRun(*values) for name, values in document["runs"].items()}})

    def end_of(self, run: str, start: tuple[int, str], manifests: Collection[str], outcome: str) -> LedgerRun:
        """The run in the ledger, of which a manifest is the end.

        Args:
            run: the identifier in the manifest.
            start: sequence and digest of the ledger's entry that the manifest points at.
            manifests: SHA-256 of the manifest's file, by signer.
            outcome: the outcome in the manifest.

        Raises LedgerError saying why it is not its end.
        """
        found = self.runs.get(run, LedgerRun())
        begun = next((line for *entry, line in found.starts if (*entry,) == start), None)
        cut = "its tail was cut off, or it is another ledger: get the one that was beside the run"
        if begun is None:
            why = f" ({self.gaps[0][1]})" if self.gaps else ""
            raise LedgerError(
                f"entry {start[0]}, which began this run, is not there, or no trusted key signed it{why}", cut
            )
        gap = next((text for line, text in self.gaps if not line or line > begun), None)
        if gap is not None:
            raise LedgerError(f"{gap}; it may be of this run, which began before", "get the original again")
        if found.open:
            what = "a later attempt began" if len(found.starts) > 1 else "the run began"
            raise LedgerError(
                f"{what} at entry {found.last} and has no end",
                "its tail was cut off, or the run goes on: ndrepro run --resume",
            )
        if found.manifest not in manifests:
            raise LedgerError(
                f"the run ended (entry {found.last}) with another manifest than this one",
                "this one was replaced, perhaps by that of an earlier attempt: get the last one",
            )
        if found.outcome != outcome:
            raise LedgerError(f"entry {found.last} says another outcome than {outcome!r}", "ask its author")
        return found
