"""Estimates of a run's time and disk space before it starts, each with the source of its figures.

Recorded: an earlier run in the same folder of runs, of the same network, method, image size, batch, threads and
device, wrote down its seconds an epoch and its memory; the seconds are scaled to the images asked for. Model: where
there is none, ``ndrepro.execution.studies.cost_model``. Every figure says which of the two it is; neither is a promise.
Bytes on disk always come from the networks' shapes. Timings are not verified: they decide nothing but what is displayed
and requested of a cluster.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.studies.cost_model import (
    RECORDER_BYTES,
    START_SECONDS,
    Size,
    data_memory,
    model_bytes,
    model_memory,
    model_seconds,
)
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import key_of
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Result, Timing, read_json
from ndrepro.protocol.study.study import StudyRun
from provenance.errors import ProvenanceError
from provenance.formats.metrics_log import read_scalars

RECORDED = "recorded"
MODEL = "model"
_LATEST = 5  # runs that a speed is the median of

# everything that makes two runs equally fast an image
Kind = tuple[str | int, ...]


@dataclass(frozen=True)
class Estimate:
    """Seconds on one device and bytes on disk of one run, and where the seconds are from: RECORDED or MODEL.

    ``memory_bytes`` are those of the machine that each of its processes needs, the recorder's included.
    """

    seconds: float
    disk_bytes: int
    source: str
    memory_bytes: int = 0


@dataclass(frozen=True)
class Speed:
    """Seconds per image, in training and in evaluation, of one recorded run; its memory but for the images."""

    train: float
    test: float
    memory_bytes: int


class Estimator:
    """Estimates for the runs of a study from the timings in a folder of runs."""

    def __init__(self, runs: RunsFolder, studied: Iterable[StudyRun]) -> None:
        self._device = device_here()
        self._speeds = _speeds(runs, {(run.experiment.arch, run.experiment.method) for run in studied})

    def estimate(self, run: StudyRun, epochs_done: int = 0) -> Estimate:
        """For what is left of a run of which ``epochs_done`` epochs are done."""
        experiment, device = run.experiment, self.device_of(run.experiment)
        left = 1.0 if not experiment.epochs else (experiment.epochs - epochs_done) / experiment.epochs
        speeds = self._speeds.get(kind_of(experiment, run.environment, device), [])
        if speeds:
            size = Size.of(experiment)
            images = statistics.median(speed.train for speed in speeds) * size.train_images
            images += statistics.median(speed.test for speed in speeds) * size.test_images
            # what was recorded is the clock of processes that run side by side, each on a device
            seconds, source = START_SECONDS + left * size.epochs * images * experiment.processes, RECORDED
        else:
            whole = model_seconds(experiment, device)
            seconds, source = START_SECONDS + left * (whole - START_SECONDS), MODEL
        memory = max((speed.memory_bytes for speed in speeds), default=0) + data_memory(experiment)
        if not speeds:
            memory = model_memory(experiment, device)
        return Estimate(seconds, model_bytes(experiment), source, RECORDER_BYTES + memory)

    def device_of(self, experiment: Experiment) -> str:
        """Where it would run if it ran here: "cpu" or "cuda"."""
        return self._device if experiment.device == "auto" else experiment.device


def device_here() -> str:
    """ "cuda" where this machine has an NVIDIA driver, else "cpu"."""
    return "cuda" if Path("/dev/nvidiactl").exists() else "cpu"


def kind_of(experiment: Experiment, environment: str, device: str) -> Kind:
    """Two runs of one kind take the same seconds an image."""
    return (
        experiment.arch,
        experiment.method,
        experiment.image_size,
        experiment.batch_size,
        experiment.threads if device == "cpu" else 0,
        experiment.determinism,
        experiment.deconv.n_iter,
        experiment.deconv.block,
        experiment.deconv.linear_block or 0,
        experiment.deconv.sampling_stride,
        experiment.precision,
        experiment.compile,
        experiment.processes,
        device,
        key_of(environment),
    )


def _speeds(runs: RunsFolder, networks: set[tuple[str, str]]) -> dict[Kind, list[Speed]]:
    """Recorded speeds of earlier runs of these networks; the latest few of each kind."""
    found: dict[Kind, list[Speed]] = {}
    for arch, method in sorted(networks):
        timed = sorted(runs.root.glob(f"{arch}_{method}_[0-9]*/*/timing.jsonl"), key=lambda path: path.parent.name)
        for path in reversed(timed):
            for kind, speed in _speed(RunFolder(path.parent)):
                if len(found.setdefault(kind, [])) < _LATEST:
                    found[kind].append(speed)
    return found


def _speed(folder: RunFolder) -> list[tuple[Kind, Speed]]:
    """One run's speed, for each name of its environment; none where it has too few epochs or cannot be read."""
    try:
        request = Request.from_json(read_json(folder.request))
        device = Result.from_json(read_json(folder.result)).device
        images = read_json(folder.dataset)
        written: list[Any] = read_scalars(folder.timing, tolerate_torn=True)
        rows = [Timing(**row) for row in written]
        train = statistics.median(row.train_seconds for row in rows) / images["train_images"]
        scored = images.get("validation_images") or images["test_images"]
        test = statistics.median(row.test_seconds for row in rows) / scored
        device = device.partition(":")[0]
        kinds = [kind_of(request.experiment, environment, device) for environment in request.environments]
    except (ProvenanceError, UsageError, OSError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return []
    memory = max(row.peak_memory_bytes for row in rows) - data_memory(request.experiment)
    return [(kind, Speed(train, test, memory)) for kind in kinds]
