"""``provenance.record``: a run of any Python script, recorded from inside the script itself.

    with provenance.record(name="fit", parameters={"lr": 0.1}, seeds={"numpy": 3}) as run:
        for step in range(100):
            run.log(step=step, loss=train())
        run.artifact("model.bin")
        run.note("converged", True)

    @provenance.record(name="fit")
    def fit(run, lr=0.1): ...           # each call is a run; its arguments are the parameters

In: a folder that is new or empty, or none: then it is RUNS/NAME/RUN, as that of every other run. Out, in that folder:
metrics.jsonl, artifacts/, environment.json (at start and end), the source as it was, and the signed manifest; beside it
the ledger. An exception ends in a signed manifest that says "failed" with its type and message; Ctrl-C, SIGTERM and
SIGHUP in one that says "interrupted"; all of them go on to the caller. While the run is signed, the first stop waits
and a second one leaves the run unsigned.

The script runs in the process that signs. What it says of itself is believed, which is less than SLSA asks and less
than ``ndrepro run`` gives, where the training process never sees the key: the builder's identifier says which it was.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import ERROR, Builder, Manifest, Resource, source_resource
from provenance.attestation.run_files import inside
from provenance.capture.unavailable import printable
from provenance.errors import ProvenanceError, UsageError, message_of
from provenance.formats.atomic_io import make_folder, storage_error, write_atomically
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.metrics_log import Row, ScalarLog, read_scalars
from provenance.recording.recorder import Recorder
from provenance.recording.run_clock import RunClock
from provenance.recording.script_record import BUILD_TYPE, BUILDER
from provenance.recording.stop_requests import StopRequests, Terminated, terminations_raised
from provenance.redaction.redact import redact_arguments, redact_text, redact_tree

# of an exception, which may quote anything
_ERROR_CHARACTERS = 10_000
_INTERRUPTED = 130
_FOLDER_NAME = re.compile(r"\w[\w+=. -]{0,99}")
_TAKEN = ("verdicts",)  # a folder of runs holds it beside its experiments
_P = ParamSpec("_P")
_R = TypeVar("_R")


def record(
    folder: str | os.PathLike[str] | None = None,
    *,
    name: str,
    parameters: Mapping[str, Any] | None = None,
    seeds: Mapping[str, int] | None = None,
    runs: str | os.PathLike[str] = "runs",
    ledger: Ledger | Path | None = None,
    home: Path | None = None,
) -> ScriptRecording:
    """Record what the body of the ``with`` statement does, or each call of the decorated function, and sign it.

    Args:
        folder: the run folder, new or empty; left out, ``RUNS/NAME/RUN``, where the run has its identifier.
        name: what the run is called by people.
        parameters: what was asked for, as JSON; values that look like secrets are redacted.
        seeds: every seed by the name of what it seeds.
        runs: the folder of runs, where ``folder`` is left out; it holds the ledger.
        ledger: the list of runs; left out, ``ledger.jsonl`` in ``runs``, or beside ``folder`` where one is given.
        home: the key home; ``default_home()`` where it is left out.

    Raises:
        UsageError: the folder is not empty, or the name is none for a folder.
        StorageError, KeyFileError, BusyError, CanonicalError: as ``Recorder.open`` and ``close``. Where the body
            raised as well, its own exception goes on, with a note that the run is not signed.
    """
    return ScriptRecording(folder, name, dict(parameters or {}), dict(seeds or {}), Path(runs), ledger, home)


@dataclass
class ScriptRecording:
    """What ``record`` returns: a context manager that gives a ``Session``, and a decorator."""

    folder: str | os.PathLike[str] | None
    name: str
    parameters: dict[str, Any]
    seeds: dict[str, int]
    runs: Path
    ledger: Ledger | Path | None
    home: Path | None
    _context: AbstractContextManager[Session] | None = None

    def __enter__(self) -> Session:
        self._context = _recording(self)
        return self._context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._context is not None
        return self._context.__exit__(kind, error, trace)

    def __call__(self, function: Callable[Concatenate[Session, _P], _R]) -> Callable[_P, _R]:
        """Have each call of ``function`` recorded as a run of its own.

        The function gets the ``Session`` as its first argument. Its other arguments are recorded as parameters, an
        argument that is no JSON by its type alone.
        """
        signature = inspect.signature(function)

        @functools.wraps(function)
        def recorded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(None, *args, **kwargs)
            bound.apply_defaults()
            given = {name: _as_parameter(value) for name, value in list(bound.arguments.items())[1:]}
            with replace(self, parameters={**self.parameters, **given}, _context=None) as session:
                return function(session, *args, **kwargs)

        return recorded


def _as_parameter(value: Any) -> Any:
    """An argument as JSON, or its type in words."""
    try:
        return _as_json(value)
    except ProvenanceError:
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _as_json(value: Any) -> Any:
    """The same with the scalars of numpy and others as Python's. Raises CanonicalError for what is no JSON."""
    try:
        found = _with_numbers(value)
    except RecursionError:
        found = value
    canonical_bytes(found)
    return found


def _with_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_numbers(each) for each in value]
    return _number(value)


def _number(value: Any) -> Any:
    """The one number of an array, or of a scalar of numpy's; anything else as it is."""
    if isinstance(value, (bool, int, float, str)) and type(value).__module__ == "builtins":
        return value
    try:
        return value.item() if hasattr(value, "item") else value
    except Exception:  # of an array with several
        return value


@contextmanager
def _recording(asked: ScriptRecording) -> Iterator[Session]:
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    folder, beside = _place(asked, run_id)
    make_folder(folder)
    if any(folder.iterdir()):
        raise UsageError(f"{folder}: not empty", "name a new folder for every run, or none")
    path = beside / "ledger.jsonl" if asked.ledger is None else asked.ledger
    ledger = path if isinstance(path, Ledger) else Ledger(Path(path).absolute())
    with terminations_raised():
        # held: a stop between the ledger's "begun" and the statement below would leave a run without an end
        with StopRequests() as stops:
            session = Session(_open(folder, run_id, ledger, asked))
        try:
            stops.redeliver()
            session._begin(ledger)
            yield session
        except BaseException as error:
            try:
                session._end(error)
            except ProvenanceError as problem:
                error.add_note(f"and the run could not be signed as it was: {problem.message}")
            raise
        session._end(None)


def _place(asked: ScriptRecording, run_id: str) -> tuple[Path, Path]:
    """The run folder, and the folder of its ledger."""
    if asked.folder is not None:
        return Path(asked.folder).absolute(), Path(asked.folder).absolute().parent
    if not _FOLDER_NAME.fullmatch(asked.name) or asked.name in _TAKEN:
        raise UsageError(
            f"name {asked.name!r}: no name for a folder", "use letters, digits, '_', '-', '+', '=', '.' and spaces"
        )
    # the script may change its working folder
    return asked.runs.absolute() / asked.name / run_id, asked.runs.absolute()


def _open(folder: Path, run_id: str, ledger: Ledger, asked: ScriptRecording) -> Recorder:
    return Recorder.open(
        folder,
        ledger=ledger,
        home=asked.home,
        build_type=BUILD_TYPE,
        name=asked.name,
        run_id=run_id,
        external_parameters={
            "name": asked.name,
            "parameters": redact_tree(_as_json(asked.parameters)),
            # as text: a seed of 64 bits does not fit into a double
            "seeds": {key: str(seed) for key, seed in asked.seeds.items()},
            "command": printable(redact_arguments(sys.orig_argv)),
            "workingFolder": printable(os.getcwd()),
        },
        builder=Builder(BUILDER, {"python": sys.version.split()[0]}),
    )


class Session:
    """What the body of ``record`` holds: log scalars, keep files, note facts."""

    def __init__(self, recorder: Recorder) -> None:
        self.folder = recorder.folder
        self.run_id = recorder.run_id
        self._recorder = recorder
        self._clock = RunClock()
        self._log: ScalarLog | None = None
        self._notes: dict[str, Any] = {}
        self._seals: dict[str, Any] = {}
        self._source: dict[str, Any] = {"unavailable": "not captured yet"}

    def log(self, step: int | None = None, **scalars: Any) -> None:
        """Add one row to metrics.jsonl: int, float, str or None; what has ``item()`` (an array's scalar) is converted.

        Raises UsageError naming the scalar for another type, StorageError if the disk is full.
        """
        given = scalars if step is None else {"step": step, **scalars}
        row: Row = {key: _number(value) for key, value in given.items()}
        if self._log is None:
            self._log = ScalarLog(self.folder / "metrics.jsonl")
        self._log.append(row)

    def artifact(self, path: str | os.PathLike[str], name: str | None = None) -> Path:
        """Copy a file into the run folder, as ``artifacts/name`` (its own name where that is left out); the copy.

        A file that is in the run folder already stays where it is. Raises UsageError for what is no file, or a name
        that is taken or leads elsewhere; StorageError if it cannot be copied.
        """
        source = Path(path)
        if not source.is_file():
            raise UsageError(f"{source}: not a file", "give the path of a file; pack a folder first")
        if source.resolve().is_relative_to(self.folder.resolve()) and name is None:
            return source
        name = f"artifacts/{source.name if name is None else name}"
        target = self.folder / name
        if not inside(name):
            raise UsageError(f"the artifact's name {name!r} leads out of the run folder", "give a plain relative name")
        if target.exists():
            raise UsageError(f"{target}: there already", "give the artifact another name")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as error:
            target.unlink(missing_ok=True)
            raise storage_error(target, error) from error
        return target

    def note(self, key: str, value: Any) -> None:
        """Put a fact, as JSON, under ``internalParameters.notes``; what has ``item()`` is converted as by ``log``.

        Raises CanonicalError for what is no JSON.
        """
        self._notes[key] = redact_tree(_as_json({key: value})[key])

    def _begin(self, ledger: Ledger) -> None:
        from provenance.capture import environment, source

        try:
            # the ledger grows by what is recorded here: it is no part of the program
            self._source = source.capture(_program_folder(), self.folder, exclude=ledger.files)
        except ProvenanceError as error:
            self._source = {"unavailable": redact_text(error.message)}
        self._seal("start", environment.capture())

    def _seal(self, moment: str, captured: dict[str, Any]) -> None:
        self._seals[moment] = captured
        text = json.dumps(self._seals, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / "environment.json", text.encode("utf-8"))

    def _end(self, error: BaseException | None) -> None:
        try:
            with StopRequests() as stops:
                self._sign(error, stops)
        finally:
            self._recorder.fail(error)
        stops.redeliver()

    def _sign(self, error: BaseException | None, stops: StopRequests) -> None:
        from provenance.attestation import packages
        from provenance.capture import environment

        outcome, exit_code = _outcome(error)
        finished, set_back = self._clock.end()
        if self._log is not None:
            self._log.close()
        try:
            self._seal("end", environment.capture())
        except ProvenanceError as problem:
            # a full disk, most likely: closing will meet it again, and tell the ledger
            self._seals["end"] = {"unavailable": redact_text(problem.message)}
        start = self._seals.get("start", {"unavailable": "the run ended before it was captured"})
        self._recorder.close(
            outcome=outcome,
            exit_code=exit_code,
            started=self._clock.started,
            finished=finished,
            internal_parameters={
                "variables": {moment: seal.get("variables", seal) for moment, seal in self._seals.items()},
                "usage": environment.usage(),
                "notes": self._notes,
            },
            dependencies=(source_resource(self._source), *packages.resources(start)),
            byproducts=(*(() if error is None or outcome == "completed" else (_error(error),)), *set_back),
            machine=packages.machine(start, self._seals["end"]),
            hashing=stops.raising(after=1),
            contradiction=self._contradiction,
        )

    def _contradiction(self, manifest: Manifest) -> ProvenanceError | None:
        """Why the log cannot be read: the script may have written to the file by other means."""
        try:
            if (self.folder / "metrics.jsonl").exists():
                read_scalars(self.folder / "metrics.jsonl")
        except ProvenanceError as problem:
            return problem
        return None


def _program_folder() -> Path:
    """Where the running script lies; the working folder for an interpreter without one."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(path).absolute().parent if path else Path.cwd()


def _outcome(error: BaseException | None) -> tuple[str, int]:
    if error is None:
        return "completed", 0
    if isinstance(error, Terminated):
        return "interrupted", 128 + error.number
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", _INTERRUPTED
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        return ("failed" if code else "completed"), code
    return "failed", 1


def _error(error: BaseException) -> Resource:
    said = {"type": type(error).__qualname__, "message": redact_text(message_of(error))[:_ERROR_CHARACTERS]}
    return Resource(
        ERROR, annotations={key: text.encode(errors="backslashreplace").decode() for key, text in said.items()}
    )
