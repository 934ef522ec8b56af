"""Do torch, the GPU and its driver fit together? torch is asked in a process of its own: nothing here imports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding
from ndrepro.protocol.errors import DeviceError
from provenance.capture import container, gpu

_PROBE = """
import importlib.util, json, torch
vision = ""
if importlib.util.find_spec("torchvision"):
    from torchvision import __version__ as vision
seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
devices = [[torch.cuda.get_device_name(n), "%d.%d" % torch.cuda.get_device_capability(n)] for n in range(seen)]
reason = ""
if torch.version.cuda and not seen:
    try:
        torch.cuda.init()
    except Exception as error:
        reason = str(error)
kernels = torch.cuda.get_arch_list() if seen else []
print(json.dumps([torch.__version__, torch.version.cuda or "", devices, kernels, reason, vision]))
"""
_PATIENCE_SECONDS = 300
# The oldest driver for each major release of CUDA, any minor one (NVIDIA, CUDA Compatibility, "Minor Version
# Compatibility", table 1)
_OLDEST_DRIVERS = {11: "450", 12: "525", 13: "580"}
_HANDING_IN = {
    "docker": "start the container with --gpus all",
    "podman": "start the container with --device nvidia.com/gpu=all",
    "apptainer": "start the container with --nv, as in apptainer run --nv IMAGE",
    "singularity": "start the container with --nv, as in singularity run --nv IMAGE",
}


@dataclass(frozen=True)
class Torch:
    """torch as it is here: version, the CUDA it was built for ("" for a CPU build), the GPUs that it sees.

    ``devices`` has each GPU's name and compute capability ("9.0"), ``kernels`` what torch was compiled for ("sm_90");
    ``reason`` is torch's own word where it sees none; ``vision`` is torchvision's version, "" where there is none;
    ``error`` says why one of them cannot be imported.
    """

    version: str = ""
    cuda: str = ""
    devices: tuple[tuple[str, str], ...] = ()
    kernels: tuple[str, ...] = ()
    reason: str = ""
    vision: str = ""
    error: str = ""


def torch_and_gpu() -> Iterator[Finding]:
    """Whether torch can be imported, and whether it fits the GPU and its driver."""
    torch = ask_torch()
    if torch.error:
        cure = "make env installs what the lock has; with a CPU-only torch beside torchvision, remove both first"
        yield Finding("torch", PROBLEM, f"cannot be imported: {torch.error}", cure)
        return
    yield Finding("torch", OK, f"{torch.version}, built for {f'CUDA {torch.cuda}' if torch.cuda else 'the CPU'}")
    if not torch.vision:
        yield Finding("torchvision", OK, "not installed; only the networks for ImageNet and stl10 would need it")
    yield gpu_fit(torch, gpu.capture(), str(container.capture(os.environ).get("engine", "")))


def expect_gpu(python: Callable[[], str]) -> None:
    """Raises DeviceError where torch sees no GPU; it is asked only where the machine has one.

    ``python`` gives the interpreter whose torch is meant.
    """
    driver = gpu.capture()
    torch = Torch() if "none" in driver else ask_torch(python())
    if torch.devices:
        return
    found = gpu_fit(torch, driver, str(container.capture(os.environ).get("engine", "")))
    why = driver.get("none") or torch.error or found.message
    cure = "choose --device cpu, or see `ndrepro doctor` for driver and CUDA"
    raise DeviceError(f"device=cuda: torch sees no GPU here: {why}", found.cure or cure)


def gpu_fit(torch: Torch, driver: dict[str, Any], engine: str = "") -> Finding:
    """Whether driver, CUDA and torch fit: torch sees every GPU that the driver has, and has kernels for it.

    ``driver`` is what ``provenance.capture.gpu.capture`` found, ``engine`` the container's that this process is in, if
    any.
    """
    if "none" in driver:
        return Finding("gpu", OK, f"none, runs use the CPU: {driver['none']}")
    if "unavailable" in driver:
        return _unreachable(driver["unavailable"], engine)
    there = driver["devices"]
    if not isinstance(there, list):
        return Finding("gpu", WARNING, f"the driver does not tell its GPUs: {there['unavailable']}", "try nvidia-smi")
    message = f"{', '.join(str(device.get('name')) for device in there)}, driver {driver['driver']}"
    if not torch.cuda:
        return Finding("gpu", WARNING, f"{message}; this torch is a CPU build", "make env installs the CUDA build")
    supported = driver["cuda_driver"] if isinstance(driver["cuda_driver"], str) else ""
    if not torch.devices:
        return _unseen(torch, message, supported)
    unfit = [(name, capability) for name, capability in torch.devices if not has_kernels(capability, torch.kernels)]
    if unfit:
        return _without_kernels(torch, unfit)
    newest = f", which supports CUDA {supported}" if supported else ""
    chosen = f"; torch sees {len(torch.devices)} of {len(there)}" if len(torch.devices) < len(there) else ""
    return Finding("gpu", OK, message + newest + chosen)


def _unreachable(reason: str, engine: str) -> Finding:
    """There is a GPU and its driver does not answer: in a container it was not handed in, elsewhere it is amiss."""
    if engine:
        cure = _HANDING_IN.get(engine, "hand in the GPU and its driver when the container is started")
        where = f"this container ({engine}) was started without the GPU" if engine in _HANDING_IN else "in a container"
        return Finding("gpu", WARNING, f"{where}: {reason}", f"{cure}; without it runs use the CPU")
    if "version mismatch" in reason.lower():
        cure = "the driver was updated while it was in use: restart the machine"
    elif "permission" in reason.lower():
        cure = "ask for access to /dev/nvidia*, on a cluster by asking the scheduler for a GPU"
    else:
        cure = "install NVIDIA's driver, and see that nvidia-smi answers; without it runs use the CPU"
    return Finding("gpu", WARNING, reason, cure)


def _unseen(torch: Torch, message: str, supported: str) -> Finding:
    """The driver has GPUs and torch sees none: the driver is too old for its CUDA, they are hidden, or its own word."""
    if supported and _major(supported) < _major(torch.cuda):
        oldest = _OLDEST_DRIVERS.get(_major(torch.cuda))
        update = f"update the driver to {oldest} or newer" if oldest else "update the driver"
        said = f"{message} supports CUDA up to {supported}; torch {torch.version} is built for CUDA {torch.cuda}"
        older = _cell_for(_major(supported))
        instead = f"train in a cell that is: ndrepro run EXP --env {older}" if older else "choose --device cpu"
        return Finding("gpu", PROBLEM, f"{said}, which needs a newer driver", f"{update}, or {instead}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        said = f"{message}; CUDA_VISIBLE_DEVICES={hidden!r} leaves torch none"
        return Finding("gpu", WARNING, said, "unset CUDA_VISIBLE_DEVICES, or have it name a GPU that is there")
    why = f": {torch.reason.split('. ')[0]}" if torch.reason else ""
    cure = "see that nvidia-smi answers, and the permissions of /dev/nvidia*"
    return Finding("gpu", WARNING, f"{message}; torch sees none{why}", cure)


def _without_kernels(torch: Torch, unfit: list[tuple[str, str]]) -> Finding:
    """torch was not compiled for a GPU: it is older than all that torch was compiled for, or newer."""
    names = ", ".join(f"{name} (compute capability {capability})" for name, capability in unfit)
    said = f"torch {torch.version} has no kernels for {names}, only for {' '.join(torch.kernels)}"
    oldest = min((_number(kernel) for kernel in torch.kernels), default=(0, 0))
    older = any(_pair(capability) < oldest for _, capability in unfit)
    cell = "train in an older cell of the version matrix (ndrepro env list)" if older else "it needs a newer torch"
    return Finding("gpu", PROBLEM, said, f"{cell}, or choose --device cpu")


def _cell_for(cuda: int) -> str:
    """The newest cell of the version matrix whose CUDA is of this major release or an earlier one, "" for none."""
    from ndrepro.execution.environments.matrix import list_cells

    fitting = ""
    for cell in list_cells():
        runtimes = [pin.version for pin in cell.pins if pin.name.startswith("nvidia-cuda-runtime")]
        if runtimes and _major(runtimes[0]) <= cuda:
            fitting = cell.name
    return fitting


def _major(version: str) -> int:
    """13 of "13.0"."""
    return int(version.split(".")[0])


def _pair(capability: str) -> tuple[int, int]:
    """(9, 0) of "9.0"."""
    major, _, minor = capability.partition(".")
    return int(major), int(minor)


def _number(kernel: str) -> tuple[int, int]:
    """(9, 0) of "sm_90a"."""
    digits = kernel.partition("_")[2].rstrip("af")
    return int(digits[:-1]), int(digits[-1])


def ask_torch(python: str = sys.executable) -> Torch:
    """Import torch, and torchvision where it is installed, in another process and say what they are."""
    try:
        answer = subprocess.run(
            [python, "-W", "ignore", "-c", _PROBE],
            cwd=os.path.abspath(os.sep),  # of the current folder, which may be a stranger's, -c imports modules
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Torch(error=f"no answer within {_PATIENCE_SECONDS} s")
    if answer.returncode != 0:
        return Torch(error=(answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1])
    version, cuda, devices, kernels, reason, vision = json.loads(answer.stdout.splitlines()[-1])
    seen = tuple((name, capability) for name, capability in devices)
    return Torch(version, cuda, seen, tuple(kernels), reason, vision)


def has_kernels(capability: str, kernels: Iterable[str]) -> bool:
    """Whether kernels named as ``sm_90`` or ``compute_90`` run on a GPU of that compute capability ("9.0").

    A binary (sm) runs where the major number is its own and the minor no smaller; intermediate code (compute) wherever
    the capability is no smaller (CUDA programming guide, "Binary compatibility" and "PTX compatibility").
    """
    its = _pair(capability)
    for kernel in kernels:
        built = _number(kernel)
        if kernel[-1] in "af":  # "a": for that very GPU only; "f": for its family, taken as narrowly here
            fits = built == its
        elif kernel.startswith("compute"):
            fits = built <= its
        else:
            fits = built[0] == its[0] and built[1] <= its[1]
        if fits:
            return True
    return False
