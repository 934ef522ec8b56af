"""What a study asks of Slurm, as far as it needs none; on a real cluster: tests/engines/test_slurm.py."""

from pathlib import Path

import psutil
import pytest

from ndrepro.execution.slurm.filesystem_locks import check_locks
from ndrepro.execution.slurm.launcher import _elements
from ndrepro.execution.slurm.request import Cluster, Estimated, Shape, packs, parameters, shape_of
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


def job(need_gib: float | None, nodes: int | None = None, **settings: str) -> Estimated:
    experiment = Experiment.from_name("lenet_bn_1_digits", settings)
    return Estimated(Job("s", StudyRun("main", experiment, resources=Resources(need_gib, nodes=nodes))), 1.0)


def test_runs_are_packed_as_far_as_their_memory_fits() -> None:
    jobs = [job(4), job(4), job(4), job(7), job(None), job(1)]
    sizes = [len(group) for group in packs(jobs, Cluster(pack=3, gpu_memory_gib=8))]
    assert sizes == [2, 1, 1, 1, 1]
    assert [len(group) for group in packs(jobs, Cluster())] == [1] * 6


def test_runs_of_several_processes_go_alone_with_a_core_and_a_gpu_for_each() -> None:
    two = job(1, processes="2", threads="3")
    groups = packs([job(1), two, two, job(1)], Cluster(pack=4, gpu_memory_gib=8))
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert shape_of([[two]], Cluster(minutes=20)) == Shape(nodes=1, cpus=6, gpus=0, minutes=20)
    assert shape_of([[two]], Cluster(gpus=1)).gpus == 2
    assert shape_of([[job(1, 2, processes="4", threads="3")]], Cluster(gpus=1)) == Shape(2, 6, 2, 10)


def test_an_array_has_one_shape_and_equal_nodes() -> None:
    with pytest.raises(UsageError, match="some runs are to have 1 node and some 2"):
        shape_of([[job(1)], [job(1, 2, processes="2")]], Cluster())
    with pytest.raises(UsageError, match="processes=3 on 2 nodes: not the same on each"):
        shape_of([[job(1, 2, processes="3")]], Cluster())


def test_a_short_limit_leaves_time_to_train_and_to_stop() -> None:
    """Slurm may warn half a minute early, and looks twice a minute."""
    for minutes, warning in ((2, 60), (3, 90), (4, 120), (600, 120)):
        shape = Shape(1, 1, 0, minutes)
        assert shape.warning_seconds == warning
        assert shape.stop_seconds < warning <= 60 * minutes - 60
        assert parameters(Cluster(), shape)["slurm_signal_delay_s"] == warning


def test_waiting_elements_are_read_from_slurms_brackets() -> None:
    assert list(_elements("12_[0,4-6%2]")) == ["12_0", "12_4", "12_5", "12_6"]
    assert list(_elements("12_3")) == ["12_3"]
