"""What torch and the GPU's driver say of each other: torch is asked in a process of its own, the driver through NVML."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_PROBE = """
import json, torch, torchvision
seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
kernels = torch.cuda.get_arch_list() if seen else []
devices = [[torch.cuda.get_device_name(n), *torch.cuda.get_device_capability(n)] for n in range(seen)]
print(json.dumps([torch.__version__, torch.version.cuda or "", devices, kernels]))
"""
_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Torch:
    """torch as it is here: version, the CUDA it was built for ("" for a CPU build), the GPUs that it sees.

    ``devices`` has each GPU's name and whether torch has kernels for it; ``error`` says why it cannot be imported.
    """

    version: str = ""
    cuda: str = ""
    devices: tuple[tuple[str, bool], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Driver:
    """The GPU driver: its version, the newest CUDA that it supports, its GPUs; or ``reason`` why there is none."""

    version: str = ""
    cuda: tuple[int, int] = (0, 0)
    devices: tuple[str, ...] = ()
    reason: str = ""


def ask_torch(python: str = sys.executable) -> Torch:
    """Import torch and torchvision in another process and say what they are."""
    try:
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", _PROBE], capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Torch(error=f"no answer within {_PATIENCE_SECONDS} s")
    if answer.returncode != 0:
        return Torch(error=(answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1])
    version, cuda, devices, kernels = json.loads(answer.stdout.splitlines()[-1])
    return Torch(version, cuda, tuple((name, has_kernels(major, minor, kernels)) for name, major, minor in devices))


def has_kernels(major: int, minor: int, kernels: list[str]) -> bool:
    """Whether kernels named as ``sm_90`` or ``compute_90`` run on a GPU of compute capability ``major.minor``.

    A binary (sm) runs where the major number is its own and the minor no smaller; intermediate code (compute) wherever
    the capability is no smaller (CUDA programming guide, "Binary compatibility" and "PTX compatibility").
    """
    for kernel in kernels:
        kind, _, digits = kernel.partition("_")
        if not digits.isdigit():
            continue  # sm_90a and the like are for that very GPU and always beside the plain one
        its_major, its_minor = int(digits[:-1]), int(digits[-1])
        same = its_major == major and its_minor <= minor
        if same or (kind == "compute" and (its_major, its_minor) <= (major, minor)):
            return True
    return False
