"""What recording costs: the command line's import, an empty run, a logged scalar, a hashed file, the trail."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Result, cpu_seconds, process_cpu_seconds, ratios, result
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.experiment.experiment import Experiment

_EMPTY = "lenet_bn_0_digits"


def command_line_import() -> Result:
    """Importing the command line, less starting Python at all."""
    commands = ["-c", "import ndrepro.cli.app"], ["-c", "pass"]
    values = [process_cpu_seconds(commands[0]) - process_cpu_seconds(commands[1]) for _ in range(7)]
    return result("import of the command line", values, 0.5, "CPU s")


def empty_run() -> Result:
    """A recorded run of no epochs, less the same work unrecorded."""
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment.from_name(_EMPTY)
        bare = variables(experiment.determinism, experiment.threads)
        recorded = {"NDREPRO_HOME": f"{folder}/keys"}
        values = []
        for _ in range(6):
            with_recording = process_cpu_seconds(
                ["-m", "ndrepro", "run", _EMPTY, "--runs", f"{folder}/runs", "--quiet"], recorded
            )
            without = process_cpu_seconds(["-m", "benchmarks.bare", _EMPTY, f"{folder}/bare.safetensors"], bare)
            values.append(with_recording - without)
    # the first round makes the key and fills caches
    return result("an empty run, recorded less bare", values[1:], 0.5, "CPU s")


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


def hashed_file() -> Result:
    """The digest of a file, against hashlib on the same bytes in memory."""
    from provenance.formats.digest import file_digest

    content = os.urandom(1 << 20) * 128
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        values = ratios(
            lambda: cpu_seconds(lambda: file_digest(path)),
            lambda: cpu_seconds(lambda: hashlib.sha256(content).hexdigest()),
            7,
        )
    return result("a hashed file of 128 MiB", values, 1.25, "x hashlib in memory")


def trail(name: str = "vgg16_bn_1") -> Result:
    """The trail's record of a step, against the step: vgg16, batch 128, on this machine's device."""
    import torch
    from torch.nn.functional import cross_entropy

    from ndrepro.training.checkpoint import state_tensors
    from ndrepro.training.compute.fingerprint import fingerprints_of
    from ndrepro.training.optimizer import make_optimizer
    from ndrepro.training.train_run import build, choose_device

    experiment = Experiment.from_name(name)
    device = choose_device(experiment.device)
    net = build(experiment).to(device)
    optimizer = make_optimizer(net, experiment)
    images = torch.randn(experiment.batch_size, 3, 32, 32, device=device)
    labels = torch.arange(experiment.batch_size, device=device) % 10
    fingerprints = fingerprints_of(state_tensors(net))

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step() -> float:
        start = wait()
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step(0.01)
        return wait() - start

    def record() -> float:
        start = wait()
        fingerprints.compute()
        return wait() - start

    values = [100 * value for value in ratios(record, step, 9)]
    return result(f"the trail, per step of {name[: name.rindex('_')]} on {device.type}", values, 1.0, "% of a step")
