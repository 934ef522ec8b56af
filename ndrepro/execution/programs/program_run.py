"""One recorded program, from the ledger's first entry to the signed manifest, whatever the program does.

    program.json, ledger "begun" → source, machine, data → the program → what it read and wrote → manifest → "ended"

The recorder holds the key and the program never sees it. What the program was, its exit code and its output are its
own: a problem of the recorder's is reported beside them and in the manifest. If this process is killed, the ledger has
a start without an end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import ndrepro
from ndrepro.execution.programs.arriving_signals import ArrivingSignals, expect_linux
from ndrepro.execution.programs.command import Command
from ndrepro.execution.programs.declared_files import expect_globs
from ndrepro.execution.programs.input_files import expect_data
from ndrepro.execution.programs.program_account import ProgramAccount, Repetition
from ndrepro.execution.programs.watching import ProgramEnd, run_program
from ndrepro.execution.sandbox.shared_folders import others_on_the_way
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.program_record import (
    BUILD_TYPE,
    BUILDER,
    STANDARD_OUTPUT,
    encoded_word,
    external_parameters,
    outcome_of,
)
from provenance.attestation.countersignature import ORIGIN
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Builder, Manifest
from provenance.capture.unavailable import printable
from provenance.errors import ProvenanceError
from provenance.formats.atomic_io import storage_error, write_json
from provenance.formats.folder_tree import remove_tree, temporary_folder
from provenance.git.tracked_paths import expect_no_tracked_link
from provenance.observation.note_listener import NoteListener
from provenance.observation.preparation import TRAIL_AUTO, prepare, trail_every
from provenance.observation.process_record import ImportedModule, ProcessRecord
from provenance.recording.recorder import Recorder
from provenance.recording.run_clock import RunClock
from provenance.recording.stop_requests import StopRequests
from provenance.redaction.redact import redact_arguments, redact_text
from provenance.redaction.written_files import redact_log

# where keys and their passphrases are is none of the program's business
_WITHHELD = ("NDREPRO_HOME", "NDREPRO_PASSPHRASE_FILE")
_HOOK = ".hook"
# before each line of a program that somebody else recorded
_MARK = "program | "


@dataclass(frozen=True)
class ProgramRequest:
    """What to run and record, in the current working folder.

    Attributes:
        command: the command, looked up.
        outputs, metrics: globs of files that it writes; of the latter the rows are read into metrics.jsonl.
        data: paths of what it reads.
        seeds: declared seeds, by the name of what they seed.
        trail: auto, off or every=K.
        repetition: where it is that of a recorded run, what is known of it before it starts.
    """

    command: Command
    outputs: Sequence[str] = ()
    data: Sequence[Path] = ()
    metrics: Sequence[str] = ()
    seeds: Mapping[str, int] | None = None
    trail: str = TRAIL_AUTO
    repetition: Repetition | None = None


@dataclass(frozen=True)
class FinishedProgram:
    """How a recorded program ended.

    ``exit_code`` is ``None`` where it was never started; ``manifest`` is ``None`` where it is unsigned; ``notes`` say
    what was asked for and not there; ``error`` is what went wrong with recording; ``processes`` has what was seen of
    each Python process, ``left_behind`` the command lines of those that a sandbox ended when the program had ended.
    """

    folder: RunFolder
    outcome: str
    exit_code: int | None
    signer: str
    manifest: Path | None
    notes: tuple[str, ...]
    error: ProvenanceError | None
    processes: tuple[ProcessRecord, ...] = ()
    left_behind: tuple[str, ...] = ()

    @property
    def imported(self) -> tuple[ImportedModule, ...]:
        """The modules of all its processes."""
        return tuple(each for process in self.processes for each in process.imported)


def record_program(request: ProgramRequest, runs: RunsFolder, home: Path) -> FinishedProgram:
    """Run a program and record it.

    Raises UsageError, NotFoundError, StorageError, or an error of the key or ledger, before anything is started; after
    that every ending is in FinishedProgram.
    """
    expect_linux()
    trail_every(request.trail)
    expect_globs("--out", request.outputs)
    expect_globs("--metrics", request.metrics)
    expect_data(request.data)
    expect_no_tracked_link(runs.root, "name another folder of runs: --runs DIR")
    try:
        working_folder = Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the working folder cannot be found ({error.strerror})", "change to one that exists"
        ) from None
    signals = ArrivingSignals()
    with StopRequests() as stops:
        folder = runs.make_run(request.command.name, datetime.now(UTC))
        try:
            asked = _asked(request, working_folder)
            write_json(folder.program, asked)
            recorder = _open(request, asked, folder, runs, home)
            attempt = _Attempt(request, working_folder, folder, runs, recorder, stops, home)
        except BaseException:
            # nothing was started: a folder without an entry in the ledger would look like a run
            remove_tree(folder.root, ignore_errors=True)
            raise
        return attempt.end(signals, recorder.keyid)


def _asked(request: ProgramRequest, working_folder: Path) -> dict[str, object]:
    """The external parameters, fit to be signed."""
    document: dict[str, object] = printable(
        external_parameters(
            name=request.command.name,
            command=map(encoded_word, redact_arguments(request.command.words)),
            working_folder=str(working_folder),
            seeds={name: str(seed) for name, seed in (request.seeds or {}).items()},
            outputs=request.outputs,
            data=[redact_text(str(path)) for path in request.data],
            metrics=request.metrics,
            trail=request.trail,
        )
    )
    return document


def _open(
    request: ProgramRequest, asked: Mapping[str, object], folder: RunFolder, runs: RunsFolder, home: Path
) -> Recorder:
    recorder = Recorder.open(
        folder.root,
        ledger=Ledger(runs.ledger),
        home=home,
        build_type=BUILD_TYPE,
        name=request.command.name,
        run_id=folder.root.name,
        external_parameters=asked,
        builder=Builder(BUILDER, {"ndrepro": ndrepro.__version__, "python": sys.version.split()[0]}),
        bound={} if request.repetition is None else {ORIGIN: request.repetition.origin.to_json()},
    )
    # a background process that the program leaves behind does not keep the run busy
    os.set_inheritable(recorder.lock_fd, False)
    return recorder


class _Attempt:
    """A run that the ledger knows of; ``end`` makes it and ends it."""

    def __init__(
        self,
        request: ProgramRequest,
        working_folder: Path,
        folder: RunFolder,
        runs: RunsFolder,
        recorder: Recorder,
        stops: StopRequests,
        home: Path,
    ) -> None:
        self._request = request
        self._folder = folder
        self._runs = runs
        self._recorder = recorder
        self._stops = stops
        self._clock = RunClock()
        self._account = ProgramAccount(request.command, request.repetition, working_folder, folder, home)
        self._end: ProgramEnd | None = None
        self._outcome = "failed"
        self._error: ProvenanceError | None = None

    def end(self, signals: ArrivingSignals, signer: str) -> FinishedProgram:
        """Run the program, sign what it was, tell the ledger, whatever goes wrong."""
        try:
            self._run(signals)
        except KeyboardInterrupt:
            self._outcome = "interrupted"  # before the program was started
        except Exception as error:
            self._error = _as_provenance_error(error, self._folder)
        except BaseException as error:
            self._recorder.fail(error)
            raise
        manifest = self._sign()
        code = None if self._end is None else self._end.exit_code
        notes, processes = self._account.notes, self._account.processes
        return FinishedProgram(self._folder, self._outcome, code, signer, manifest, notes, self._error, processes)

    def _run(self, signals: ArrivingSignals) -> None:
        with ExitStack() as stack:
            place = self._folder.root
            if others_on_the_way(place):  # who may exchange the hook has his own code executed in every program
                place = stack.enter_context(temporary_folder("ndrepro-hook-"))
            self._execute(signals, place / _HOOK)

    def _execute(self, signals: ArrivingSignals, hidden: Path) -> None:
        request, again = self._request, self._request.repetition
        with self._stops.raising():
            self._account.capture_start(request.outputs, request.metrics, request.data, self._runs)
            given = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
            variables = given if again is None else dict(again.variables)
            hook = prepare(hidden, request.trail, variables)
            listener = NoteListener(hook.output)
            self._clock = RunClock()
        run = request.command
        if again is not None and again.launch is not None:
            # what makes the sandbox is this machine's own: no variable and no path of the program's is its own
            run, variables = again.launch, dict(os.environ)
        try:
            mark = "" if again is None else _MARK
            self._end = run_program(
                run.executable,
                run.words,
                {**variables, **hook.variables},
                self._folder.log,
                signals,
                listener,
                mark,
                keep_output=STANDARD_OUTPUT in request.outputs,
            )
        except OSError as error:
            raise _not_executed(run, error) from None
        finally:
            self._account.capture_processes(hook.output, listener.notes())
            remove_tree(hidden, ignore_errors=True)
        self._outcome = outcome_of(self._end.exit_code, self._end.stops)

    def _sign(self) -> Path | None:
        """Sign what there is. A program that ended must not stay unsigned, so the first stop is held."""
        finished, set_back = self._clock.end()
        try:
            redact_log(self._folder.log)
            with self._stops.raising(after=1):
                self._account.capture_end(self._end)
            return self._recorder.close(
                outcome=self._outcome,
                exit_code={"unavailable": "it was never started"} if self._end is None else self._end.exit_code,
                started=self._clock.started,
                finished=finished,
                internal_parameters=self._account.internal_parameters(self._end),
                dependencies=self._account.dependencies,
                byproducts=(*self._account.byproducts(self._end, self._error), *set_back),
                machine=self._account.machine,
                hashing=self._stops.raising(after=1),
                contradiction=self._contradiction,
            )
        except KeyboardInterrupt:
            self._error = NdreproError(
                "stopped while the run's files were hashed: the run is not signed", "record the program again"
            )
        except Exception as error:
            self._error = _as_provenance_error(error, self._folder)
        finally:
            self._recorder.fail(self._error)
        return self._folder.manifest if self._folder.manifest.is_file() else None

    def _contradiction(self, manifest: Manifest) -> ProvenanceError | None:
        from ndrepro.execution.runs.run_checks import contradiction
        from ndrepro.execution.verification.program_checks import CHECKS

        return contradiction(self._folder.root, manifest, CHECKS)


def _not_executed(command: Command, error: OSError) -> NdreproError:
    reason = error.strerror or str(error)
    return NdreproError(
        f"{command.executable}: cannot be executed ({reason})",
        "see that the interpreter in its first line exists, and that it is built for this machine",
    )


def _as_provenance_error(error: Exception, folder: RunFolder) -> ProvenanceError:
    if isinstance(error, ProvenanceError):
        return error
    if isinstance(error, OSError):
        return storage_error(Path(error.filename or folder.root), error)
    return NdreproError(f"{type(error).__name__}: {error}", "this is a defect of ndrepro: please report it")
