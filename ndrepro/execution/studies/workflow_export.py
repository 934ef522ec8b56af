"""A study for other engines than Slurm: job lines, a Snakemake or Nextflow workflow, Kubernetes Indexed Jobs.

Each job is one ordinary command, ``ndrepro study run STUDY --only N``, which skips what is done, resumes what was
interrupted and claims its run, so that an engine may start it again whenever it likes. Its exit code is 0 where the run
is done. What a job needs (cores, memory, minutes) is the study file's, else estimated. Jobs write into one folder of
runs where all see it; with ``apart`` each has its own, ``RUNS/N``, which ``ndrepro study collect`` brings together.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.studies.plan import Item, StudyPlan, numbered
from ndrepro.protocol.errors import UsageError

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LEAST_MINUTES = 10
_MARGIN = 1.5  # what an estimate may be wrong by
_MEMORY_MARGIN = 1.3
_GIB = 2**30


@dataclass(frozen=True)
class WorkflowJob:
    """One run: its number in the study, its label, and the cores, mebibytes of memory, GPUs and minutes it needs."""

    number: int
    label: str
    threads: int
    memory_mib: int
    gpus: int
    minutes: int


@dataclass(frozen=True)
class Workflow:
    """The jobs of a study, and the command of one but for its number and its folder of runs.

    ``command`` are the words up to ``--only``, ``runs`` the folder; ``image`` and ``study_file`` are for Kubernetes.
    """

    name: str
    command: tuple[str, ...]
    runs: str
    jobs: tuple[WorkflowJob, ...]
    apart: bool = False
    image: str = "ndrepro:latest"
    study_file: Path | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a name that is more than a word, where it would stand in Python, Groovy or YAML."""
        for name in filter(None, (self.name, self.study_file.name if self.study_file else "")):
            if not _WORD.fullmatch(name):
                cure = "rename it: letters, digits, dots, dashes, underscores"
                raise UsageError(f"{name!r}: no name for a workflow", cure)

    def line(self, number: str) -> str:
        """The shell command of one job; ``number`` is its number, or a template's placeholder for it."""
        folder = f"{shlex.quote(self.runs)}/{number}" if self.apart else shlex.quote(self.runs)
        return f"{shlex.join(self.command)} --only {number} --runs {folder}"


def jobs_of(plan: StudyPlan, gpus: int) -> tuple[WorkflowJob, ...]:
    """The jobs of all that is to do, with ``gpus`` for each process."""
    order = {run.identity: number for number, run in numbered(plan.study).items()}
    return tuple(_job(order[item.run.identity], item, gpus) for item in plan.todo)


def _job(number: int, item: Item, gpus: int) -> WorkflowJob:
    needs, experiment = item.run.resources, item.run.experiment
    minutes = needs.minutes or _MARGIN * item.left.seconds / 60
    memory = needs.memory_gib or _MEMORY_MARGIN * item.left.memory_bytes / _GIB * experiment.processes
    return WorkflowJob(
        number=number,
        label=item.run.label,
        threads=experiment.processes * experiment.threads,
        memory_mib=math.ceil(1024 * memory),
        gpus=gpus * experiment.processes,
        minutes=max(_LEAST_MINUTES, math.ceil(minutes)),
    )


def job_lines(workflow: Workflow) -> str:
    """One command a line, for PBS, LSF, HTCondor, GNU parallel, xargs."""
    return "".join(f"{workflow.line(str(job.number))}\n" for job in workflow.jobs)


def snakemake(workflow: Workflow) -> str:
    """A Snakefile: a rule for all, and one rule with a wildcard for the run's number."""
    needs = {job.number: [job.threads, job.memory_mib, job.gpus, job.minutes] for job in workflow.jobs}
    command = workflow.line("{wildcards.number}")
    if "{" in shlex.join(workflow.command) + workflow.runs:
        raise UsageError("a path with braces, which Snakemake would take for a wildcard", "use another folder")
    table = "".join(f"    {number}: {row},\n" for number, row in needs.items())
    return f'''# {workflow.name}, written by `ndrepro study export`: snakemake --cores 4, or an executor of your cluster
# run number: cores, MiB of memory, GPUs, minutes
NEEDS = {{
{table}}}


rule all:
    input:
        expand("{workflow.name}.done/{{number}}", number=NEEDS),


rule run:
    output:
        touch("{workflow.name}.done/{{number}}"),
    log:
        "{workflow.name}.log/{{number}}",
    threads: lambda wildcards: NEEDS[int(wildcards.number)][0]
    resources:
        mem_mib=lambda wildcards: NEEDS[int(wildcards.number)][1],
        gpu=lambda wildcards: NEEDS[int(wildcards.number)][2],
        runtime=lambda wildcards: NEEDS[int(wildcards.number)][3],
    shell:
        {json.dumps(command + " > {log} 2>&1")}
'''


def nextflow(workflow: Workflow) -> str:
    """A Nextflow script (DSL 2) with one process."""
    rows = ",\n        ".join(
        f"[{job.number}, {job.threads}, {job.memory_mib}, {job.minutes}]" for job in workflow.jobs
    )
    command = workflow.line("NUMBER").replace("\\", "\\\\").replace("$", "\\$").replace("NUMBER", "${number}")
    accelerator = f"    accelerator {workflow.jobs[0].gpus}\n" if workflow.jobs and workflow.jobs[0].gpus else ""
    return f'''// {workflow.name}, written by `ndrepro study export`: nextflow run FILE
nextflow.enable.dsl = 2

process run {{
    tag "${{number}}"
    cpus {{ threads }}
    memory {{ "${{mib}} MB" }}
    time {{ "${{minutes}}m" }}
{accelerator}    errorStrategy 'retry'
    maxRetries 2

    input:
    tuple val(number), val(threads), val(mib), val(minutes)

    output:
    val number

    script:
    """
    {command}
    """
}}

workflow {{
    // run number, cores, MiB of memory, minutes
    Channel.of(
        {rows}
    ) | run
}}
'''


def kubernetes(workflow: Workflow) -> str:
    """Kubernetes' documents as a JSON list, which kubectl takes: the study file, and an Indexed Job a resource class.

    The volumes are claims of the cluster's own: ``ndrepro-runs`` for the runs, which all pods share, and a secret
    ``ndrepro-keys`` with the key home.
    """
    if workflow.study_file is None:
        raise UsageError("kubernetes: no study file to hand over", "name the study by its file")
    name = f"ndrepro-{workflow.name}".lower().replace("_", "-")
    text = workflow.study_file.read_text(encoding="utf-8")
    documents: list[object] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {f"{workflow.name}.toml": text}}
    ]
    classes: dict[tuple[int, int, int, int], list[int]] = {}
    for job in workflow.jobs:
        classes.setdefault((job.threads, job.memory_mib, job.gpus, job.minutes), []).append(job.number)
    for order, (needs, numbers) in enumerate(classes.items()):
        documents.append(_indexed_job(workflow, f"{name}-{order}", name, needs, numbers))
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2) + "\n"


def _indexed_job(
    workflow: Workflow, name: str, config: str, needs: tuple[int, int, int, int], numbers: Sequence[int]
) -> dict[str, object]:
    threads, memory_mib, gpus, minutes = needs
    study = f"/study/{workflow.name}.toml"
    folder = "/runs/$1" if workflow.apart else "/runs"
    # the run's number is the one at the place of the pod's index
    script = (
        "cp -rL /keys /tmp/keys; chmod -R go= /tmp/keys; "  # a secret's volume is read-only
        f'shift "$JOB_COMPLETION_INDEX"; exec ndrepro study run {study} --only "$1" --runs "{folder}"'
    )
    amounts = {"cpu": str(threads), "memory": f"{memory_mib}Mi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    container = {
        "name": "run",
        "image": workflow.image,
        "command": ["sh", "-c", script, "sh", *map(str, numbers)],
        "env": [{"name": "NDREPRO_HOME", "value": "/tmp/keys"}],
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [
            {"name": "study", "mountPath": "/study", "readOnly": True},
            {"name": "runs", "mountPath": "/runs"},
            {"name": "keys", "mountPath": "/keys", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "study", "configMap": {"name": config}},
        {"name": "runs", "persistentVolumeClaim": {"claimName": "ndrepro-runs"}},
        {"name": "keys", "secret": {"secretName": "ndrepro-keys"}},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completions": len(numbers),
            "parallelism": len(numbers),
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 3,
            # a pod that meets it is ended, and the next one resumes the run
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "activeDeadlineSeconds": 60 * minutes,
                    "containers": [container],
                    "volumes": volumes,
                }
            },
        },
    }


FORMATS: dict[str, Callable[[Workflow], str]] = {
    "joblines": job_lines,
    "snakemake": snakemake,
    "nextflow": nextflow,
    "kubernetes": kubernetes,
}
