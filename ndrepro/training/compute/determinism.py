"""Determinism levels inside the process: set the flags, and read every flag back as it stands.

What each level means is in ``ndrepro.protocol.experiment.determinism``; variables were set by the parent before this
interpreter started. ``flags`` is called at the start and at the end of a run, since a library may change a flag under
way. What the canonical level computes in its own way is in ``ndrepro.training.layers.canonical_arithmetic``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ndrepro.protocol.errors import DeviceError, NdreproError
from ndrepro.protocol.experiment.determinism import REQUIRED_FLAGS, variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute import precision, torch_compat

# torch's words when it is set to refuse what it cannot do deterministically, the same since 1.8
_REFUSED = re.compile(r"(?P<operation>\S+) does not have a deterministic implementation")


def apply(experiment: Experiment) -> None:
    """Set every flag of the experiment's level.

    Raises NdreproError if a variable it needs was not set in time, or this processor lacks the instruction sets of
    ``cpu_isa``: torch would not ask, and die of them.
    """
    level = experiment.determinism
    missing = REQUIRED_FLAGS[experiment.cpu_isa] - _processor_flags()
    if missing:
        raise NdreproError(
            f"cpu_isa={experiment.cpu_isa}: this processor has no {', '.join(sorted(missing))}",
            "leave cpu_isa out, or choose a smaller set: sse41 is on every x86-64 processor since 2008",
        )
    for name, value in variables(level, experiment.threads, experiment.cpu_isa).items():
        if os.environ.get(name) != value:
            raise NdreproError(
                f"{name}={os.environ.get(name)!r}, expected {value!r} for determinism={level}",
                "start runs with `ndrepro run`, which sets it before the interpreter starts",
            )
    torch.set_num_threads(experiment.threads)
    torch_compat.set_deterministic_algorithms(level in ("deterministic", "canonical"), compiling=experiment.compile)
    torch.backends.cudnn.deterministic = level in ("deterministic", "canonical")
    torch.backends.cudnn.benchmark = level == "free"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision.allows_tf32(experiment)
    if level == "canonical":
        # oneDNN picks kernels by processor and by its own version
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]


def choose_device(experiment: Experiment) -> torch.device:
    """The device that an experiment asks for; "auto" is the GPU where there is one, and the CPU under canonical, whose
    bits are the CPU's. Raises DeviceError for a GPU that is not there, or under canonical, and what ``precision.check``
    does: what the device cannot compute is refused before the data are read.
    """
    asked, there = experiment.device, torch.cuda.is_available()
    if experiment.determinism == "canonical":
        if asked == "cuda":
            raise DeviceError(
                "device=cuda under determinism=canonical: its bits are defined on the CPU only",
                "use --device cpu, or --determinism deterministic",
            )
        asked = "cpu"
    if asked == "cuda" and not there:
        raise DeviceError(
            "device=cuda: torch sees no GPU here", "use --set device=cpu, or see `ndrepro doctor` for driver and CUDA"
        )
    device = torch.device("cuda" if there and asked != "cpu" else "cpu")
    precision.check(experiment, device)
    return device


@contextmanager
def naming_operations(level: str) -> Iterator[None]:
    """Inside, torch's refusal of an operation becomes a NdreproError that names it and the level that allows it."""
    try:
        yield
    except RuntimeError as error:
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise
        raise NdreproError(
            f"determinism={level}: torch has no deterministic {refused['operation']} on this device",
            "--determinism seeded allows it; two runs may then differ in their last bits",
        ) from error


def flags() -> dict[str, Any]:
    """Every flag of torch that can move a number, as it stands now."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_enabled": torch.backends.cudnn.enabled,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_fp16_reduced_precision": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "matmul_bf16_reduced_precision": torch_compat.reduces_in_bfloat16(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn_enabled": _mkldnn_enabled(),
        "default_dtype": str(torch.get_default_dtype()).replace("torch.", ""),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": _cpu_capability(),
        "flush_denormal": _flushes_denormals(),
    }


def libraries() -> dict[str, Any]:
    """What torch was built with, and the GPUs as it sees them."""
    return {
        "torch": torch.__version__,
        "torch_git": torch.version.git_version,
        "cuda": torch.version.cuda or {"none": "torch was built without CUDA"},
        "cudnn": torch.backends.cudnn.version() or {"none": "no cuDNN"},
        "build": torch.__config__.show(),
        "parallel": torch.__config__.parallel_info(),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
    }


def _gpu(index: int) -> dict[str, Any]:
    """The multiprocessor count moves random numbers and reductions on a GPU."""
    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
    }


def _processor_flags() -> frozenset[str]:
    """The instruction sets that the kernel reports of the first processor; none where it reports none (Arm)."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        return next(
            (frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset()
        )


def _mkldnn_enabled() -> bool:
    return bool(torch.backends.mkldnn.is_available() and getattr(torch.backends.mkldnn, "enabled", True))


def _cpu_capability() -> str | dict[str, str]:
    """The vector instructions that ATen's own kernels use."""
    for line in torch.__config__.show().splitlines():
        if "CPU capability usage" in line:
            return line.split(":")[-1].strip()
    return {"unavailable": "this torch does not say"}


def _flushes_denormals() -> bool:
    """Whether subnormal results are flushed to zero: half of the smallest normal float64 is one."""
    return bool(torch.tensor(2.2250738585072014e-308, dtype=torch.float64).mul(0.5) == 0)
