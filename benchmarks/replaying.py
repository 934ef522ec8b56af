"""What repeating costs: a spot check of one epoch, the replay of one step, and the canonical level's arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Result, cpu_seconds, process_cpu_seconds, ratios, result
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.experiment.experiment import Experiment

_EPOCHS = 2
_SPOT = "vgg11_bn_{epochs}_digits"
_SETTINGS = ("--set=test_images=64", "--set=checkpoint_epochs=1")  # 1,437 digits, some seconds an epoch


def spot_check(rounds: int = 2) -> Result:
    """``reproduce --spot 1`` less two starts, against an epoch of the run; whole commands, start to verdict.

    It starts twice: for the epoch, and to evaluate the signed weights.
    """
    values = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            home = {"NDREPRO_HOME": f"{name}/keys", "NDREPRO_RUNS": f"{name}/runs"}
            none, whole = (_run_of(epochs, home) for epochs in (0, _EPOCHS))
            again = process_cpu_seconds(
                ["-m", "ndrepro", "reproduce", _SPOT.format(epochs=_EPOCHS), "--spot", "1"], home
            )
            values.append((again - 2 * none) / ((whole - none) / _EPOCHS))
    return result("a spot check of one epoch of vgg11_bn", values, 1.1, "x that epoch")


def _run_of(epochs: int, home: dict[str, str]) -> float:
    name = _SPOT.format(epochs=epochs)
    return process_cpu_seconds(["-m", "ndrepro", "run", name, "--quiet", "--device", "cpu", *_SETTINGS], home)


def located_step(name: str) -> Result:
    """All that ``diff --locate`` does for a step beyond starting up, for one run: the step watched, and once more."""
    import torch
    from torch.nn.functional import cross_entropy

    from ndrepro.protocol.training_state import Place
    from ndrepro.training.checkpoint import load_checkpoint, save_checkpoint, state_tensors
    from ndrepro.training.optimizer import make_optimizer
    from ndrepro.training.replay.operation_recorder import StepObserver, bits_of
    from ndrepro.training.train_run import build

    experiment = Experiment.from_name(name, {"device": "cpu"})
    net = build(experiment)
    optimizer = make_optimizer(net, experiment)
    images = torch.randn(experiment.batch_size, 3, 32, 32)
    labels = torch.arange(experiment.batch_size) % 10

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step(0.01)

    def watched(wanted: int) -> None:
        bits_of(state_tensors(net))
        observer = StepObserver(net, optimizer, wanted)
        observer.open()
        step()
        observer.close()
        observer.operations()

    def replayed() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            save_checkpoint(path, Place(0, 0, 0), experiment, net, optimizer)
            watched(-1)
            load_checkpoint(path, experiment, net, optimizer)
            watched(10)

    values = ratios(lambda: cpu_seconds(replayed), lambda: cpu_seconds(step), 3)
    return result(f"diff --locate, a step of {name[: name.rindex('_')]}", values, 5.0, "x the step")


def canonical(name: str, limit: float) -> Result:
    """A step in canonical arithmetic against the same step in deterministic, both with one thread."""
    values = ratios(lambda: _step_seconds(name, "canonical"), lambda: _step_seconds(name, "deterministic"), 3)
    return result(f"canonical arithmetic, a step of {name[: name.rindex('_')]}", values, limit, "x deterministic")


def _step_seconds(name: str, level: str) -> float:
    chosen = {**os.environ, **variables(level, 1)}
    words = [sys.executable, "-m", "benchmarks.steps", name, level]
    return float(subprocess.run(words, env=chosen, capture_output=True, text=True, check=True).stdout)
