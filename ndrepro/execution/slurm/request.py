"""The resources that a study requests of a Slurm cluster: how runs are packed into the elements of one array, and what
each element gets. Nothing here contacts a cluster.

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
# how long before the time limit a task is warned; of a short limit, half
_WARNING_SECONDS = 120
# what of it the runs have to stop in, before the task is put back
_STOP_FRACTION = 0.6


@dataclass(frozen=True)
class Cluster:
    """The options of a submission, for each element of the array.

    ``at_once`` bounds how many elements run at the same time; ``pack`` how many runs share one element and its GPU,
    as far as the GPU memory that the study file says they need fits into ``gpu_memory_gib``. ``gpus`` are those of
    each node; a run of several processes gets one for each of them, where it gets any. ``minutes`` replaces the
    estimate. ``more`` are options of sbatch by their long names.
    """

    partition: str | None = None
    account: str | None = None
    at_once: int = 256
    pack: int = 1
    gpus: int = 0
    gpu_memory_gib: float | None = None
    minutes: int | None = None
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Estimated:
    """A job with its estimate."""

    job: Job
    minutes: float

    @property
    def nodes(self) -> int:
        """How many nodes it is to have."""
        return self.job.run.resources.nodes or 1

    @property
    def share(self) -> int:
        """How many of its processes each node has. Raises UsageError where that is no whole number."""
        processes, label = self.job.run.experiment.processes, self.job.run.label or self.job.run.experiment.name
        share, rest = divmod(processes, self.nodes)
        if rest:
            raise UsageError(
                f"{label}: processes={processes} on {self.nodes} nodes: not the same on each",
                "choose a multiple of the nodes, or other `nodes` in the study file's [[resources]]",
            )
        return share

    @property
    def threads(self) -> int:
        """The cores that it keeps busy on each node."""
        return self.share * self.job.run.experiment.threads


@dataclass(frozen=True)
class Shape:
    """What every element of an array gets: nodes, cores and GPUs of each, minutes, and seconds of warning."""

    nodes: int
    cpus: int
    gpus: int
    minutes: int

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


def shape_of(groups: Sequence[Sequence[Estimated]], cluster: Cluster) -> Shape:
    """The resources that suffice for every element. Raises UsageError for runs that want different numbers of nodes."""
    each = [one for group in groups for one in group]
    nodes = sorted({one.nodes for one in each})
    if len(nodes) > 1:
        raise UsageError(
            f"some runs are to have {nodes[0]} node{'s' * (nodes[0] > 1)} and some {nodes[-1]}: an array has one shape",
            "submit their grids one after the other: `ndrepro study run NAME --grid GRID`",
        )
    minutes = cluster.minutes or max(_LEAST_MINUTES, round(max(one.minutes for one in each) + 0.5))
    return Shape(
        nodes=nodes[0],
        cpus=max(sum(one.threads for one in group) for group in groups),
        gpus=max(cluster.gpus, *(one.share for one in each)) if cluster.gpus else 0,
        minutes=minutes,
    )


def parameters(cluster: Cluster, shape: Shape) -> dict[str, Any]:
    """The request as submitit's parameters."""
    chosen: dict[str, Any] = {
        "name": "ndrepro",
        "timeout_min": shape.minutes,
        "cpus_per_task": shape.cpus,
        "slurm_array_parallelism": cluster.at_once,
        "slurm_signal_delay_s": shape.warning_seconds,
        "slurm_additional_parameters": {"requeue": True, **cluster.more},
        # the task itself is one process, on the first node; since 22.05 srun asks for its cores anew
        "nodes": shape.nodes,
        "tasks_per_node": 1,
        "slurm_srun_args": ["--nodes=1", "--ntasks=1", f"--cpus-per-task={shape.cpus}"],
    }
    if shape.gpus:
        chosen["slurm_gpus_per_node"] = shape.gpus
    if cluster.partition:
        chosen["slurm_partition"] = cluster.partition
    if cluster.account:
        chosen["slurm_account"] = cluster.account
    return chosen
