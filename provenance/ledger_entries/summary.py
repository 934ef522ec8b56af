"""What a list of runs says of each run: started, ended, and with which manifest; read and audited once for many runs.

Only entries that count are taken (``ledger_audit``), and of a run those together that keys of one holder signed: what
others say of it neither resumes nor ends it. A gap, where entries are missing, concerns the runs that were
started before it: what is missing may be a later attempt at any of them. Runs that were started after it are whole.
Before and after are by the entries' sequence, which is signed: whoever may write the file can put lines in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from provenance.errors import LedgerError
from provenance.ledger_entries.audit import SERIOUS, CountedEntry, LedgerAudit
from provenance.ledger_entries.entry import CHECKPOINT, embedded_key

_SHOWN = 20


class UnrelatedLedger(LedgerError):
    """A ledger that says nothing of a run: no entry of it, nor any of the key that signed it."""


@dataclass(frozen=True)
class SignedEnd:
    """What a manifest says that the ledger must say as well.

    Attributes:
        run: the identifier.
        start: sequence and digest of the ledger's entry that the manifest points at.
        manifests: SHA-256 of the manifest's file, by signer.
        outcome: how the run ended.
        parameters: SHA-256 of the external parameters' canonical JSON.
        keyids: of the recorder's key, and of those that it was rotated to and from.
    """

    run: str
    start: tuple[int, str]
    manifests: tuple[str, ...]
    outcome: str
    parameters: str
    keyids: tuple[str, ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SignedEnd:
        """What ``dataclasses.asdict`` and JSON made of one."""
        lists = {name: tuple(document[name]) for name in ("start", "manifests", "keyids")}
        return cls(**{**document, **lists})


@dataclass
class LedgerRun:
    """One run in the ledger.

    Attributes:
        name: what people call it.
        starts: sequence, digest and digest of the parameters of every entry that began or resumed it.
        last: the sequence of its last entry. digest: that entry's.
        open: whether that is no end.
        manifest: the digest of the manifest with which it ended, "" for none.
        outcome: how it ended. reason: why there is no manifest.
        unsigned: whether its last entry is from before entries were signed.
        ignored: how many entries of it do not count.
        holder: of the keys that signed its entries, "" where it is not known.
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
    digest: str = ""
    holder: str = ""

    def read(self, counted: CountedEntry) -> None:
        """Take the next entry of this run: the last one says how it ended."""
        entry = counted.entry
        if entry.event == CHECKPOINT:
            return
        self.last, self.open, self.unsigned = entry.sequence, entry.event != "ended", not entry.key
        self.digest, self.holder = entry.digest, self.holder or counted.holder
        if self.open:
            self.name = self.name or str(entry.fields.get("name", ""))
            self.starts.append([entry.sequence, entry.digest, entry.fields.get("parameters")])
        self.manifest, self.outcome, self.reason = (
            "" if self.open else str(entry.fields.get(key) or "") for key in ("manifest", "outcome", "reason")
        )


@dataclass
class LedgerSummary:
    """A ledger, read at once.

    Attributes:
        exists: False where there is no ledger: it then has no run, and no objection to any.
        runs: every run that an entry which counts names, in the order of their starts.
        gaps: the sequence before which entries are missing (None: anywhere), and a description, of every gap.
        problems: everything that is wrong with the list in itself, as text.
        keyids: of the keys that signed the entries which count, or entries of another list; "" for unsigned ones.
        others: what other holders than the first say of a run.
    """

    exists: bool
    runs: dict[str, LedgerRun] = field(default_factory=dict)
    gaps: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    keyids: list[str] = field(default_factory=list)
    others: dict[str, list[LedgerRun]] = field(default_factory=dict)

    @classmethod
    def of(cls, exists: bool, audit: LedgerAudit) -> LedgerSummary:
        """What an audit found."""
        keys = {counted.entry.key: counted.entry for counted in audit.entries}
        named = (key.keyid if (key := embedded_key(entry)) else "" for entry in keys.values())
        made = cls(exists, keyids=sorted({*named, *audit.elsewhere}))
        for counted in audit.entries:
            if counted.entry.run:
                made._of_holder(counted.entry.run, counted.holder).read(counted)
        for problem in audit.problems:
            if problem.kind == "missing":
                made.gaps.append([problem.before, str(problem)])
            if problem.run in made.runs and problem.kind in ("ignored", "unknown"):
                made.runs[problem.run].ignored += 1
            if problem.kind in SERIOUS and len(made.problems) < _SHOWN:
                made.problems.append(str(problem))
        return made

    def to_json(self) -> dict[str, Any]:
        """Every field; of every run its fields in their order, by each holder."""
        runs = {name: [list(vars(each).values()) for each in self.of_run(name)] for name in self.runs}
        return {**asdict(self), "runs": runs, "others": {}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LedgerSummary:
        """What ``to_json`` wrote."""
        runs = {name: [LedgerRun(*values) for values in each] for name, each in document["runs"].items()}
        first = {name: each[0] for name, each in runs.items()}
        return cls(**{**document, "runs": first, "others": {name: each[1:] for name, each in runs.items() if each[1:]}})

    def of_run(self, run: str) -> list[LedgerRun]:
        """What each holder says of a run, the one first who has its first entry."""
        return [*([self.runs[run]] if run in self.runs else []), *self.others.get(run, ())]

    def _of_holder(self, run: str, holder: str) -> LedgerRun:
        """The run by the holder of an entry; an entry or run of no known holder goes with any."""
        known = self.of_run(run)
        for each in known:
            if not holder or each.holder in ("", holder):
                return each
        made = LedgerRun()
        if known:
            self.others.setdefault(run, []).append(made)
        else:
            self.runs[run] = made
        return made

    def end_of(self, end: SignedEnd) -> LedgerRun:
        """The run in the ledger, of which a manifest is the end.

        Raises UnrelatedLedger for a list of others' runs, LedgerError saying why the manifest is not the run's end.
        """
        starts = ((run, start) for run in self.of_run(end.run) for start in run.starts)
        found, began = next((each for each in starts if tuple(each[1][:2]) == end.start), (LedgerRun(), None))
        if began is None:
            raise self._no_start(end)
        sequence, _, parameters = began
        gap = next((text for before, text in self.gaps if before is None or before > sequence), None)
        if gap is not None:
            raise LedgerError(f"{gap}; it may be of this run, which began before", "get the original again")
        if parameters is not None and parameters != end.parameters:
            raise LedgerError(
                f"entry {end.start[0]}, which began this run, has the digest of other parameters than the manifest",
                "the manifest's were changed after the run began: ask its author",
            )
        if found.open:
            what = "a later attempt began" if len(found.starts) > 1 else "the run began"
            raise LedgerError(
                f"{what} at entry {found.last} and has no end",
                "its last entries were removed, or the run is not finished: ndrepro run --resume",
            )
        if found.manifest not in end.manifests:
            raise LedgerError(
                f"the run ended (entry {found.last}) with another manifest than this one",
                "this one was replaced, perhaps by that of an earlier attempt: get the last one",
            )
        if found.outcome != end.outcome:
            raise LedgerError(f"entry {found.last} says another outcome than {end.outcome!r}", "ask its author")
        return found

    def _no_start(self, end: SignedEnd) -> LedgerError:
        """Why the entry that began a run is not there: the list was made by others, or it was removed from the list.

        A list in which the run's signer has no entry shows as little as none at all: it is what ``reproduce`` leaves
        beside a run that came without its ledger. One with entries of the signer must have this run's beginning.
        """
        whole = bool(self.runs) and not self.gaps
        if whole and end.run not in self.runs and {"", *end.keyids}.isdisjoint(self.keyids):
            return UnrelatedLedger(
                "the ledger here is of other runs: it has no entry of this one, nor any by whoever recorded it"
            )
        why = f" ({self.gaps[0][1]})" if self.gaps else ""
        return LedgerError(
            f"entry {end.start[0]}, which began this run, is not there, or no trusted key signed it{why}",
            "its last entries were removed, or it is another ledger: get the one that was beside the run",
        )
