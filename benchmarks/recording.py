"""What recording costs: the command line's import, an empty run, a scalar, a hashed file, the trail, state digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Result, cpu_seconds, process_cpu_seconds, ratios, result, wall_and_cpu_seconds
from ndrepro.execution.runs.child_process import PATIENCE
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.experiment.experiment import Experiment

_EMPTY = "lenet_bn_0_digits"


def command_line_import() -> Result:
    """Importing the command line, less starting Python at all."""
    commands = ["-c", "import ndrepro.cli.app"], ["-c", "pass"]
    values = [process_cpu_seconds(commands[0]) - process_cpu_seconds(commands[1]) for _ in range(7)]
    return result("import of the command line", values, 0.5, "CPU s")


def empty_run() -> Result:
    """A recorded run of no epochs, less the same work unrecorded.

    Its folder is in memory where there is such a place: ext4 without a journal looks through all files that were
    removed in the last minute for each new one, which is no work of recording, and grows from round to round.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        experiment = Experiment.from_name(_EMPTY)
        bare = {**PATIENCE, **variables(experiment.determinism, experiment.threads)}  # as the child has them
        # as an installed program has it: compiled once
        recorded = {"NDREPRO_HOME": f"{folder}/keys", "PYTHONDONTWRITEBYTECODE": ""}
        values = []
        for _ in range(6):
            with_recording = process_cpu_seconds(
                ["-m", "ndrepro", "run", _EMPTY, "--runs", f"{folder}/runs", "--quiet"], recorded
            )
            without = process_cpu_seconds(["-m", "benchmarks.bare", _EMPTY, f"{folder}/bare.safetensors"], bare)
            values.append(with_recording - without)
    # the first round makes the key and fills caches; half of the rest compares six thousand files of libraries, twice
    return result("an empty run, recorded less bare", values[1:], 0.5, "CPU s")


def empty_program() -> Result:
    """Recording a program that does nothing, in an empty repository, from start-up to the signed manifest."""
    return result("a program that does nothing, recorded", _recorded("true")[1:], 0.8, "CPU s")


def program_start() -> Result:
    """Processor time that the recorder has used when the program starts, which reads it itself."""
    with tempfile.TemporaryDirectory() as folder:
        ask = f"cut -d' ' -f14-17 /proc/$PPID/stat >> {folder}/ticks"
        _recorded("sh", "-c", ask)
        ticks = [sum(map(int, line.split())) for line in Path(folder, "ticks").read_text().splitlines()]
    values = [count / os.sysconf("SC_CLK_TCK") for count in ticks]
    return result("the recorder, until the program starts", values[1:], 0.3, "CPU s")


def _recorded(*words: str) -> list[float]:
    """Processor seconds of recording a command, several times; the first makes the key and compiles."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "work").mkdir()
        subprocess.run(["git", "init", "-q", f"{folder}/work"], check=True)
        variables = {
            "NDREPRO_HOME": f"{folder}/keys",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        }
        command = ["-m", "ndrepro", "record", "-q", "--runs", f"{folder}/runs", "--", *words]
        with contextlib.chdir(Path(folder, "work")):
            return [process_cpu_seconds(command, variables) for _ in range(6)]


def logged_scalar() -> Result:
    """One row of scalars, against a plain line of JSON with a flush."""
    from provenance.formats.metrics_log import ScalarLog

    row = {"step": 12345, "loss": 0.6931471805599453, "learning_rate": 0.05}
    count = 20_000
    with tempfile.TemporaryDirectory() as folder:

        def plain() -> float:
            def log() -> None:
                with open(f"{folder}/plain.jsonl", "w", encoding="utf-8") as stream:
                    for _ in range(count):
                        stream.write(json.dumps(row) + "\n")
                        stream.flush()

            return cpu_seconds(log)

        def ours() -> float:
            def log() -> None:
                with ScalarLog(Path(folder) / "ours.jsonl", keep_rows=0) as stream:
                    for _ in range(count):
                        stream.append(row)

            Path(f"{folder}/ours.jsonl").unlink(missing_ok=True)
            return cpu_seconds(log)

        return result("a logged scalar row", ratios(ours, plain, 7), 3.0, "x plain JSONL")


def hashed_file() -> list[Result]:
    """The digest of a file in the page cache, against hashlib on the same bytes in memory, and beside other readers.

    The limit is on the wall clock, which is what signing waits for: a second core reads ahead. In processor time no
    digest that reads the file can be below 1 + what reading alone takes.
    """
    from provenance.formats.digest import file_digest

    content = os.urandom(1 << 20) * 1024
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        ways: dict[str, Callable[[], object]] = {
            "in memory": lambda: hashlib.sha256(content).hexdigest(),
            "a hashed file of 1 GiB": lambda: file_digest(path),
            "the same by hashlib.file_digest": lambda: _hashlib_digest(path),
            "the same, read and not hashed": lambda: _read(path),
        }
        times = [{name: wall_and_cpu_seconds(way) for name, way in ways.items()} for _ in range(6)][1:]
    found = []
    for name in list(ways)[1:]:
        for clock, unit in enumerate(("wall clock", "processor time")):
            values = [each[name][clock] / each["in memory"][clock] for each in times]
            limit = 1.05 if (name, clock) == ("a hashed file of 1 GiB", 0) else None
            found.append(result(f"{name}, {unit}", values, limit, "x hashlib in memory"))
    return found


def _read(path: Path) -> None:
    from provenance.formats.digest import CHUNK_BYTES

    buffer = bytearray(CHUNK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _hashlib_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trail(name: str = "vgg16_bn_1") -> Result:
    """The trail's record of a step, against the step: vgg16, batch 128, on this machine's device."""
    from ndrepro.training.checkpoint import state_tensors
    from ndrepro.training.compute.fingerprint import fingerprints_of

    trained = Trained(name)
    fingerprints = fingerprints_of(state_tensors(trained.net))
    values = [100 * value for value in ratios(lambda: trained.seconds(fingerprints.compute), trained.step, 9)]
    what = f"the trail, per step of {name[: name.rindex('_')]} on {trained.device.type}"
    return result(what, values, 1.0, "% of a step")


def state_digests(name: str = "resnet18_bn_1") -> Result:
    """The SHA-256 of the complete state after an epoch, against its 391 steps of 128 images of CIFAR-10."""
    from ndrepro.protocol.training_state import Place
    from ndrepro.training.checkpoint import digest_state

    trained = Trained(name)
    trained.step()  # from now on there is momentum

    def digest() -> None:
        digest_state(Place(391, 1, 0), trained.net, trained.optimizer)

    values = [100 * value / 391 for value in ratios(lambda: trained.seconds(digest), trained.step, 5)]
    what = f"state digests, per epoch of {name[: name.rindex('_')]} on {trained.device.type}"
    return result(what, values, 1.0, "% of an epoch")


def epoch_hashing(name: str = "resnet18_bn_1") -> Result:
    """All hashing that binds an epoch and a checkpoint after it, against the epoch's 391 steps of 128 images.

    That is the state's digest by the training process; of the checkpoint the SHA-256 as the recorder first sees it and
    once more when the run is signed, and the digest of the state in it, which is compared before that; and of the final
    weights the same and their 64-bit hashes. A checkpoint after every epoch is the dearest setting.
    """
    from ndrepro.execution.resumption.recorded_states import checkpoint_state
    from ndrepro.protocol.training_state import Place, read_tensors
    from ndrepro.training.checkpoint import digest_state, save_checkpoint, save_weights
    from provenance.formats.digest import file_digest
    from provenance.formats.fingerprint import fingerprint
    from provenance.formats.state_digest import tensors_digest

    trained = Trained(name)
    trained.step()
    place = Place(391, 1, 0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, weights = Path(folder, "checkpoint.safetensors"), Path(folder, "weights.safetensors")
        save_checkpoint(checkpoint, place, Experiment.from_name(name), trained.net, trained.optimizer)
        save_weights(weights, trained.net, {"experiment": name, "steps": 391})

        def hashing() -> None:
            digest_state(place, trained.net, trained.optimizer)
            for path in (checkpoint, checkpoint, weights):
                file_digest(path)
            checkpoint_state(checkpoint)
            final, _ = read_tensors(weights)
            tensors_digest(final)
            for tensor in final.values():
                fingerprint(tensor)

        values = [100 * value / 391 for value in ratios(lambda: trained.seconds(hashing), trained.step, 3)]
    what = f"all hashing, per epoch of {name[: name.rindex('_')]} on {trained.device.type}"
    return result(what, values, 1.0, "% of an epoch")


class Trained:
    """A network and its optimizer on this machine's device, and the seconds of what is done with them."""

    def __init__(self, name: str) -> None:
        import torch

        from ndrepro.training.compute.determinism import choose_device
        from ndrepro.training.optimizer import make_optimizer
        from ndrepro.training.train_run import build

        experiment = Experiment.from_name(name)
        self.device = choose_device(experiment)
        self.net = build(experiment).to(self.device)
        self.optimizer = make_optimizer(self.net, experiment)
        self._images = torch.randn(experiment.batch_size, 3, 32, 32, device=self.device)
        self._labels = torch.arange(experiment.batch_size, device=self.device) % 10

    def seconds(self, action: Callable[[], object]) -> float:
        """The time that an action takes, to its end on the device."""
        start = self._wait()
        action()
        return self._wait() - start

    def step(self) -> float:
        """The time of an optimizer step."""
        return self.seconds(self._step)

    def _wait(self) -> float:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _step(self) -> None:
        from torch.nn.functional import cross_entropy

        self.optimizer.zero_grad()
        cross_entropy(self.net(self._images), self._labels).backward()
        self.optimizer.step(0.01)
