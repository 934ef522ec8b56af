"""Do torch, the GPU and its driver fit together? torch is asked in a process of its own: nothing here imports it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ndrepro.execution.finding import OK, PROBLEM, WARNING, Finding
from provenance import gpu

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


def torch_and_gpu() -> Iterator[Finding]:
    """Whether torch can be imported, and whether it fits the GPU and its driver."""
    torch = ask_torch()
    if torch.error:
        cure = "make env installs what the lock has; with a CPU-only torch beside torchvision, remove both first"
        yield Finding("torch", PROBLEM, f"cannot be imported: {torch.error}", cure)
        return
    yield Finding("torch", OK, f"{torch.version}, built for {f'CUDA {torch.cuda}' if torch.cuda else 'the CPU'}")
    yield gpu_fit(torch, gpu.capture())


def gpu_fit(torch: Torch, driver: dict[str, Any]) -> Finding:
    """Whether driver, CUDA and torch fit: torch sees every GPU that the driver has, and has kernels for it."""
    if "none" in driver:
        return Finding("gpu", OK, f"none, runs use the CPU: {driver['none']}")
    if "unavailable" in driver:
        cure = "hand in the driver: docker run --gpus all, apptainer run --nv"
        return Finding("gpu", WARNING, driver["unavailable"], cure)
    there = driver["devices"]
    if not isinstance(there, list):
        return Finding("gpu", WARNING, f"the driver does not tell its GPUs: {there['unavailable']}", "try nvidia-smi")
    message = f"{', '.join(str(device.get('name')) for device in there)}, driver {driver['driver']}"
    if not torch.cuda:
        return Finding("gpu", WARNING, f"{message}; this torch is a CPU build", "make env installs the CUDA build")
    supported = driver["cuda_driver"]
    if isinstance(supported, str) and _major(supported) < _major(torch.cuda):
        cure = "update the driver, or train in an older cell of the version matrix: ndrepro run --env torch-2.4.1"
        return Finding("gpu", PROBLEM, f"{message} supports CUDA {supported}, torch is built for {torch.cuda}", cure)
    if len(torch.devices) < len(there):
        cure = "see CUDA_VISIBLE_DEVICES and the permissions of /dev/nvidia*"
        return Finding("gpu", WARNING, f"{message}; torch sees {len(torch.devices)} of {len(there)}", cure)
    unfit = [name for name, fits in torch.devices if not fits]
    if unfit:
        cure = "choose a torch built for it: ndrepro run --env CELL; or --device cpu"
        return Finding("gpu", PROBLEM, f"torch {torch.version} has no kernels for {', '.join(unfit)}", cure)
    newest = f", which supports CUDA {supported}" if isinstance(supported, str) else ""
    return Finding("gpu", OK, message + newest)


def _major(version: str) -> int:
    """13 of "13.0"."""
    return int(version.split(".")[0])


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
        number = digits.rstrip("af")
        its = (int(number[:-1]), int(number[-1]))
        if number != digits:  # "a": for that very GPU only; "f": for its family, taken as narrowly here
            fits = its == (major, minor)
        elif kind == "compute":
            fits = its <= (major, minor)
        else:
            fits = its[0] == major and its[1] <= minor
        if fits:
            return True
    return False
