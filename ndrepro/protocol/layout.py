"""Where everything lies: one object owns every path of a run folder, another those of the folder of runs.

    runs/
        ledger.jsonl                        every run started and ended
        verdicts/RUN.STAMP-KEY.dsse.json    a reviewer's signed verdicts on runs that were trained again
        images/DIGEST.tar                   container images, kept on request
        .data                               what is remembered of data that were found whole; may be removed
        vgg16_nd_100/                       one folder an experiment
            20261121T101502Z-3f9a1c/        one folder a run (UTC start, six random hex digits)
                request.json                what the parent asked for
                origin.json                 the run that this one repeats, if any
                network/                    the Python files of a network of the user's own
                environment.json            what the child saw, at start and end
                dataset.json dataset.sha256 what the data were, file by file
                model.json                  every layer, counts
                metrics.jsonl               one row an epoch: results only, no clock
                timing.jsonl                one row an epoch: the clock, throughput, memory
                states.jsonl                SHA-256 of the complete state, at the start and after every epoch
                trail.bin                   the numerical trail, one record a step
                checkpoints/step-000000391.safetensors
                weights.safetensors         the final weights
                evaluated.safetensors evaluation.json   of an evaluation: the weights given, and their results
                result.json                 how the child ended
                result-rank-1.json          of a child of several processes: the one that failed, and why
                log.txt                     what it printed; of very much its beginning and its end
                program.json                what was asked of a recorded program: there from its start on
                processes.json trail/       what the start-up hook saw of its Python processes, and their trails
                inputs.json outputs.json    every file that it is known to have read, and that it wrote, with digests
                inputs/ outputs/            copies of source files of no repository that it read; of small outputs
                .code/                      the packages that the child imports, while it runs; gone before signing
                source.patch untracked/ submodules/     what the commit alone does not hold
                attempts/1/                 manifests of earlier attempts, where a run was resumed
                manifest.dsse.json          the signed manifest
                manifest.sigstore.jsonl     signatures on it by identities, added later

Results carry no clock, so the same run twice gives the same bytes in metrics.jsonl, states.jsonl, trail.bin,
weights.safetensors.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ndrepro.protocol.errors import UsageError
from provenance.errors import StorageError

# where runs are kept unless the variable or an option says otherwise
DEFAULT_RUNS, RUNS_VARIABLE = Path("runs"), "NDREPRO_RUNS"
# pieces of runs lie apart from the runs of their experiment: runs/EXPERIMENT.segments/RUN
SEGMENTS = ".segments"
LOCK = ".lock"  # as provenance.attestation.run_files.LOCK
CHECKPOINT_NAME = re.compile(r"step-([0-9]{9})\.safetensors")


def expect_folder(place: Path, cure: str) -> None:
    """Raises UsageError where a file stands in the place of a folder that is to be written."""
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place}: a file, expected a folder", cure)


class _Folder(Protocol):
    @property
    def root(self) -> Path:
        """The folder."""


class FolderPath:
    """A file or folder inside of a folder, by its name there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: _Folder, kind: type) -> Path:
        return folder.root / self.name


@dataclass(frozen=True)
class RunFolder:
    """Every path of one run."""

    root: Path

    @property
    def is_run(self) -> bool:
        """Whether a run was started in this folder, whatever its outcome."""
        if self.request.exists() or self.program.exists() or self.manifest.exists():
            return True
        # a script that is under way, or was killed
        return self.environment.exists() and (self.root / LOCK).exists()

    @property
    def ledger(self) -> Path | None:
        """The ledger beside the run, the nearest one; ``None`` where there is none."""
        return next(iter(self.ledgers), None)

    @property
    def ledgers(self) -> tuple[Path, ...]:
        """The ledgers beside the run, the nearest first: a list of others' runs may lie nearer than its own."""
        above = (RunsFolder(place).ledger for place in self.root.absolute().parents[:2])
        return tuple(path for path in above if path.is_file())

    request = FolderPath("request.json")
    origin = FolderPath("origin.json")
    network = FolderPath("network")
    environment = FolderPath("environment.json")
    dataset = FolderPath("dataset.json")
    dataset_listing = FolderPath("dataset.sha256")
    model = FolderPath("model.json")
    metrics = FolderPath("metrics.jsonl")
    timing = FolderPath("timing.jsonl")
    states = FolderPath("states.jsonl")
    trail = FolderPath("trail.bin")
    checkpoints = FolderPath("checkpoints")
    weights = FolderPath("weights.safetensors")
    evaluated_weights = FolderPath("evaluated.safetensors")
    evaluation = FolderPath("evaluation.json")
    result = FolderPath("result.json")

    def rank_result(self, rank: int) -> Path:
        """How process ``rank`` of several ended, where it failed; rank 0 writes ``result``."""
        return self.root / f"result-rank-{rank}.json"

    def results(self, processes: int) -> tuple[Path, ...]:
        """Where each of so many processes may say how it ended, by rank."""
        return (self.result, *(self.rank_result(rank) for rank in range(1, processes)))

    log = FolderPath("log.txt")
    program = FolderPath("program.json")
    processes = FolderPath("processes.json")
    trails = FolderPath("trail")
    inputs = FolderPath("inputs.json")
    outputs = FolderPath("outputs.json")
    input_copies = FolderPath("inputs")
    output_copies = FolderPath("outputs")
    code_copy = FolderPath(".code")
    manifest = FolderPath("manifest.dsse.json")
    bundles = FolderPath("manifest.sigstore.jsonl")

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after ``step`` optimizer steps."""
        return self.checkpoints / f"step-{step:09d}.safetensors"

    @staticmethod
    def checkpoint_step(path: str) -> int | None:
        """The step of a checkpoint by its path in a run folder; ``None`` for any other file's."""
        folder, _, name = path.partition("/")
        match = CHECKPOINT_NAME.fullmatch(name) if folder == "checkpoints" else None
        return int(match.group(1)) if match else None

    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps of the checkpoints that are there, ascending."""
        if not self.checkpoints.is_dir() or self.checkpoints.is_symlink():
            return ()
        matches = (CHECKPOINT_NAME.fullmatch(path.name) for path in self.checkpoints.iterdir())
        return tuple(sorted(int(match.group(1)) for match in matches if match))


@dataclass(frozen=True)
class RunsFolder:
    """The folder that holds every run and the ledger."""

    root: Path

    ledger = FolderPath("ledger.jsonl")
    verdicts = FolderPath("verdicts")
    images = FolderPath("images")
    data_read = FolderPath(".data")
    submissions = FolderPath(".slurm")

    def run(self, experiment: str, run_id: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.root / experiment / run_id)

    def expect_no_links(self, below: str) -> None:
        """Raises UsageError where something that is written is a symbolic link, ``below`` (an experiment) among it.

        The folder may have come with somebody's repository or archive, who chose where its links lead. What it is
        itself reached by is the choice of whoever names it.
        """
        lock = self.ledger.with_name(f"{self.ledger.name}.lock")
        folders = (self.verdicts, self.images, self.data_read, self.submissions, self.root / below)
        for path in (self.ledger, lock, *folders):
            if path.is_symlink():
                raise UsageError(
                    f"{path}: a symbolic link, which is not written through",
                    "put the file or folder itself there, or name another folder of runs: --runs DIR",
                )

    def make_run(self, experiment: str, started: datetime) -> RunFolder:
        """A new folder for a run of ``experiment`` that starts now. Raises StorageError, and UsageError as above."""
        self.expect_no_links(experiment)
        folder = self.run(experiment, f"{started:%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}")
        try:
            folder.root.mkdir(parents=True)
        except OSError as error:
            raise StorageError(
                f"{folder.root}: cannot be made ({error.strerror})", "name a folder that can be written with --runs DIR"
            ) from None
        return folder

    def runs(self) -> tuple[RunFolder, ...]:
        """Every run folder, oldest first (run identifiers begin with their UTC start).

        They are two levels down; a script may have put its own directly below.
        """
        found: list[Path] = []
        for place in self.root.glob("*/"):
            found += [place] if RunFolder(place).is_run else [run for run in place.glob("*/") if RunFolder(run).is_run]
        return tuple(RunFolder(path) for path in sorted(found, key=lambda path: path.name))
