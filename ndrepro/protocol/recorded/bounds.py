"""Bounds that physics, or the run's other files, give to what a machine says of itself: no machine could exceed them.

A manifest's times, energy and use of a machine are asserted by its signer. They are not proved here; only what cannot
be, on any machine, is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Scores, Timing
from ndrepro.protocol.run_kind import SCRIPT, run_kind
from provenance.attestation.manifest import CLOCK, ENERGY, Manifest
from provenance.capture.unavailable import MOST_WATTS, at, is_missing, mapping, whole
from provenance.errors import ManifestError

# clocks of a run and its recorder may be so far apart
CLOCK_TOLERANCE = timedelta(minutes=5)
LONGEST_SET_BACK_SECONDS = 366 * 86400
# an optimizer step starts at least one kernel, which takes a processor some microseconds
LEAST_STEP_SECONDS = 1e-6
_DEVICE = re.compile(r"cpu|cuda(?::([0-9]{1,3}))?")
_COUNTERS = {"cpu_packages": re.compile(r"intel-rapl:[0-9] [\w .:-]{1,64}"), "gpus": re.compile(r"gpu [0-9]{1,3}")}
_CPU_SECONDS = ("user_seconds", "system_seconds", "children_user_seconds", "children_system_seconds")


def check_use(manifest: Manifest) -> None:
    """Raises ManifestError for energy, time or processor time that no machine could have used in the run's time."""
    seconds = (_elapsed(manifest) + CLOCK_TOLERANCE).total_seconds()
    energy = manifest.byproduct(ENERGY)
    for kind, pattern in _COUNTERS.items():
        counters = at(energy.annotations if energy else None, kind)
        for name, joules in {} if is_missing(counters) else mapping(counters).items():
            where = f"byproducts.{ENERGY}.{kind}.{name}"
            if pattern.fullmatch(name) is None:
                raise ManifestError(f"{where}: no counter has that name")
            if not is_missing(joules) and joules > MOST_WATTS * seconds:
                raise ManifestError(f"{where}: {joules:g} J in {seconds:.0f} s, more than {MOST_WATTS:.0f} W")
    usage = mapping(manifest.internal_parameters.get("usage"))
    used = sum(usage.get(name, 0) for name in _CPU_SECONDS)
    wall = usage.get("wall_seconds")
    if wall is None:
        return
    # a script's process may have run for long before it began to record
    if run_kind(manifest) != SCRIPT and wall > seconds and manifest.byproduct(CLOCK) is None:
        raise ManifestError(f"usage.wall_seconds: {wall:.0f} s, and the run lasted {_elapsed(manifest)}")
    cores = whole(at(manifest.machine, "machine", "cores", "logical"))
    if cores is not None and used > cores * (wall + CLOCK_TOLERANCE.total_seconds()):
        raise ManifestError(f"usage: {used:.0f} s of processor time in {wall:.0f} s on {cores} cores")


def check_device(manifest: Manifest, experiment: Experiment) -> None:
    """Raises ManifestError for a device that the experiment excludes, or that torch did not see."""
    device = str(manifest.internal_parameters.get("device"))
    found = _DEVICE.fullmatch(device)
    where = "internalParameters.device"
    if found is None:
        raise ManifestError(f"{where}: {device[:80]!r}, expected cpu, cuda or cuda:N")
    asked = "cpu" if experiment.determinism == "canonical" else experiment.device
    if asked in ("cpu", "cuda") and not device.startswith(asked):
        raise ManifestError(f"{where}: {device!r}, and the experiment asks for {asked}")
    gpus = at(manifest.internal_parameters.get("libraries"), "gpus")
    if device != "cpu" and isinstance(gpus, list) and int(found[1] or 0) >= len(gpus):
        raise ManifestError(f"{where}: {device!r}, and torch saw {len(gpus)} GPUs")


def check_timing(
    manifest: Manifest, rows: Sequence[Timing], scores: Sequence[Scores], experiment: Experiment, images: int | None
) -> None:
    """Raises ManifestError where an epoch's clock contradicts itself, the results, or the images that were trained on.

    ``images``: those of the training split, ``None`` where they are not recorded.
    """
    epochs = [row.epoch for row in scores]
    if [row.epoch for row in rows] not in (epochs, epochs[:-1] if manifest.outcome == "killed" else epochs):
        raise ManifestError("timing.jsonl: it has other epochs than metrics.jsonl")
    first_attempt = len(manifest.attempts) == 1 and not manifest.internal_parameters.get("resumedFromStep")
    step = manifest.internal_parameters.get("resumedFromStep") or 0
    for row, scored in zip(rows, scores, strict=False):
        where = f"timing.jsonl, epoch {row.epoch}"
        steps = scored.step - step if first_attempt else 1
        step = scored.step
        if row.train_seconds < LEAST_STEP_SECONDS * steps:
            raise ManifestError(f"{where}: {row.train_seconds:g} s for {steps} steps")
        if row.trail_seconds > row.train_seconds:
            raise ManifestError(f"{where}: the trail took {row.trail_seconds:g} s of {row.train_seconds:g} s")
        trained = row.images_per_second * row.train_seconds
        # the last batch may be left out, where it is not whole; a resumed epoch has fewer images
        least = max(1, images - experiment.batch_size + 1) if images and first_attempt else 1
        count = round(trained)
        if abs(trained - count) > 1e-6 * count or not least <= count <= (images or count):
            raise ManifestError(
                f"{where}: {row.images_per_second:g} images/s in {row.train_seconds:g} s are {trained:.7g} images"
                + (f" of {images}" if images else "")
            )
    total = timedelta(seconds=sum(row.train_seconds + row.test_seconds for row in rows))
    if len(manifest.attempts) == 1 and _elapsed(manifest) + CLOCK_TOLERANCE < total:
        raise ManifestError(
            f"metadata: {_elapsed(manifest)} from start to end, timing.jsonl has {total.total_seconds():.0f} s"
        )


def check_epochs(scores: Sequence[Scores], experiment: Experiment, images: int) -> None:
    """Raises ManifestError for results that the settings, or the ``images`` that were trained on, exclude.

    Every epoch has one step a batch, the last of which may be smaller, and the schedule's learning rate at its end; a
    train accuracy counts right answers; no cross-entropy is negative.
    """
    steps = steps_per_epoch(experiment, images)
    for row in scores:
        where = f"metrics.jsonl, epoch {row.epoch}"
        if row.step != row.epoch * steps:
            raise ManifestError(f"{where}: step {row.step}, and {images} images are {steps} steps an epoch")
        rate = experiment.rate_at(row.step - 1, steps * experiment.epochs)
        # the cosine's last steps are differences of nearly equal numbers
        if not math.isclose(row.learning_rate, rate, rel_tol=1e-9, abs_tol=1e-12 * experiment.learning_rate):
            raise ManifestError(f"{where}: learning rate {row.learning_rate:g}, and the schedule has {rate:g}")
        for name, value in (("train_accuracy", row.train_accuracy), ("train_top5_accuracy", row.train_top5_accuracy)):
            _expect_count(where, name, value, images)
        if min(row.train_loss, row.test_loss) < -1e-6:
            raise ManifestError(f"{where}: a negative loss, {min(row.train_loss, row.test_loss):g}")


def steps_per_epoch(experiment: Experiment, images: int) -> int:
    """The batches of so many training images."""
    return -(-images // experiment.batch_size)


def check_processes(recorded: Any, experiment: Experiment, device: str) -> None:
    """Raises ManifestError where the recorded processes are not those of the experiment, each on such a device."""
    if experiment.processes == 1 and recorded is None:
        return
    ranks = at(recorded, "ranks") if experiment.processes > 1 else None
    if not isinstance(ranks, list) or sorted(each["rank"] for each in ranks) != list(range(experiment.processes)):
        raise ManifestError(f"environment.json: processes that are not the {experiment.processes} of the experiment")
    kind = device.partition(":")[0]
    if odd := next((each for each in ranks if each["device"].partition(":")[0] != kind), None):
        raise ManifestError(
            f"environment.json: process {odd['rank']} is on {odd['device'][:80]!r}, and the run on {kind}"
        )
    if kind == "cpu" and (odd := next((each for each in ranks if not is_missing(at(each, "gpu"))), None)):
        raise ManifestError(f"environment.json: process {odd['rank']} has a GPU, and the run is on the CPU")


def _expect_count(where: str, name: str, value: float | None, images: int) -> None:
    if value is not None and abs(value * images - round(value * images)) > 1e-6 * images:
        raise ManifestError(f"{where}: {name} {value:g} is no number of right answers of {images} images")


def check_accuracies(scores: Sequence[Scores], images: int) -> None:
    """Raises ManifestError for an accuracy that is no fraction of the ``images`` that were scored."""
    for row in scores:
        where = f"metrics.jsonl, epoch {row.epoch}"
        for name, value in (("test_accuracy", row.test_accuracy), ("test_top5_accuracy", row.test_top5_accuracy)):
            _expect_count(where, name, value, images)
        for top1, top5 in ((row.test_accuracy, row.test_top5_accuracy), (row.train_accuracy, row.train_top5_accuracy)):
            if not 0 <= top1 <= (1 if top5 is None else top5) <= 1:
                raise ManifestError(f"{where}: accuracies {top1:g} and {top5} among five are no fractions of images")


def _elapsed(manifest: Manifest) -> timedelta:
    return datetime.fromisoformat(manifest.finished_on) - datetime.fromisoformat(manifest.started_on)
