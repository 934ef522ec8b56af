"""Replays one step of two recorded runs, each with its own code in its own environment, to find an operation.

Each run is taken from what was signed (experiment, environment, code, the digest of the nearest checkpoint before the
step); what is not available is listed. The two processes run side by side and write what they saw
(``ndrepro.protocol.replay_messages``); comparing that is ``ndrepro.analysis.comparison.operation_diff``' part, after
which the tensors of one operation can be asked of both. Nothing is recorded or signed: this is an investigation, not a
run.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.containers.container_spec import Process
from ndrepro.execution.own_sources.network_files import NetworkFiles
from ndrepro.execution.reproduce.checkpoint_start import Start, nearest_start
from ndrepro.execution.reproduce.recorded_code import environment_differences, recorded_code
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.child_outcome import last_line
from ndrepro.execution.runs.child_process import child_python, child_variables, open_log
from ndrepro.execution.sandbox.confinement import Confinement, data_paths
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.execution.sandbox.recorded_data import linked_data, recorded_data
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.errors import NdreproError, TrainingFailed, UsageError, from_record
from ndrepro.protocol.experiment.determinism import limited_as
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import EXIT_COMPLETED, Request, read_json, write_json
from ndrepro.protocol.project_folders import CODE, UNUSED_IN_TRAINING, packages_of
from ndrepro.protocol.replay_messages import ReplayFolder, ReplayRequest, StepRecord, Wanted
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.manifest import Manifest
from provenance.code.bytecode import BytecodeCache
from provenance.code.snapshot import copy_source
from provenance.errors import ProvenanceError
from provenance.formats.trail import Trail

# what can replay a step: the package, or the module that it was in earlier commits
_REPLAY = (Path("ndrepro/training/replay/__main__.py"), Path("ndrepro/training/replay.py"))
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class VerifiedRun:
    """A run whose manifest was verified by the caller, and its folder."""

    folder: RunFolder
    manifest: Manifest


class Replay:
    """One of the two: its process, from its start to its end."""

    def __init__(
        self,
        subject: VerifiedRun,
        start: Start,
        differences: tuple[str, ...],
        folder: ReplayFolder,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.subject = subject
        self._sandbox = sandbox
        self.start = start
        self.differences = differences
        self.folder = folder
        self._process: Process | None = None

    def launch(self, request: Request, step: int, code: Path) -> None:
        """Start the process; it waits for ``fetch`` once its record is written."""
        asked = ReplayRequest(request, step, str(self.start.checkpoint or "")).to_json()
        # as it was recorded: code of then knows no settings that came later
        asked["request"]["experiment"] = TrainingRecord.of(self.subject.manifest).experiment_document
        self.folder.root.mkdir(parents=True)
        write_json(self.folder.request, asked)
        if self.subject.folder.network.is_dir():
            NetworkFiles.read(self.subject.folder.network).write(RunFolder(self.folder.root).network)
        copy = self.folder.root.absolute() / "code"
        copy_source(packages_of(code), copy, UNUSED_IN_TRAINING)
        bytecode = BytecodeCache(child_python(request)).variables()
        limited = limited_as(self.subject.manifest.variables, os.environ)
        command = [child_python(request), "-m", "ndrepro.training.replay", str(self.folder.root.absolute())]
        with open_log(self.folder.log) as log:
            if self._sandbox is not None:
                variables = child_variables(request, copy, passed_variables(limited), bytecode)
                self._process = self._sandbox.start(command, variables, self._confinement(request, copy), log=log)
                return
            self._process = subprocess.Popen(
                command,
                cwd=copy,  # and not in a checkout, whose code would come before the recorded one
                env=child_variables(request, copy, limited, bytecode),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _confinement(self, request: Request, code: Path) -> Confinement:
        """It reads code, data and the checkpoint that it starts from, and writes its folder."""
        checkpoint = () if self.start.checkpoint is None else (self.start.checkpoint.absolute(),)
        root = self.folder.root.absolute()
        return Confinement(
            readable=(code, *data_paths(Path(request.data)), *checkpoint),
            writable=(root,),
            folder=code,
            gpu=request.experiment.device != "cpu",
        )

    def record(self) -> StepRecord:
        """What it saw; waits for it. Raises what the process died of."""
        self._wait_for(self.folder.record)
        return StepRecord.from_json(read_json(self.folder.record))

    def fetch(self, wanted: Wanted) -> None:
        """Ask for tensors, or, with nothing wanted, for its end."""
        write_json(self.folder.wanted, wanted.to_json())

    def tensors(self) -> Path:
        """The file of the tensors that were asked for; waits for the process to end."""
        self._wait_for(None)
        return self.folder.tensors

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _wait_for(self, path: Path | None) -> None:
        assert self._process is not None
        while path is None or not path.exists():
            code = self._process.poll()
            if code is None:
                time.sleep(_POLL_SECONDS)
            elif code == EXIT_COMPLETED:
                return
            else:
                raise self._failure(code)

    def _failure(self, code: int) -> ProvenanceError:
        name = self.subject.manifest.invocation_id
        if self.folder.error.exists():
            error = from_record(read_json(self.folder.error))
            return type(error)(f"replaying {name}: {error.message}", error.cure)
        last = last_line(self.folder.log)
        return TrainingFailed(f"replaying {name}: the process ended with exit code {code}: {last}")


@contextmanager
def replays(
    subjects: tuple[VerifiedRun, VerifiedRun],
    step: int,
    scratch: Path,
    data: Path | None,
    sandboxes: tuple[Sandbox | None, Sandbox | None] = (None, None),
) -> Iterator[list[Replay]]:
    """Both processes, started, each in its sandbox; they are gone when the context closes.

    ``step``: the one after which the runs first differ (0: the first weights). ``data``: where the data lie here.
    Raises UsageError for a run that cannot be replayed step by step, CheckpointError, DataError.
    """
    with ExitStack() as stack:
        found = []
        for index, (subject, sandbox) in enumerate(zip(subjects, sandboxes, strict=True)):
            confined = () if sandbox is None else (*sandbox.runs, *sandbox.secret)
            request = request_of(subject.manifest, data, (subject.folder.root, *confined))
            start = nearest_start(subject.folder, subject.manifest, max(step - 1, 0))
            rebuilt = stack.enter_context(recorded_code(subject.manifest, subject.folder.root))
            code, differences = _with_door(rebuilt.code, rebuilt.differences)
            differences = (
                *_outside(subject.manifest),
                *differences,
                *environment_differences(subject.manifest, request),
            )
            replay = Replay(subject, start, differences, ReplayFolder(scratch / "AB"[index]), sandbox)
            stack.callback(replay.kill)
            found.append((replay, request, code))
        for replay, request, code in found:
            replay.launch(request, step, code)
        yield [replay for replay, _, _ in found]


def request_of(manifest: Manifest, data: Path | None, private: Sequence[Path] = ()) -> Request:
    """What the manifest says was asked, with the data where they lie here: in ``data``, or where it recorded them.

    ``private`` are folders that the manifest may not name. Raises UsageError, DataError, SandboxError.
    """
    record = TrainingRecord.of(manifest)
    if not record.is_training:
        raise UsageError(f"{manifest.invocation_id}: not a training run, so it has no steps to replay")
    experiment, then = record.experiment, record.data
    _check_watchable(experiment, manifest.invocation_id)
    if data is None and then is not None:
        data = recorded_data(experiment, then, private)
    here = data_check.locate(experiment, data)
    if experiment.dataset != "digits":
        linked_data(here, private)
    return Request(experiment, str(here), "" if record.environment == MAIN else record.environment)


def _check_watchable(experiment: Experiment, run: str) -> None:
    """Raises UsageError for what one process cannot watch operation by operation."""
    if experiment.processes > 1:
        raise UsageError(
            f"{run}: {experiment.processes} processes trained it together, and a replay has one",
            "`ndrepro diff` without --locate names the step and the tensor",
        )
    if experiment.compile:
        raise UsageError(
            f"{run}: its network was compiled, and operations that a compiler joined cannot be watched",
            "train both with compile=false and compare those",
        )


def recorded_step(trail: Trail, step: int) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """What a trail has of a step: fingerprints, the loss's bits, and the tensors' names."""
    place = step - trail.start
    if not 0 <= place < len(trail):
        raise NdreproError(f"{trail.path}: it has no step {step}", "compare the trails again")
    row = trail.records[place]
    if int(row[0]) != step:
        raise NdreproError(f"{trail.path}: record {step - trail.start} says step {int(row[0])}, expected {step}")
    names = tuple(tensor.name for tensor in trail.tensors)
    return tuple(f"{int(value):016x}" for value in row[2:]), f"{int(row[1]):016x}", names


def _outside(manifest: Manifest) -> tuple[str, ...]:
    """A run that was made in a container is replayed beside it, on this system's own interpreter."""
    container = TrainingRecord.of(manifest).container
    return (f"container: made in {container.image}, replayed outside of it",) if container else ()


def _with_door(code: Path, differences: tuple[str, ...]) -> tuple[Path, tuple[str, ...]]:
    """Code from before there were replays cannot be replayed with; this checkout's is used, and that is said."""
    if any((code / path).exists() for path in _REPLAY):
        return code, differences
    return CODE, (*differences, "code: the recorded code cannot replay a step; this checkout's is used")
