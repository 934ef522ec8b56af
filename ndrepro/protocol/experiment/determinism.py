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

# What the setting ``cpu_isa`` asks of ATen, oneDNN and MKL. On processors that are not Intel's, MKL follows
# MKL_CBWR=COMPATIBLE alone.
CPU_ISAS: Mapping[str, Mapping[str, str]] = {
    "native": {},
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
# the flags of /proc/cpuinfo without which ATen's kernels of that set end the process
REQUIRED_FLAGS: Mapping[str, frozenset[str]] = {
    "native": frozenset(),
    "avx512": frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma"}),
    "avx2": frozenset({"avx2", "fma"}),
    "sse41": frozenset({"sse4_1"}),
}

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


def instruction_limits(environment: Mapping[str, str], level: str, cpu_isa: str = "native") -> dict[str, str]:
    """The instruction limits in a process's ``environment``, without those that ``level`` and ``cpu_isa`` set.

    A variable that the experiment sets counts with its value there, whatever the environment had: the child gets that
    one.
    """
    own = variables(level, 1, cpu_isa)
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


def variables(level: str, threads: int, cpu_isa: str = "native") -> dict[str, str]:
    """Environment variables of a training process at ``level`` with ``threads`` threads.

    Instruction sets are limited to ``cpu_isa``, a name of CPU_ISAS; where the level limits them too, it is the level's
    limit that holds.
    """
    count = str(threads)
    chosen = {
        **CPU_ISAS[cpu_isa],
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
        # the MKL of torch 1.13.1 ignores MKL_CBWR on an Intel Xeon that is newer than itself
        chosen["MKL_ENABLE_INSTRUCTIONS"] = "SSE4_2"
        chosen["ATEN_CPU_CAPABILITY"] = "default"
    return chosen
