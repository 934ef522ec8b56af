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

LEVELS = ("free", "seeded", "deterministic", "canonical")


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
