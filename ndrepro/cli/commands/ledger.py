"""``ndrepro ledger``: is the list of runs whole, what is its head, and how did a run end by it?"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.errors import RunNotFound
from ndrepro.protocol.layout import RunsFolder
from ndrepro.text.plurals import plural
from provenance.attestation.ledger import Ledger, read_heads
from provenance.attestation.trust import TrustPolicy
from provenance.errors import NotFoundError
from provenance.ledger_entries.audit import SERIOUS, CountedEntry, LedgerAudit

_SHOWN = 20

LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", metavar="FILE", help="The ledger; by default that of the folder of runs.")
]


def verify(
    ledger: LedgerFile = None,
    keys: options.Keys = None,
    witness: options.Witness = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Verify every entry of the ledger: signed by trusted keys, none missing, no second history.

    Entries that nobody trusted signed are named and ignored. Exit 1 if an entry is missing, forged or copied, or the
    ledger forks.

    Example: ndrepro ledger verify --witness heads.jsonl
    """
    path, policy = _path(ledger, runs), _policy(keys)
    audit = Ledger(path, read_heads(witness) if witness else ()).audit(policy.keys())
    serious = [problem for problem in audit.problems if problem.kind in SERIOUS]
    if as_json:
        problems = [vars(problem) for problem in audit.problems]
        document = {"ledger": str(path.absolute()), "ok": not serious, **_counts(audit, policy), "problems": problems}
        output.print_json({**document, "runs_affected": _affected(audit)})
        return output.NO if serious else output.DONE
    _print_counts(_counts(audit, policy))
    lines = [f"{'FAIL' if each.kind in SERIOUS else 'warn'}       {each}{_whose(each.run)}" for each in audit.problems]
    terminal.write_some(lines, _SHOWN, "           and {} more")
    affected = _affected(audit)
    if affected:
        terminal.write_line(f"affected   {plural(len(affected), 'run')}: {', '.join(affected[:_SHOWN])}")
    terminal.write_line("")
    verdict = f"NOT verified: {plural(len(serious), 'problem')}" if serious else "verified"
    terminal.write_line(f"{verdict}; {terminal.here(path)}")
    return output.NO if serious else output.DONE


def head(
    ledger: LedgerFile = None,
    keys: options.Keys = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Print the last entry that a trusted key signed, one line of JSON: it vouches for the whole ledger before it.

    Kept where the ledger's writers cannot change it, it is a witness.

    Example: ndrepro ledger head >> heads.jsonl
    """
    return _print_proof(_path(ledger, runs), _policy(keys), "", as_json)


def prove(
    run: options.Run,
    ledger: LedgerFile = None,
    keys: options.Keys = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Print the entries from a run's start to the ledger's head: the proof of how it ended, one entry a line.

    It is a ledger by itself: verify RUN --ledger FILE takes it too.

    Example: ndrepro ledger prove RUN > proof.jsonl
    """
    return _print_proof(_path(ledger, runs), _policy(keys), _identifier(run, runs), as_json)


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="What ledger prove printed.")],
    keys: options.Keys = None,
    witness: options.Witness = None,
    as_json: options.Json = False,
) -> int:
    """Verify the proof of how a run ended, without the ledger and without the run.

    Exit 1 if an entry is missing or not signed by a trusted key.

    Example: ndrepro ledger check-proof proof.jsonl
    """
    path, policy = _path(file, Path()), _policy(keys)
    audit = Ledger(path, read_heads(witness) if witness else ()).audit(policy.keys())
    # a proof begins later than its ledger, and every entry follows the one before
    wrong = [str(problem) for problem in audit.problems if (problem.line, problem.kind) != (1, "missing")]
    if not audit.entries or audit.entries[0].line != 1:
        wrong.append("its first entry is signed by no trusted key")
    wrong += [
        f"line {counted.line}: it does not follow the entry before"
        for before, counted in pairwise(audit.entries)
        if counted.entry.previous != before.entry.digest
    ]
    run = audit.entries[0].entry.run if audit.entries else ""
    if audit.entries and audit.entries[0].entry.event != "begun":
        wrong.append(f"it does not begin where run {run} did: earlier attempts are not in it")
    said = [_said(counted, policy) for counted in audit.entries if counted.entry.run == run]
    last = _said(audit.entries[-1], policy) if audit.entries else None
    lines = [*map(_line, said), *(f"FAIL       {problem}" for problem in wrong[:_SHOWN])]
    if last and not wrong:
        how = f"how run {run} ended" if said[-1]["event"] == "ended" else f"run {run} began, and has no end here"
        lines += ["", f"verified: {how}, as of entry {last['sequence']}, {last['time']}"]
    else:
        lines += ["", f"NOT verified: {plural(len(wrong), 'problem')}"]
    document = {"ok": not wrong, "run": run, "entries": said, "head": last, "problems": wrong}
    return output.answer(document, lines, as_json, holds=not wrong)


def _path(ledger: Path | None, runs: Path) -> Path:
    path = RunsFolder(runs).ledger if ledger is None else ledger
    if not path.exists():
        raise NotFoundError(
            f"ledger {path}: no such file", "name one: --ledger FILE, or the folder of runs: --runs DIR"
        )
    return path


def _policy(files: list[Path] | None) -> TrustPolicy:
    return TrustPolicy.from_files(files or ())


def _identifier(text: str, runs: Path) -> str:
    """The identifier of the run that RUN means, by its manifest; of one whose folder is gone, the text itself."""
    try:
        folder = options.run_folder(runs, text, completed=False)
    except RunNotFound:
        return text
    return read_recorded(folder).manifest.invocation_id if folder.manifest.exists() else folder.root.name


def _print_proof(path: Path, policy: TrustPolicy, run: str, as_json: bool) -> int:
    """Print the lines from a run's first entry to the head, without a run the head alone."""
    lines = [line.decode("utf-8").rstrip("\n") for line in Ledger(path).proof(policy.keys(), run)]
    return output.answer({"ledger": str(path.absolute()), "run": run or None, "lines": lines}, lines, as_json)


def _counts(audit: LedgerAudit, policy: TrustPolicy) -> dict[str, Any]:
    """Entries that count: how many, how many are unsigned, and how many each key signed, by its name."""
    trusted = policy.keys()
    names = {key.base64: key.name for key in trusted}
    signed = Counter(names[counted.entry.key] for counted in audit.entries if counted.entry.key)
    unsigned = [counted.entry.sequence for counted in audit.entries if not counted.entry.key]
    return {
        "entries": len(audit.entries),
        "runs": len({counted.entry.run for counted in audit.entries if counted.entry.run}),
        "unsigned": [unsigned[0], unsigned[-1]] if unsigned else [],
        "signed": signed,
    }


def _print_counts(counts: dict[str, Any]) -> None:
    terminal.write_line(f"entries    {counts['entries']}, of {plural(counts['runs'], 'run')}")
    if counts["unsigned"]:
        first, last = counts["unsigned"]
        terminal.write_line(f"unsigned   entries {first} to {last}: from before entries were signed")
    for name, number in counts["signed"].items():
        terminal.write_line(f"signed     {number} by {name}")


def _affected(audit: LedgerAudit) -> list[str]:
    """The runs that began before a gap, and those whose entries are on a second history."""
    gaps = [problem.before for problem in audit.problems if problem.kind == "missing"]
    known = max((sequence for sequence in gaps if sequence is not None), default=0)
    before = (each.entry.run for each in audit.entries if None in gaps or each.entry.sequence < known)
    forked = (problem.run for problem in audit.problems if problem.kind == "fork")
    return [run for run in dict.fromkeys((*before, *forked)) if run]


def _whose(run: str) -> str:
    return f" (run {run})" if run else ""


def _said(counted: CountedEntry, policy: TrustPolicy) -> dict[str, Any]:
    entry, trusted = counted.entry, policy.keys()
    signer = next((key.name for key in trusted if key.base64 == entry.key), "nobody: it is unsigned")
    return {
        "sequence": entry.sequence,
        "time": entry.time,
        "event": entry.event,
        "run": entry.run,
        "fields": entry.fields,
        "signer": signer,
    }


def _line(entry: dict[str, Any]) -> str:
    outcome = f" ({entry['fields'].get('outcome')})" if entry["event"] == "ended" else ""
    return f"entry {entry['sequence']:<5} {entry['time'][:19]}Z  {entry['event']}{outcome}, signed by {entry['signer']}"
