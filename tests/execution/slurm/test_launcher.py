"""What a study asks of Slurm, as far as it needs none; on a real cluster: tests/engines/test_slurm.py."""

from pathlib import Path

import psutil
import pytest

from ndrepro.execution.slurm.filesystem_locks import check_locks
from ndrepro.execution.slurm.limits import minutes_of
from ndrepro.execution.slurm.queue import TaskState, elements
from ndrepro.execution.slurm.request import Cluster, Estimated, Shape, by_shape, packs, parameters, shape_of, shares
from ndrepro.execution.slurm.submissions import Submission
from ndrepro.execution.slurm.task import Line, Task, read_events
from ndrepro.execution.slurm.task_end import explain
from ndrepro.execution.studies.launchers import Job
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.study.study import Resources, StudyRun
from provenance.errors import StorageError


@pytest.mark.parametrize(
    ("kind", "options", "harmful"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", False),
        ("nfs", "rw,nolock", True),
        ("nfs4", "rw,local_lock=flock", True),
        ("lustre", "rw,flock", False),
        ("lustre", "rw", True),
        ("lustre", "rw,localflock", True),
        ("ext4", "rw", False),
        ("fuse.sshfs", "rw", True),
    ],
)
def test_a_mount_whose_locks_do_not_reach_other_nodes_is_refused(
    kind: str, options: str, harmful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").mkdir()
    mounts = f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path} {kind} {options} 0 0\n"
    (tmp_path / "self" / "mounts").write_text(mounts, encoding="utf-8")
    (tmp_path / "filesystems").touch()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    if harmful:
        with pytest.raises(StorageError, match="does not hold on another"):
            check_locks(tmp_path / "runs")
    else:
        check_locks(tmp_path / "runs")


def job(
    need_gib: float | None,
    nodes: int | None = None,
    *,
    minutes: float | None = None,
    memory_gib: float | None = None,
    **settings: str,
) -> Estimated:
    experiment = Experiment.from_name("lenet_bn_1_digits", settings)
    needs = Resources(need_gib, minutes=minutes, nodes=nodes, memory_gib=memory_gib)
    return Estimated(Job("s", StudyRun("main", experiment, resources=needs)), minutes or 1.0, memory_gib or 2.2)


def test_runs_are_packed_as_far_as_their_memory_fits() -> None:
    jobs = [job(4), job(4), job(4), job(7), job(None), job(1)]
    sizes = [len(group) for group in packs(jobs, Cluster(pack=3, gpu_memory_gib=8))]
    assert sizes == [2, 1, 1, 1, 1]
    assert [len(group) for group in packs(jobs, Cluster())] == [1] * 6


def test_runs_of_several_processes_go_alone_with_a_core_and_a_gpu_for_each() -> None:
    two = job(1, processes="2", threads="3")
    groups = packs([job(1), two, two, job(1)], Cluster(pack=4, gpu_memory_gib=8))
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert shape_of([two], Cluster(minutes=20)) == Shape(nodes=1, cpus=6, gpus=0, minutes=20, memory_gib=3)
    assert shape_of([two], Cluster(gpus=1)).gpus == 2
    assert shape_of([job(1, 2, processes="4", threads="3")], Cluster(gpus=1)) == Shape(2, 6, 2, 10, 3)


def test_each_resource_class_is_an_array_and_nodes_have_equal_shares() -> None:
    jobs = [job(1), job(1, 2, processes="2"), job(1, memory_gib=5.5, minutes=90), job(1)]
    classes = by_shape([[each] for each in jobs], Cluster())
    assert {(shape.nodes, shape.minutes, shape.memory_gib): len(same) for shape, same in classes.items()} == {
        (1, 10, 3): 2,
        (2, 10, 3): 1,
        (1, 90, 5.5): 1,
    }
    with pytest.raises(UsageError, match="processes=3 on 2 nodes: not the same on each"):
        shape_of([job(1, 2, processes="3")], Cluster())


def test_the_time_stays_within_what_the_site_allows_and_options_replace_estimates() -> None:
    long = job(1, minutes=3000)
    assert shape_of([long], Cluster(), longest=1440).minutes == 1440
    assert shape_of([long], Cluster(minutes=60), longest=1440).minutes == 60
    assert shape_of([long, long], Cluster()).memory_gib == 6  # the sum, rounded up
    request = parameters(Cluster(), shape_of([long], Cluster(memory_gib=1.5)), 8)
    assert (request["slurm_mem"], request["slurm_array_parallelism"]) == ("1536M", 8)
    assert "slurm_mem" not in parameters(Cluster(), shape_of([long], Cluster(memory_gib=0)), 8)
    assert "slurm_mem" not in parameters(Cluster(sbatch={"mem-per-cpu": "1G"}), shape_of([long], Cluster()), 8)


@pytest.mark.parametrize(("at_once", "sizes"), [(256, [1001, 199]), (4, [1, 1, 10]), (1, [5, 5]), (9, [2, 3])])
def test_arrays_share_what_may_run_at_once(at_once: int, sizes: list[int]) -> None:
    given = shares(at_once, sizes)
    assert sum(given) == max(len(sizes), min(at_once, sum(sizes)))
    assert all(1 <= some <= size for some, size in zip(given, sizes, strict=True))


def test_a_short_limit_leaves_time_to_train_and_to_stop() -> None:
    """Slurm may warn half a minute early, and looks twice a minute."""
    for minutes, warning in ((2, 60), (3, 90), (4, 120), (600, 120)):
        shape = Shape(1, 1, 0, minutes)
        assert shape.warning_seconds == warning
        assert shape.stop_seconds < warning <= 60 * minutes - 60
        assert parameters(Cluster(), shape, 1)["slurm_signal_delay_s"] == warning


def test_waiting_elements_are_read_from_slurms_brackets() -> None:
    assert list(elements("12_[0,4-6%2]")) == ["12_0", "12_4", "12_5", "12_6"]
    assert list(elements("12_3")) == ["12_3"]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("01:00:00", 60), ("2-12:30:00", 3630), ("7-00:00:00", 10080), ("30", 30), ("90:00", 90), ("UNLIMITED", None)],
)
def test_slurms_times_are_read(text: str, minutes: int | None) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(
    ("state", "log", "reason"),
    [
        (
            TaskState("OUT_OF_MEMORY", requested_memory="150M", peak_memory="149M"),
            "",
            "memory: it had 150M, it used 149M",
        ),
        (TaskState("FAILED", exit_signal=9), "slurmstepd: error: Job 3 exceeded memory limit", "killed for its memory"),
        (TaskState("TIMEOUT", time_limit="00:10:00"), "", "time limit of 00:10:00"),
        (TaskState("CANCELLED"), "*** JOB 3 ON n1 CANCELLED AT 1 DUE TO TIME LIMIT ***", "time limit"),
        (TaskState("NODE_FAIL", nodes="node7"), "", "its node node7 failed"),
        (TaskState("FAILED", exit_code=137), "", "killed by SIGKILL"),
        (TaskState("FAILED", exit_signal=11), "", "killed by SIGSEGV"),
        (
            TaskState("FAILED", exit_code=127),
            "sh: 1: module: not found\nsrun: error: n1: task 0: Exited",
            "module: not found",
        ),
        (TaskState("CANCELLED"), "", "cancelled"),
    ],
)
def test_the_cause_of_a_tasks_end_is_named(state: TaskState, log: str, reason: str) -> None:
    assert reason in explain(state, log).reason


def test_a_submission_of_the_first_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text('{"array": "12", "tasks": [["a", "b"], ["c"]], "minutes": {}}')
    (array,) = Submission.read(tmp_path).arrays
    assert [(number, task.labels) for number, task in array.elements()] == [("12_0", ("a", "b")), ("12_1", ("c",))]


def test_a_task_fails_with_its_runs_and_a_torn_line_of_events_is_passed_over(tmp_path: Path) -> None:
    events = tmp_path / "0-0.events"
    events.write_text('{"event": "began", "folder": "x"}\n{"event": "mov', encoding="utf-8")
    says = ("sh", "-c", 'echo \'{"event": "ended"}\'')
    assert Task((Line(says, str(events)),))() is None
    assert [event["event"] for event in read_events(events)] == ["began", "ended"]
    for script, code in (("exit 3", 3), ("kill -9 $$", 137)):
        with pytest.raises(SystemExit) as ended:
            Task((Line(says, str(events)), Line(("sh", "-c", script), str(events))))()
        assert ended.value.code == code
