"""Where everything lies: one object owns every path of a run folder, another those of the folder of runs.

    runs/
        ledger.jsonl                        every run started and ended
        verdicts/RUN.STAMP-KEY.dsse.json    a reviewer's signed verdicts on runs that were trained again
        images/DIGEST.tar                   container images, kept on request
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
                log.txt                     what it printed
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

from ndrepro.protocol.errors import UsageError
from provenance.errors import StorageError

# where runs are kept unless the variable or an option says otherwise
DEFAULT_RUNS, RUNS_VARIABLE = Path("runs"), "NDREPRO_RUNS"
# pieces of runs lie apart from the runs of their experiment: runs/EXPERIMENT.segments/RUN
SEGMENTS = ".segments"
LOCK = ".lock"  # as provenance.attestation.run_files.LOCK
CHECKPOINT_NAME = re.compile(r"step-(\d{9})\.safetensors")


def expect_folder(place: Path, cure: str) -> None:
    """Raises UsageError where a file stands in the place of a folder that is to be written."""
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place}: a file, expected a folder", cure)


@dataclass(frozen=True)
class RunFolder:
    """Every path of one run."""

    root: Path

    @property
    def is_run(self) -> bool:
        """Whether a run was started in this folder, whatever became of it."""
        if self.request.exists() or self.program.exists() or self.manifest.exists():
            return True
        # a script that is under way, or was killed
        return self.environment.exists() and (self.root / LOCK).exists()

    @property
    def ledger(self) -> Path | None:
        """The ledger beside the run, the nearest one; ``None`` where there is none."""
        above = self.root.absolute().parents
        return next((RunsFolder(place).ledger for place in above[:2] if RunsFolder(place).ledger.is_file()), None)

    @property
    def request(self) -> Path:
        """What the parent asked for."""
        return self.root / "request.json"

    @property
    def origin(self) -> Path:
        """The run that this one repeats, where it repeats one."""
        return self.root / "origin.json"

    @property
    def network(self) -> Path:
        """The Python files of a network of the user's own, as they are imported."""
        return self.root / "network"

    @property
    def environment(self) -> Path:
        """What the child saw of its environment, at start and end."""
        return self.root / "environment.json"

    @property
    def dataset(self) -> Path:
        """What the data were."""
        return self.root / "dataset.json"

    @property
    def dataset_listing(self) -> Path:
        """Every file of the data with its digest, as ``sha256sum`` writes them."""
        return self.root / "dataset.sha256"

    @property
    def model(self) -> Path:
        """Every layer of the network, and counts."""
        return self.root / "model.json"

    @property
    def metrics(self) -> Path:
        """One row an epoch: results, no clock."""
        return self.root / "metrics.jsonl"

    @property
    def timing(self) -> Path:
        """One row an epoch: seconds, throughput, memory."""
        return self.root / "timing.jsonl"

    @property
    def states(self) -> Path:
        """SHA-256 of the complete state: one row before the first epoch, and one an epoch."""
        return self.root / "states.jsonl"

    @property
    def trail(self) -> Path:
        """The numerical trail."""
        return self.root / "trail.bin"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """The final weights."""
        return self.root / "weights.safetensors"

    @property
    def evaluated_weights(self) -> Path:
        """The weights to evaluate, where nothing is trained."""
        return self.root / "evaluated.safetensors"

    @property
    def evaluation(self) -> Path:
        """The results of the weights that were evaluated."""
        return self.root / "evaluation.json"

    @property
    def result(self) -> Path:
        """How the child ended."""
        return self.root / "result.json"

    def rank_result(self, rank: int) -> Path:
        """How process ``rank`` of several ended, where it failed; rank 0 writes ``result``."""
        return self.root / f"result-rank-{rank}.json"

    def results(self, processes: int) -> tuple[Path, ...]:
        """Where each of so many processes may say how it ended, by rank."""
        return (self.result, *(self.rank_result(rank) for rank in range(1, processes)))

    @property
    def log(self) -> Path:
        """What the child printed, or a recorded program; of very much output its beginning and its end."""
        return self.root / "log.txt"

    @property
    def program(self) -> Path:
        """What was asked of a recorded program: there from its start on."""
        return self.root / "program.json"

    @property
    def processes(self) -> Path:
        """What the start-up hook saw of each Python process of a recorded program."""
        return self.root / "processes.json"

    @property
    def trails(self) -> Path:
        """The numerical trails of a recorded program's processes."""
        return self.root / "trail"

    @property
    def inputs(self) -> Path:
        """Every file that a recorded program is known to have read, with its digest."""
        return self.root / "inputs.json"

    @property
    def outputs(self) -> Path:
        """Every file that a recorded program wrote, with its digest."""
        return self.root / "outputs.json"

    @property
    def input_copies(self) -> Path:
        """Copies of source files that a program of no repository read, by their paths."""
        return self.root / "inputs"

    @property
    def output_copies(self) -> Path:
        """Copies of those of them that are small."""
        return self.root / "outputs"

    @property
    def code_copy(self) -> Path:
        """The copy of the packages that the child imports, while it runs; gone before anything is signed."""
        return self.root / ".code"

    @property
    def manifest(self) -> Path:
        """The signed manifest."""
        return self.root / "manifest.dsse.json"

    @property
    def bundles(self) -> Path:
        """Signatures on the manifest by identities, one Sigstore bundle a line."""
        return self.root / "manifest.sigstore.jsonl"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after ``step`` optimizer steps."""
        return self.checkpoints / f"step-{step:09d}.safetensors"

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

    @property
    def ledger(self) -> Path:
        """The list of every run started and ended."""
        return self.root / "ledger.jsonl"

    @property
    def verdicts(self) -> Path:
        """The folder of verdicts on runs, each signed by whoever trained one again."""
        return self.root / "verdicts"

    @property
    def images(self) -> Path:
        """The folder of container images that are kept with the runs that were made in them."""
        return self.root / "images"

    @property
    def data_read(self) -> Path:
        """What is remembered of data that were found whole; may be removed at any time."""
        return self.root / ".data"

    def run(self, experiment: str, run_id: str) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.root / experiment / run_id)

    def make_run(self, experiment: str, started: datetime) -> RunFolder:
        """A new folder for a run of ``experiment`` that starts now. Raises StorageError."""
        folder = self.run(experiment, f"{started:%Y%m%dT%H%M%SZ}-{os.urandom(3).hex()}")
        try:
            folder.root.mkdir(parents=True)
        except OSError as error:
            raise StorageError(
                f"{folder.root}: cannot be made ({error.strerror})",
                "name a folder that can be written with --runs DIR",
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
