"""The machine as this process sees it: kernel, C library, processor, cores, memory, and the limits set on them.

Numbers move with the processor: numerical libraries choose their kernels by its instruction sets, and split sums by
the number of threads. What is read comes from ``/proc`` and ``/sys`` (Linux); psutil is asked where they do not say.
Every path is taken below ``root``, so that the records of another machine can be read in a test.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import none, probe, unavailable

# instruction sets by which MKL, oneDNN, OpenBLAS and ATen choose their kernels (x86 and Arm)
_NUMERIC_FLAGS = re.compile(
    r"pni|sse3|ssse3|sse4_[12]|sse4a|f16c|fma4?|avx\w*|amx\w*|\w*vnni\w*|\w*bf16\w*|\w*fp16\w*|asimd\w*|neon|vfp\w*"
    r"|sve\w*|sme(?!p)\w*|i8mm|fphp"
)
# field -> its name in /proc/cpuinfo on x86, on Arm
_CPU_FIELDS = {
    "model_name": ("model name",),
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
    "microcode": ("microcode",),
}
_NO_LIMIT_V1 = 1 << 62  # version 1 writes "no limit" as the largest multiple of a page


def capture(root: Path = Path("/")) -> dict[str, Any]:
    """Everything that is known of the machine; what is not says why."""
    return {
        "hostname": probe(platform.node),
        "kernel": probe(_kernel),
        "libc": probe(_libc),
        "operating_system": probe(_operating_system, root),
        "cpu": probe(_cpu, root),
        "cores": {
            "logical": probe(_logical_cores),
            "physical": probe(_physical_cores, root),
            "affinity": probe(_affinity),
        },
        "memory_bytes": probe(_memory, root, "MemTotal"),
        "swap_bytes": probe(_memory, root, "SwapTotal"),
        "limits": probe(_limits, root),
    }


def _kernel() -> dict[str, str]:
    name = platform.uname()
    return {"name": name.system, "release": name.release, "version": name.version, "architecture": name.machine}


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # not the GNU one
        return " ".join(platform.libc_ver()).strip() or "unknown, not glibc"


def _operating_system(root: Path) -> Any:
    for name in ("etc/os-release", "usr/lib/os-release"):
        if (root / name).is_file():
            fields = dict(re.findall(r"(?m)^([A-Z_]+)=[\"']?(.*?)[\"']?$", (root / name).read_text(encoding="utf-8")))
            return fields.get("PRETTY_NAME") or fields.get("ID") or unavailable(f"{name} does not name it")
    return unavailable("there is no os-release file")


def _cpu(root: Path) -> dict[str, Any]:
    text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    blocks = [_fields(block) for block in text.strip().split("\n\n")]
    blocks = [block for block in blocks if "processor" in block] or blocks
    found = {name: _first(blocks[0], keys) for name, keys in _CPU_FIELDS.items()}
    flags = _first(blocks[0], ("flags", "Features"))
    found["flags"] = sorted(filter(_NUMERIC_FLAGS.fullmatch, flags.split())) if isinstance(flags, str) else flags
    kinds = {tuple(str(_first(block, keys)) for keys in _CPU_FIELDS.values()) for block in blocks}
    found["kinds_of_core"] = len(kinds)
    return found


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _first(block: dict[str, str], keys: Iterable[str]) -> Any:
    found = (block[key] for key in keys if block.get(key))
    return next(found, unavailable(f"/proc/cpuinfo does not say ({' or '.join(keys)})"))


def _logical_cores() -> Any:
    return os.cpu_count() or unavailable("the system does not say")


def _physical_cores(root: Path) -> Any:
    """The number of different sets of hardware threads that share a core."""
    siblings = list((root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"))
    if siblings:
        return len({path.read_text().strip() for path in siblings})
    try:
        import psutil
    except ImportError:
        return unavailable("/sys has no processor topology, and psutil is not installed")
    return psutil.cpu_count(logical=False) or unavailable("neither /sys nor psutil says")


def _affinity() -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    return {"count": len(cores), "cores": _ranges(cores)}


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as "0-2,5", the kernel's way."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _memory(root: Path, field: str) -> Any:
    meminfo = root / "proc/meminfo"
    if meminfo.is_file() and (found := re.search(rf"(?m)^{field}:\s+(\d+) kB$", meminfo.read_text())):
        return int(found.group(1)) * 1024
    try:
        import psutil
    except ImportError:
        return unavailable(f"/proc/meminfo has no {field}, and psutil is not installed")
    return int(psutil.virtual_memory().total if field == "MemTotal" else psutil.swap_memory().total)


def _limits(root: Path) -> dict[str, Any]:
    """The tightest limits of this process's control groups and of those above them.

    A folder that a container does not see is passed over: the nearest that it sees stands for it.
    """
    memberships = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    paths = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in memberships if line.count(":") >= 2}
    groups = root / "sys/fs/cgroup"
    if (groups / "cgroup.controllers").is_file():
        folders = list(_upwards(groups, paths.get("", "/")))
        return {
            "cgroup_version": 2,
            "cores": _tightest(_quota_v2(folder / "cpu.max") for folder in folders),
            "memory_bytes": _tightest(_number(folder / "memory.max") for folder in folders),
            "allowed_cores": _nearest(folders, "cpuset.cpus.effective"),
        }
    if not any((groups / name).is_dir() for name in ("cpu", "cpu,cpuacct", "memory")):
        return unavailable("no control groups below /sys/fs/cgroup")
    cpu, memory, cpuset = (list(_controller(groups, paths, name)) for name in ("cpu", "memory", "cpuset"))
    return {
        "cgroup_version": 1,
        "cores": _tightest(map(_quota_v1, cpu)),
        "memory_bytes": _tightest(_number(folder / "memory.limit_in_bytes") for folder in memory),
        "allowed_cores": _nearest(cpuset, "cpuset.effective_cpus", "cpuset.cpus"),
    }


def _controller(groups: Path, paths: dict[str, str], name: str) -> Iterator[Path]:
    for controllers, path in paths.items():
        if name in controllers.split(","):
            base = groups / controllers if (groups / controllers).is_dir() else groups / name
            yield from _upwards(base, path)


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above it, up to ``base``, as far as they are there."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        folder = base.joinpath(*parts[:length])
        if folder.is_dir():
            yield folder


def _quota_v2(file: Path) -> float | None:
    quota, _, period = _text(file).partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT_V1 else None


def _tightest(limits: Iterable[float | None]) -> Any:
    found = [limit for limit in limits if limit is not None]
    return min(found) if found else none("no limit is set")


def _nearest(folders: list[Path], *names: str) -> Any:
    found = (text for folder in folders for name in names if (text := _text(folder / name)))
    return next(found, unavailable(f"no {' or '.join(names)} in this process's control groups"))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
