"""The resources that a study requests of a Slurm cluster: how runs are packed into the elements of arrays, one array
for each resource class, and what each element gets. Nothing here contacts a cluster.

A run of several processes has each node's share of them, with their threads and (where GPUs are asked for) a GPU each,
on as many nodes as the study file's resources say; ``ndrepro.execution.runs.slurm_allocation`` starts them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ndrepro.execution.studies.launchers import Job
from ndrepro.protocol.errors import UsageError

_LEAST_MINUTES = 10
# estimates are rounded up to one of these, so that few arrays serve many networks
_MINUTE_STEPS = (10, 20, 30, 60, 120, 240, 480, 720, 1440, 2880, 5760, 10080)
_GIB_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# how long before the time limit a task is warned; of a short limit, half
_WARNING_SECONDS = 120
# what of it the runs have to stop in, before the task is put back
_STOP_FRACTION = 0.6


@dataclass(frozen=True)
class Cluster:
    """The options of a submission, for each element of the array.

    Those of a ``Profile`` under their names. ``jobs`` bounds how many elements run at the same time; ``pack`` how
    many runs share one element and its GPU, as far as the GPU memory that the study file says they need fits into
    ``gpu_memory_gib``. ``gpus`` are those of each node; a run of several processes gets one for each of them, where
    it gets any. ``minutes`` replaces the estimate, and so does ``memory_gib``, of each node. ``prologue`` are lines
    of shell that come before every task, ``scratch`` a folder of the node that data are copied to (``staging``).
    ``sbatch`` are other options of sbatch by their long names.
    """

    partition: str | None = None
    account: str | None = None
    jobs: int = 256
    pack: int = 1
    gpus: int = 0
    gpu_memory_gib: float | None = None
    minutes: int | None = None
    memory_gib: float | None = None
    prologue: tuple[str, ...] = ()
    scratch: str = ""
    sbatch: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimated:
    """A job with the estimates of its time, and of its memory on each node."""

    job: Job
    minutes: float
    memory_gib: float = 0.0

    @property
    def nodes(self) -> int:
        """How many nodes it is to have."""
        return self.job.run.resources.nodes or 1

    @property
    def label(self) -> str:
        """What people call its run."""
        return self.job.run.label or self.job.run.experiment.name

    @property
    def share(self) -> int:
        """How many of its processes each node has. Raises UsageError where that is no whole number."""
        processes = self.job.run.experiment.processes
        share, rest = divmod(processes, self.nodes)
        if rest:
            raise UsageError(
                f"{self.label}: processes={processes} on {self.nodes} nodes: not the same on each",
                "choose a multiple of the nodes, or other `nodes` in the study file's [[resources]]",
            )
        return share

    @property
    def threads(self) -> int:
        """The cores that it keeps busy on each node."""
        return self.share * self.job.run.experiment.threads


@dataclass(frozen=True)
class Shape:
    """A resource class, what every element of an array gets: nodes, cores, GPUs and memory of each, and minutes."""

    nodes: int
    cpus: int
    gpus: int
    minutes: int
    memory_gib: float = 0.0

    @property
    def warning_seconds(self) -> int:
        """How long before the time limit a task is warned."""
        return min(_WARNING_SECONDS, 30 * self.minutes)

    @property
    def stop_seconds(self) -> float:
        """How long a warned task waits for its runs to stop before it is put back."""
        return _STOP_FRACTION * self.warning_seconds


def packs(jobs: Sequence[Estimated], cluster: Cluster) -> list[list[Estimated]]:
    """The jobs in order, those that fit on one GPU together as one.

    One whose need nobody has said goes alone, and so does one of several processes, which has a GPU for each.
    """
    found: list[list[Estimated]] = []
    room = 0.0
    for each in jobs:
        need = each.job.run.resources.gpu_memory_gib if each.job.run.experiment.processes == 1 else None
        fits = found and need is not None and len(found[-1]) < cluster.pack and need <= room
        if not fits:
            found.append([])
            room = 0.0 if need is None else (cluster.gpu_memory_gib or float("inf"))
        found[-1].append(each)
        room -= need or 0.0
    return found


def shape_of(group: Sequence[Estimated], cluster: Cluster, longest: int | None = None) -> Shape:
    """The resource class of the runs of one element; ``longest`` are the most minutes that the site allows.

    What the study file says is taken as it is; estimates are rounded up. A run that needs longer than the site allows
    is put back at the limit, and resumed.
    """
    given = [one.job.run.resources.minutes for one in group]
    minutes = max(_LEAST_MINUTES, round(max(one.minutes for one in group) + 0.5))
    if any(each is None for each in given):
        minutes = _up(minutes, _MINUTE_STEPS)
    minutes = cluster.minutes or minutes
    memory = sum(one.memory_gib for one in group)
    if any(one.job.run.resources.memory_gib is None for one in group):
        memory = _up(memory, _GIB_STEPS) if memory else 0.0
    return Shape(
        nodes=group[0].nodes,
        cpus=sum(one.threads for one in group),
        gpus=max(cluster.gpus, *(one.share for one in group)) if cluster.gpus else 0,
        minutes=min(minutes, longest or minutes),
        memory_gib=memory if cluster.memory_gib is None else cluster.memory_gib,
    )


def by_shape(
    groups: Sequence[list[Estimated]], cluster: Cluster, longest: int | None = None
) -> dict[Shape, list[list[Estimated]]]:
    """The groups of each resource class, both in the order of the first."""
    found: dict[Shape, list[list[Estimated]]] = {}
    for group in groups:
        found.setdefault(shape_of(group, cluster, longest), []).append(group)
    return found


def shares(at_once: int, sizes: Sequence[int]) -> list[int]:
    """How many elements of each array may run at once, about as their sizes are, so that all together stay within
    ``at_once``: at least one of each, so not below the number of arrays."""
    rest = max(0, at_once - len(sizes))
    found = [1 + min(size - 1, rest * size // sum(sizes)) for size in sizes]
    for number, size in sorted(enumerate(sizes), key=lambda item: -item[1]):
        found[number] += max(0, min(size - found[number], at_once - sum(found)))
    return found


def _up(amount: float, steps: Sequence[int]) -> int:
    return next((step for step in steps if step >= amount), round(amount + 0.5))


def parameters(cluster: Cluster, shape: Shape, at_once: int) -> dict[str, Any]:
    """The request of an array as submitit's parameters."""
    chosen: dict[str, Any] = {
        "name": "ndrepro",
        "timeout_min": shape.minutes,
        "cpus_per_task": shape.cpus,
        "slurm_array_parallelism": at_once,
        "slurm_signal_delay_s": shape.warning_seconds,
        "slurm_additional_parameters": {"requeue": True, **cluster.sbatch},
        # the task itself is one process, on the first node; since 22.05 srun asks for its cores anew
        "nodes": shape.nodes,
        "tasks_per_node": 1,
        "slurm_srun_args": ["--nodes=1", "--ntasks=1", f"--cpus-per-task={shape.cpus}"],
    }
    if shape.memory_gib and not any(key.startswith("mem") for key in cluster.sbatch):
        chosen["slurm_mem"] = f"{round(1024 * shape.memory_gib)}M"
    if cluster.prologue:
        chosen["slurm_setup"] = list(cluster.prologue)
    if shape.gpus:
        chosen["slurm_gpus_per_node"] = shape.gpus
    if cluster.partition:
        chosen["slurm_partition"] = cluster.partition
    if cluster.account:
        chosen["slurm_account"] = cluster.account
    return chosen
