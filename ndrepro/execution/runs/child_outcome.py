"""How a training process ended, from its exit code and its own account of it; the two must agree to be believed.

Everything here reads files that the process wrote. Whatever they hold, the answer is an outcome with an error that says
what is wrong, never an exception.
"""

from __future__ import annotations

from pathlib import Path

from ndrepro.protocol.errors import PeerLost, TrainingFailed, from_record
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import EXIT_COMPLETED, EXIT_INTERRUPTED, Result, read_json
from ndrepro.text.signal_names import signal_name
from provenance.errors import ProvenanceError
from provenance.formats.bounded_read import read_tail

_EXPECTED = {EXIT_COMPLETED: "completed", EXIT_INTERRUPTED: "interrupted"}
_SHOWN = 300


def ending(folder: RunFolder, exit_code: int, processes: int = 1) -> tuple[str, ProvenanceError | None]:
    """The outcome of training processes that ended with ``exit_code`` (-n for signal n), and the error if any."""
    if exit_code < 0:
        return "killed", _killed(folder, -exit_code, processes)
    try:
        failed = _first_failure(folder, processes)
        if failed is not None:
            return "failed", failed
        if not folder.result.exists():
            message = f"the training process ended with exit code {exit_code}: {last_line(folder.log)}"
            return "failed", TrainingFailed(message, f"see {folder.log}")
        outcome = Result.from_json(read_json(folder.result)).outcome
    except Exception as error:  # the process may have written anything
        return "failed", unreadable(folder.result, error)
    if outcome != _EXPECTED.get(exit_code):
        said = f"{folder.result.name} reports {outcome!r}, and the training process ended with exit code {exit_code}"
        return "failed", TrainingFailed(said, f"see {folder.log}")
    return outcome, None


def unreadable(path: Path, error: Exception) -> TrainingFailed:
    """The error for a file that the training process wrote and that cannot be read as what it should be."""
    if isinstance(error, ProvenanceError):
        said = error.message.removeprefix(f"{path}: ").removeprefix(f"{path}, ")
    else:
        said = f"malformed ({type(error).__name__}: {error})"
    return TrainingFailed(f"the training process left a bad {path.name}: {said[:_SHOWN]}", f"see {path}")


def last_line(log: Path) -> str:
    """The last line that a process printed into ``log``; a full disk leaves none."""
    try:
        lines = read_tail(log).decode("utf-8", "replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip()[:_SHOWN] for line in reversed(lines) if line.strip()), "it printed nothing")


def _killed(folder: RunFolder, number: int, processes: int) -> TrainingFailed:
    how = "resumes from the last checkpoint" if folder.checkpoint_steps() else "starts over: it left no checkpoint"
    which = "the training process" if processes == 1 else f"one of the {processes} training processes"
    return TrainingFailed(f"{which} was killed by {signal_name(number)}", f"`ndrepro run --resume {folder.root}` {how}")


def _first_failure(folder: RunFolder, processes: int) -> ProvenanceError | None:
    """The error that a training process reports; of several the one that is not about another one's end."""
    found = []
    for rank, path in enumerate(folder.results(processes)):
        error = Result.from_json(read_json(path)).error if path.exists() else None
        if error is not None:
            told = from_record(error)
            where = f"process {rank} of {processes}: " if processes > 1 else ""
            found.append(type(told)(f"{where}{told.message}", str(told.cure)))
    return next((error for error in found if not isinstance(error, PeerLost)), found[0] if found else None)
