"""What the ledger beside a folder of runs says of each of them: begun, ended, and with which manifest.

It is read and its chain checked once for many runs. A last line that a power cut tore is no harm, since the next
entry ends it; any other damage is a reason to believe none of its runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provenance.ledger import Ledger

_MOST = 3


@dataclass(frozen=True)
class Ended:
    """One run in the ledger: entries (sequence, digest) that began it, and its last entry, if that is an end."""

    name: str
    began: tuple[tuple[int, str], ...]
    manifest: str | None = None
    outcome: str | None = None
    reason: str = ""
    open: bool = True


@dataclass(frozen=True)
class Begun:
    """A folder's ledger: every run that was begun, and what is wrong with the chain. ``there``: there is a ledger."""

    there: bool
    runs: Mapping[str, Ended]
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Begun:
        """The ledger at ``path``; an empty one that is not there. Raises StorageError where it cannot be read."""
        if not path.is_file():
            return cls(False, {})
        ledger = Ledger(path)
        problems = [str(problem) for problem in ledger.verify() if not problem.reason.startswith("torn")]
        runs: dict[str, Ended] = {}
        for entry in ledger.entries():
            if not entry.run:
                continue
            before = runs.get(entry.run, Ended(str(entry.fields.get("name", "")), ()))
            if entry.event == "ended":
                manifest, outcome = entry.fields.get("manifest"), entry.fields.get("outcome")
                reason = str(entry.fields.get("reason") or "")
                runs[entry.run] = Ended(before.name, before.began, manifest, outcome, reason, open=False)
            else:
                runs[entry.run] = Ended(before.name, (*before.began, (entry.sequence, entry.digest)))
        return cls(True, runs, tuple(problems[:_MOST]))

    def against(self, run: str, began: tuple[int, str], digest: str, outcome: str) -> str:
        """Why a manifest is not how its run ended, by check 8 of ``provenance.verify``; "" where it is.

        ``began`` is the entry that the manifest points at, ``digest`` that of the manifest's file.
        """
        if not self.there:
            return ""
        if self.problems:
            return f"its ledger is damaged: {'; '.join(self.problems)}"
        entry = self.runs.get(run)
        if entry is None or began not in entry.began:
            return f"ledger entry {began[0]}, which began it, is not there"
        if entry.open:
            return "it was begun again and has no end in the ledger"
        if entry.manifest != digest:
            return "the ledger says that it ended with another manifest than this one"
        return "" if entry.outcome == outcome else f"the ledger says another outcome than {outcome!r}"
