"""Determinism levels, and what each asks of the process before its interpreter starts.

| level         | algorithms            | benchmarking, TF32 | threads | vector kernels |
| ------------- | --------------------- | ------------------ | ------- | -------------- |
| free          | the fastest           | on                 | fixed   | all            |
| seeded        | the fastest           | off                | fixed   | all            |
| deterministic | deterministic or error| off                | fixed   | all            |
| canonical     | deterministic or error| off                | one     | plain only     |

TF32 is as here unless an experiment's precision says otherwise (``ndrepro.protocol.experiment.compute_modes``).

Variables are read when a library is loaded, so the parent sets them for the child; flags are set by the child
(``ndrepro.training.compute.determinism``), which also reports both as it finds them, at the start and at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

LEVELS = ("free", "seeded", "deterministic", "canonical")

# By these a user limits the instruction sets from which a numerical library chooses its kernels (oneDNN, ATen, MKL,
# OpenBLAS, BLIS, numpy, the C library), or the precision in which it may compute. They move bits on one machine as
# another processor does, and are inherited: they are part of the conditions under which a run was made.
INSTRUCTION_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "BLIS_ARCH_TYPE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)


def instruction_limits(environment: Mapping[str, str], level: str) -> dict[str, str]:
    """The instruction limits in a process's ``environment``, without those that ``level`` sets in every run.

    A variable that the level sets counts with the level's value, whatever the environment had: the child gets that one.
    """
    own = variables(level, 1)
    return {name: environment[name] for name in INSTRUCTION_LIMITS if name in environment and name not in own}


def limited_as(recorded: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` with the instruction limits of the ``recorded`` variables; its own where none were recorded."""
    if not recorded:
        return dict(environment)
    kept = {name: value for name, value in environment.items() if name not in INSTRUCTION_LIMITS}
    return {**kept, **{name: recorded[name] for name in INSTRUCTION_LIMITS if name in recorded}}


def limits_text(limits: Mapping[str, str]) -> str:
    """``ONEDNN_MAX_CPU_ISA=AVX2``; "" where nothing is limited."""
    return " ".join(f"{name}={value}" for name, value in sorted(limits.items()))


def variables(level: str, threads: int) -> dict[str, str]:
    """Environment variables of a training process at ``level`` with ``threads`` threads."""
    count = str(threads)
    chosen = {
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_DYNAMIC": "FALSE",
        "MKL_DYNAMIC": "FALSE",
    }
    if level in ("deterministic", "canonical"):
        # cuBLAS is deterministic only with a workspace of fixed size (NVIDIA cuBLAS docs, "Results reproducibility")
        chosen["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if level == "canonical":
        chosen["MKL_CBWR"] = "COMPATIBLE"
        chosen["ATEN_CPU_CAPABILITY"] = "default"
    return chosen
