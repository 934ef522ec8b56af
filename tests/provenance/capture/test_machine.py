"""The machine under this test, and others from what their kernels write."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from provenance.capture import machine

X86 = """processor\t: {index}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: {microcode}
flags\t\t: fpu sse4_2 smep smap avx avx2 fma avx512f avx512_bf16 avx_vnni amx_bf16 amx_tile rdtscp

"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd atomics fphp asimdhp sve bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd4f
CPU revision\t: 1

"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine() -> None:
    found = machine.capture()
    assert found["cores"]["logical"] == os.cpu_count()
    assert found["cores"]["affinity"]["count"] == len(os.sched_getaffinity(0))
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["swap_bytes"] == psutil.swap_memory().total
    assert found["cores"]["physical"] in (psutil.cpu_count(logical=False), found["cores"]["logical"])
    assert found["kernel"]["release"] == os.uname().release


def test_affinity_is_that_of_the_process() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.capture()["cores"]["affinity"] == {"count": 1, "cores": str(min(before))}
    finally:
        os.sched_setaffinity(0, before)
    assert machine.capture()["cores"]["affinity"]["count"] == len(before)


def test_an_intel_processor(tmp_path: Path) -> None:
    text = X86.format(index=0, microcode="0x2b") + X86.format(index=1, microcode="0x2b")
    cpu = machine.capture(write(tmp_path, {"proc/cpuinfo": text}))["cpu"]
    assert cpu["model_name"] == "Intel(R) Xeon(R) Platinum 8480+"
    assert (cpu["family"], cpu["model"], cpu["stepping"], cpu["microcode"]) == ("6", "143", "8", "0x2b")
    assert " ".join(cpu["flags"]) == "amx_bf16 amx_tile avx avx2 avx512_bf16 avx512f avx_vnni fma sse4_2"
    assert cpu["kinds_of_core"] == 1
    mixed = X86.format(index=0, microcode="0x2b") + X86.format(index=1, microcode="0x2c")
    assert machine.capture(write(tmp_path, {"proc/cpuinfo": mixed}))["cpu"]["kinds_of_core"] == 2


def test_an_arm_processor_says_what_it_does_not_say(tmp_path: Path) -> None:
    cpu = machine.capture(write(tmp_path, {"proc/cpuinfo": ARM}))["cpu"]
    assert (cpu["vendor"], cpu["model"]) == ("0x41", "0xd4f")
    assert {"sve", "bf16", "i8mm", "asimdhp"} <= set(cpu["flags"])
    assert cpu["microcode"] == {"unavailable": "/proc/cpuinfo does not say (microcode)"}


def test_hardware_threads_share_cores(tmp_path: Path) -> None:
    topology = {
        f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}\n" for n in range(8)
    }
    assert machine.capture(write(tmp_path, topology))["cores"]["physical"] == 4


def test_an_unreadable_machine_loses_no_other_field(tmp_path: Path) -> None:
    found = machine.capture(tmp_path)
    assert found["cpu"]["unavailable"].startswith("FileNotFoundError")
    assert found["limits"]["unavailable"].startswith("FileNotFoundError")
    assert "unavailable" in found["operating_system"]
    assert found["kernel"] == machine.capture()["kernel"]


V2 = "sys/fs/cgroup/"


@pytest.mark.parametrize(
    ("group", "files", "cores", "memory"),
    [
        ("/a/b", {"a/b/cpu.max": "150000 100000", "a/b/memory.max": "1024"}, 1.5, 1024),
        (
            "/a/b",
            {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000", "a/b/memory.max": "9", "a/memory.max": "5"},
            0.5,
            5,
        ),
        ("/", {"cpu.max": "200000 100000", "memory.max": "max"}, 2.0, {"none": "no limit is set"}),
        ("/not/seen/from/here", {"cpu.max": "100000 100000", "memory.max": "7"}, 1.0, 7),
        ("/../outside", {"memory.max": "max"}, {"none": "no limit is set"}, {"none": "no limit is set"}),
    ],
)
def test_limits_of_control_groups_2(
    tmp_path: Path, group: str, files: dict[str, str], cores: object, memory: object
) -> None:
    write(tmp_path, {"proc/self/cgroup": f"0::{group}\n", V2 + "cgroup.controllers": "cpu memory"})
    write(tmp_path, {V2 + name: text + "\n" for name, text in files.items()})
    write(tmp_path, {V2 + "cpuset.cpus.effective": "0-3\n"})
    found = machine.capture(tmp_path)["limits"]
    assert found == {"cgroup_version": 2, "cores": cores, "memory_bytes": memory, "allowed_cores": "0-3"}


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_limits_of_control_groups_1(tmp_path: Path, folder: str) -> None:
    memory, unlimited = "sys/fs/cgroup/memory/", str((1 << 63) - 4096)
    files = {
        "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n2:cpuset:/\n1:name=systemd:/\n",
        f"sys/fs/cgroup/{folder}/docker/x/cpu.cfs_quota_us": "250000",
        f"sys/fs/cgroup/{folder}/docker/x/cpu.cfs_period_us": "100000",
        f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": "-1",
        f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": "100000",
        memory + "docker/x/memory.limit_in_bytes": unlimited,
        memory + "docker/memory.limit_in_bytes": "4096",
        "sys/fs/cgroup/cpuset/cpuset.cpus": "0-1",
    }
    found = machine.capture(write(tmp_path, files))["limits"]
    assert found == {"cgroup_version": 1, "cores": 2.5, "memory_bytes": 4096, "allowed_cores": "0-1"}
