"""How recorded code will be executed, as text; and the question to the reviewer where no sandbox confines it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from ndrepro.cli.display import terminal
from ndrepro.execution.reproduce.code_execution import Execution, RecordedCode, permitted, plan_execution, sandbox_of
from ndrepro.execution.reproduce.step_replay import VerifiedRun
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.verdicts import NO_SANDBOX
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home

_FILES, _PATCH_LINES, _PATCH_BYTES = 20, 400, 1 << 20


def sandbox_line(execution: Execution) -> str:
    """The sandbox in one line."""
    if execution.sandbox != NO_SANDBOX:
        return f"sandbox    {execution.sandbox}: no network, nothing of yours visible, one folder writable"
    allowed = f"; allowed: {execution.allowed}" if execution.allowed else ""
    return f"sandbox    none ({execution.reason}){allowed}"


def lines(execution: Execution) -> Iterator[str]:
    """The sandbox, and what the recorded code is against its commit."""
    yield sandbox_line(execution)
    code = execution.code
    if code.own:
        yield "code       that of this checkout, by its digest"
        return
    if code.commit is None:  # what takes its place is listed among the differences
        return
    where = f"on {code.branch}" if code.branch else "on no branch here"
    yield f"code       commit {code.commit[:12]}, {where}"
    if code.changed:
        yield f"{'':<10} patched: {_some(code.changed)}"
    if code.untracked:
        yield f"{'':<10} untracked: {_some(tuple(item.path for item in code.untracked))}"
    if code.dirty is None:
        yield f"{'':<10} whether it was changed against the commit was not recorded"


def confine(run: VerifiedRun, wanted: str, runs: Path, *, trust_code: bool, ask: bool) -> Sandbox | None:
    """The sandbox for a replay of a run's step. Raises SandboxError where there is none, nor consent to do without."""
    planned = plan_execution(run.manifest, run.folder.root, wanted)
    allowed = permitted(planned, trust_code=trust_code, consent=consent if ask else None)
    return sandbox_of(allowed, RunsFolder(runs), default_home())


def consent(execution: Execution) -> bool:
    """Show the code and ask; no terminal is no consent."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    terminal.write_text("\nNo sandbox: this code would run with all your rights.")
    for item in execution.code.untracked:
        size = "size unknown" if item.bytes is None else f"{item.bytes:,} bytes"
        terminal.write_line(f"untracked  {item.path} ({size})")
    _print_patch(execution.code)
    return typer.confirm("Run it?", default=False)


def _print_patch(code: RecordedCode) -> None:
    if code.patch is None:
        return
    terminal.write_text(f"patch      {terminal.here(code.patch)}\n")
    with code.patch.open(encoding="utf-8", errors="backslashreplace") as text:
        for line in itertools.islice(text, _PATCH_LINES):
            terminal.write_line(line.rstrip("\n")[:_PATCH_BYTES])
        if text.readline():
            terminal.write_line(f"… the patch is longer than {_PATCH_LINES} lines: read the file")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {plural(len(names) - _FILES, 'other file')}" if len(names) > _FILES else ""
    return ", ".join(names[:_FILES]) + more
