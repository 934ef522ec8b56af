"""Checks a cluster before a study: what the login node has, and by a job of a minute what two tasks on nodes see.

    1  the commands of Slurm are there, and its controller and accounting answer
    2  the partition is there; the limits of jobs
    3  the folder of runs is on a file system whose locks reach other nodes, by its mount options
    4  the image of the profile is there
    5  two tasks start with the profile's prologue, import this project, and see the folder of runs
    6  a lock that one task holds is refused to the other
    7  the node's clock agrees with the login node's; user namespaces, GPUs and scratch are as asked for

Nothing here needs the internet, and neither do tasks.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding
from ndrepro.execution.slurm.filesystem_locks import check_locks
from ndrepro.execution.slurm.limits import Limits, ask_limits
from ndrepro.execution.slurm.profile import Profile
from ndrepro.execution.slurm.queue import TaskState, ask, cancel_array, task_states
from ndrepro.execution.slurm.task_end import explain
from ndrepro.protocol.image_reference import FILE_ENGINES
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.project_folders import CODE
from provenance.errors import ProvenanceError
from provenance.formats.folder_tree import remove_tree
from provenance.git.helper_programs import find_program
from provenance.git.tracked_paths import expect_no_tracked_link

_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct", "sacctmgr")
_QUEUE_SECONDS = 600.0
_CLOCK_SECONDS = 5.0
_TASKS = 2


@dataclass(frozen=True)
class Probe:
    """What one task saw; see ``probe``."""

    host: str
    seconds: float
    python: str
    lock: str
    user_namespaces: bool
    gpus: int
    visible_gpus: str
    scratch: str


def check_cluster(profile: Profile, runs: RunsFolder) -> Iterator[Finding]:
    """Every finding, in the order above; the job is submitted only where the login node has no problem."""
    healthy = True
    for finding in _login_node(profile, runs):
        healthy = healthy and finding.status != PROBLEM
        yield finding
    if healthy:
        try:
            yield from _nodes(profile, runs)
        except ProvenanceError as error:
            yield Finding("job", PROBLEM, error.message, error.cure)


def _login_node(profile: Profile, runs: RunsFolder) -> Iterator[Finding]:
    missing = [name for name in _COMMANDS if find_program(name) is None]
    if missing:
        yield Finding("slurm", PROBLEM, f"{', '.join(missing)} not on PATH", "run this on the cluster's login node")
        return
    try:
        ask("scontrol", "ping")
        ask("sacct", "--allocations", "--noheader", "--starttime=now")
    except ProvenanceError as error:
        yield Finding("slurm", PROBLEM, error.message, "the controller and accounting (sacct) must both answer")
        return
    yield Finding("slurm", OK, ask("sinfo", "--version").strip())
    try:
        yield Finding("limits", OK, _words(ask_limits(profile.partition, profile.account, profile.sbatch.get("qos"))))
    except ProvenanceError as error:
        yield Finding("limits", PROBLEM, error.message, error.cure)
    try:
        check_locks(runs.root)
        yield Finding("runs", OK, f"{runs.root.absolute()}: its mount options let locks reach other nodes")
    except ProvenanceError as error:
        yield Finding("runs", PROBLEM, error.message, error.cure)
    if profile.engine in FILE_ENGINES and profile.image:
        there = Path(profile.image).is_file()
        cure = "write one (`make sif`, or `enroot import`) where every node sees it"
        yield Finding.of("image", there, f"{profile.image}{'' if there else ': no such file'}", cure, PROBLEM)


def _words(limits: Limits) -> str:
    parts = [f"partition {limits.partition or 'unknown'}", f"arrays of up to {limits.array_size} tasks"]
    parts += [f"{limits.submit} jobs in the queue ({limits.submit_source})"] if limits.submit is not None else []
    parts += [f"{limits.minutes} minutes a job ({limits.minutes_source})"] if limits.minutes is not None else []
    return ", ".join(parts)


def _nodes(profile: Profile, runs: RunsFolder) -> Iterator[Finding]:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    folder = runs.root.absolute() / ".slurm" / ".doctor" / stamp
    # a job of this folder is executed
    expect_no_tracked_link(folder, "name another folder of runs: --runs DIR")
    folder.mkdir(parents=True)
    (folder / "small").write_text("a file to be copied to scratch\n", encoding="utf-8")
    started = time.time()
    array = _submit(profile, folder)
    try:
        states = _wait(array)
    finally:
        cancel_array(array)
    ended = time.time()
    probes = {
        number: Probe(**read_json(path)) for number in range(_TASKS) if (path := folder / f"{number}.json").exists()
    }
    for number in range(_TASKS):
        if number not in probes:
            yield _no_report(array, number, states, folder)
    if len(probes) == _TASKS:
        yield from _seen(profile, list(probes.values()), started, ended)
        remove_tree(folder)


def _submit(profile: Profile, folder: Path) -> str:
    script = folder / "probe.sh"
    words = [sys.executable, "-P", "-m", "ndrepro.execution.slurm.probe", str(folder)]
    command = f'{shlex.join(words)} "$SLURM_ARRAY_TASK_ID" {shlex.quote(profile.scratch)}'
    lines = ["#!/bin/bash", *profile.prologue, f"export PYTHONPATH={shlex.quote(str(CODE))}", command]
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["--parsable", f"--array=0-{_TASKS - 1}", "--time=1", "--job-name=ndrepro-doctor", "--ntasks=1"]
    options += [f"--output={folder}/%a.out"]
    options += [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(profile, name))]
    options += [f"--gpus-per-node={profile.gpus}"] if profile.gpus else []
    options += [f"--{key}={value}" for key, value in profile.sbatch.items() if not key.startswith("mail")]
    return ask("sbatch", *options, str(script)).strip().partition(";")[0]


def _wait(array: str) -> dict[str, TaskState]:
    """Until both tasks are over, or the queue has kept them for ten minutes."""
    deadline = time.monotonic() + _QUEUE_SECONDS
    while True:
        states = task_states([array])
        mine = [states.get(f"{array}_{number}", TaskState()) for number in range(_TASKS)]
        if all(state.over for state in mine) or time.monotonic() > deadline:
            return states
        time.sleep(1.0)


def _no_report(array: str, number: int, states: dict[str, TaskState], folder: Path) -> Finding:
    state = states.get(f"{array}_{number}", TaskState())
    if state.queued:
        message = f"task {number} is still {state.state} after {_QUEUE_SECONDS / 60:.0f} minutes ({state.reason})"
        return Finding("job", WARNING, message, "try again when the partition is less busy; it was cancelled")
    log = folder / f"{number}.out"
    end = explain(state, log.read_text(errors="replace") if log.exists() else "")
    return Finding("job", PROBLEM, f"task {number} ended as {state.state}: {end.reason}", f"{end.cure}; {log}")


def _seen(profile: Profile, probes: list[Probe], started: float, ended: float) -> Iterator[Finding]:
    hosts = ", ".join(dict.fromkeys(probe.host for probe in probes))
    yield Finding("nodes", OK, f"{hosts}: Python {probes[0].python}, this project and the folder of runs are there")
    yield _lock(probes[1].lock, hosts)
    late = max(max(started - probe.seconds, probe.seconds - ended, 0.0) for probe in probes)
    agree = late <= _CLOCK_SECONDS
    message = "the nodes' agree with the login node's" if agree else f"a node's differs by {late:.0f} s"
    yield Finding.of("clocks", agree, message, "runs are ordered by the ledger, not by it")
    allowed = all(probe.user_namespaces for probe in probes)
    message = f"{'allowed' if allowed else 'not allowed'} on the nodes"
    cure = "Apptainer then needs its set-uid installation; ask the site"
    yield Finding.of("user namespaces", allowed, message, cure)
    if profile.gpus:
        least = min(probe.gpus for probe in probes)
        message, cure = f"a task sees {least}, asked for {profile.gpus}", "see the partition's gres: sinfo -o %G"
        yield Finding.of("gpus", least >= profile.gpus, message, cure, PROBLEM)
    if profile.scratch:
        bad = next((probe.scratch for probe in probes if probe.scratch.startswith("error")), "")
        yield Finding.of("scratch", not bad, bad or probes[0].scratch, "correct `scratch` in the profile", PROBLEM)


def _lock(lock: str, hosts: str) -> Finding:
    if lock == "refused":
        return Finding("locks", OK, f"what one task locks is refused to the other ({hosts})")
    if lock == "taken":
        cure = "put the runs on a file system with locks between nodes: --runs DIR"
        return Finding("locks", PROBLEM, "both tasks could take the same lock", cure)
    return Finding("locks", WARNING, "not tried: the two tasks did not run at the same time", "try again later")
