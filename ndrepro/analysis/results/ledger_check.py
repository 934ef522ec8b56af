"""What the ledger beside a folder of runs says of each run: started, ended, and with which manifest.

It is read and its chain is verified once for many runs. A last line that a power cut tore is harmless, since the next
entry ends it; any other damage is a reason to trust none of its runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.attestation.ledger import Entry, Ledger, Problem

_SHOWN = 3


@dataclass
class LedgerRun:
    """One run in the ledger: its name, the entries that started it, and how it ended; ``open`` while it has no end."""

    name: str
    starts: list[list[Any]] = field(default_factory=list)
    open: bool = True
    manifest: str = ""
    outcome: str = ""
    reason: str = ""

    def read(self, entry: Entry) -> None:
        """Take the next entry of this run: the last one says how it stands."""
        self.open = entry.event != "ended"
        if self.open:
            self.starts.append([entry.sequence, entry.digest])
            return
        self.manifest, self.outcome, self.reason = (
            str(entry.fields.get(key) or "") for key in ("manifest", "outcome", "reason")
        )


@dataclass
class LedgerCheck:
    """A folder's ledger, read at once: its runs by identifier, and what is wrong with its chain.

    ``exists`` is False where there is no ledger: it then has no run, and no objection to any.
    """

    exists: bool
    runs: dict[str, LedgerRun] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> LedgerCheck:
        """The ledger at ``path``. Raises StorageError where it cannot be read."""
        made = cls(path.is_file())
        for item in Ledger(path).audited() if made.exists else ():
            if isinstance(item, Problem):
                if not item.reason.startswith("torn") and len(made.problems) < _SHOWN:
                    made.problems.append(str(item))
            elif item.run:
                made.runs.setdefault(item.run, LedgerRun(str(item.fields.get("name", "")))).read(item)
        return made

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: of every run its fields in their order."""
        runs = {name: list(vars(run).values()) for name, run in self.runs.items()}
        return {"exists": self.exists, "runs": runs, "problems": self.problems}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LedgerCheck:
        """What ``to_json`` wrote."""
        runs = {name: LedgerRun(*values) for name, values in document["runs"].items()}
        return cls(document["exists"], runs, document["problems"])

    def objection(self, run: str, start: tuple[int, str], manifests: Collection[str], outcome: str) -> str:
        """Why a manifest is not how its run ended, by check 8 of ``verify``; "" where it is.

        Args:
            run: the identifier in the manifest.
            start: sequence and digest of the ledger entry that the manifest points at.
            manifests: SHA-256 of the manifest's file, by signer.
            outcome: the outcome in the manifest.
        """
        if not self.exists:
            return ""
        if self.problems:
            return f"its ledger is damaged: {'; '.join(self.problems)}"
        found = self.runs.get(run)
        if found is None or [*start] not in found.starts:
            return f"ledger entry {start[0]}, which began it, is not there"
        if found.open:
            return "it was started again and has no end in the ledger"
        if found.manifest not in manifests:
            return "the ledger says that it ended with another manifest than this one"
        return "" if found.outcome == outcome else f"the ledger says another outcome than {outcome!r}"
