"""How a command ends: the exit code, the two lines of an error, the JSON of a result.

| code | meaning                                                                           |
| ---- | --------------------------------------------------------------------------------- |
| 0    | done; the answer is yes                                                           |
| 1    | the answer is no: a check of ``verify`` fails, ``doctor`` finds a problem         |
| 2    | wrong usage: an unknown command, option, experiment, study, environment, setting  |
| 3    | could not run: a run that failed or was interrupted, a full disk …                |

What is not there is the one or the other in every command: a name that the program should know is wrong usage, a run,
file, folder or key that should be on this machine is not available (3).

An error is one line that says what and where, and one that says what to do. With ``--json`` it is also
``{"error": {"type", "message", "cure", "exit_code"}}`` on standard output.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

from ndrepro.cli.display import terminal
from ndrepro.protocol import extras
from ndrepro.protocol.errors import to_record
from ndrepro.text.plain_json import plain
from provenance.errors import ProvenanceError, UsageError

if TYPE_CHECKING:
    from typer import TyperException

DONE = 0
NO = 1
USAGE = 2
COULD_NOT = 3
# raised when a member of a command's JSON is renamed, removed or changes its type
JSON_VERSION = 1

_OS_CURES = {
    errno.ENOSPC: "free space there, or choose another folder (--runs DIR)",
    errno.EDQUOT: "the quota is used up: free space there, or choose another folder (--runs DIR)",
    errno.EACCES: "ask for the permission, or choose another folder (--runs DIR)",
    errno.EPERM: "ask for the permission, or choose another folder (--runs DIR)",
    errno.EROFS: "the file system is read-only: choose another folder (--runs DIR)",
    errno.ENOENT: "check the path",
}


def exit_code(error: BaseException) -> int:
    """The exit code that an error leaves with."""
    return USAGE if isinstance(error, UsageError) or _is_typers(error) else COULD_NOT


def record_of(error: BaseException) -> dict[str, Any]:
    """Class, message, cure and exit code of any error, each on one line; no error is without a cure."""
    error = extras.translated(error)
    record = to_record(error)
    if _is_typers(error):
        context = getattr(error, "ctx", None)
        record["message"] = error.format_message()
        record["cure"] = f"see `{context.command_path if context else 'ndrepro'} --help`"
    elif isinstance(error, KeyboardInterrupt):
        record["message"] = "interrupted"
        record["cure"] = "type the command again"
    elif isinstance(error, OSError):
        record["message"] = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        record["cure"] = _OS_CURES.get(error.errno or 0, "check the path and the disk, then type the command again")
    elif not isinstance(error, ProvenanceError):
        record["message"] = f"{record['type']}: {record['message']}"
        record["cure"] = "this is a defect of ndrepro: the same command with --debug shows where"
    record["cure"] = record["cure"] or _general_cure(error)
    one_line = {key: " ".join(text.split()) for key, text in record.items()}
    return {**one_line, "exit_code": exit_code(error)}


def report(error: BaseException, *, as_json: bool, debug: bool) -> int:
    """Print an error (traceback only where ``debug``), as far as its streams take it; returns its exit code."""
    record = record_of(error)
    with contextlib.suppress(OSError):
        if debug:
            import traceback

            traceback.print_exception(error, file=sys.stderr)
        print_error(record)
    with contextlib.suppress(OSError):
        if as_json:
            print_json({"error": record})
    return int(record["exit_code"])


def print_error(record: dict[str, Any]) -> None:
    """The two lines of an error on standard error: what, and the cure."""
    # a child's message may be anything: it begins no line of its own
    terminal.write_line(f"error: {terminal.single_line(record['message'])}", sys.stderr)
    terminal.write_line(f"  hint: {terminal.single_line(record['cure'])}", sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on standard output, in ASCII, so that no locale can break it; NaN and infinities are words."""
    terminal.write_text(document_text(document))


def answer(document: dict[str, Any], lines: Iterable[str], as_json: bool, *, holds: bool = True) -> int:
    """Print a result as JSON or as its lines; returns the exit code, 1 where the answer is no."""
    if as_json:
        print_json(document)
    else:
        for line in lines:
            terminal.write_line(line)
    return DONE if holds else NO


def document_text(document: dict[str, Any]) -> str:
    """The JSON of a command's result, with the version of its form as the first member."""
    return json_text({"json_version": JSON_VERSION, **document})


def json_text(document: Any) -> str:
    """A document as JSON in ASCII; NaN and infinities are words."""
    return json.dumps(plain(document), indent=1, allow_nan=False)


def _is_typers(error: BaseException) -> TypeGuard[TyperException]:
    """Whether the command line's library raised it, which is not imported where it had no part in the command."""
    library = sys.modules.get("typer")
    return library is not None and isinstance(error, library.TyperException)


def _general_cure(error: BaseException) -> str:
    if isinstance(error, UsageError):
        return "see `ndrepro --help`, and `ndrepro list --names` for the names"
    return "`ndrepro doctor` looks for the usual causes"
