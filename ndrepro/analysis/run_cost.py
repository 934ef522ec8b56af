"""What a run cost, by its manifest: time on its machine, CPU and GPU time, energy. Runs that failed cost, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.manifest import ENERGY, Manifest

_CPU = ("user_seconds", "system_seconds", "children_user_seconds", "children_system_seconds")


@dataclass(frozen=True)
class RunCost:
    """Of all attempts of one run: seconds from start to end, and as many for each GPU that it trained on.

    ``cpu_seconds`` are those of the last attempt's training process and its children, None where it did not live to
    report them; ``joules`` what the counters of processors and GPUs counted during the last attempt, None where there
    is none to read.
    """

    wall_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cpu_seconds: float | None = None
    joules: float | None = None


UNKNOWN = RunCost()


@dataclass(frozen=True)
class TotalCost:
    """Of several runs, in hours and kilowatt hours; how many runs have no CPU time and no energy in their sums."""

    runs: int
    wall_hours: float
    gpu_hours: float
    cpu_hours: float
    without_cpu: int
    kilowatt_hours: float
    without_energy: int


def cost_of(manifest: Manifest) -> RunCost:
    """The cost of a training run; what its manifest does not have is None."""
    record = TrainingRecord.of(manifest)
    seconds = sum(_seconds(each.started_on, each.finished_on) for each in manifest.attempts)
    gpus = record.experiment_document.get("processes", 1) if record.device.startswith("cuda") else 0
    used = [value for name in _CPU if isinstance(value := record.usage.get(name), int | float)]
    return RunCost(seconds, seconds * gpus, sum(used) if used else None, _joules(manifest))


def total(costs: Iterable[RunCost]) -> TotalCost:
    """The sums."""
    costs = list(costs)
    return TotalCost(
        runs=len(costs),
        wall_hours=sum(each.wall_seconds for each in costs) / 3600,
        gpu_hours=sum(each.gpu_seconds for each in costs) / 3600,
        cpu_hours=sum(each.cpu_seconds or 0.0 for each in costs) / 3600,
        without_cpu=sum(each.cpu_seconds is None for each in costs),
        kilowatt_hours=sum(each.joules or 0.0 for each in costs) / 3.6e6,
        without_energy=sum(each.joules is None for each in costs),
    )


def _seconds(start: str, end: str | None) -> float:
    if end is None:
        return 0.0  # nothing saw it
    try:
        return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    except ValueError:
        return 0.0


def _joules(manifest: Manifest) -> float | None:
    said = manifest.byproduct(ENERGY)
    counters = [] if said is None else list((said.annotations or {}).values())
    numbers = [
        float(joules)
        for counter in counters
        if isinstance(counter, Mapping)
        for joules in counter.values()
        if isinstance(joules, int | float)
    ]
    return sum(numbers) if numbers else None
