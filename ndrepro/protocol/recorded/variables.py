"""Which environment variables move numbers, which a process that repeats a run is given, and which it lacks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ndrepro.protocol.program_record import BEHAVIOUR_OF_PYTHON

# by their prefixes: of libraries that compute; and what languages, memory and devices are named by
_OF_LIBRARIES = (
    "ATEN_ BLIS_ CUBLAS_ CUBLASLT_ CUDA_ CUDNN_ DNNL_ GOMP_ GOTO_ KMP_ MKL_ NCCL_ NPY_ NUMEXPR_ NVPL_ OMP_ ONEDNN_ "
    "OPENBLAS_ PYTORCH_ TBB_ TORCH_NCCL_ TORCHINDUCTOR_ TRITON_ VECLIB_"
)
# of what compiles and chooses kernels, too: not passed on, since they may name folders or load code
_NOT_PASSED = "AOT_?INDUCTOR_ CUTEDSL_ CUTLASS_ GLIBC_ HIP_ INDUCTOR_ MIOPEN_ ROCR_ TORCH"
_NAMES = "GLIBC_TUNABLES LANG LANGUAGE LD_LIBRARY_PATH PATH TZ"
# folders of this machine, which a sandbox does not show
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def _pattern(prefixes: str, names: str) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(prefixes.split())}).*|{'|'.join(names.split())}", re.DOTALL)


_PASSED = _pattern(f"{_OF_LIBRARIES} LC_ MALLOC_ NVIDIA_", _NAMES)
_MOVES_NUMBERS = _pattern(
    f"{_OF_LIBRARIES} {_NOT_PASSED}",
    f"DISABLE_ADDMM_CUDA_LT ENABLE_INTRA_NODE_COMM ENABLE_PERSISTENT_TMA_MATMUL LD_PRELOAD NVIDIA_TF32_OVERRIDE "
    f"PYTHONHASHSEED {' '.join(BEHAVIOUR_OF_PYTHON)}",
)
# given to each training process by its recorder: where runs, code and caches are; and where several meet
_OF_A_TRAINING_PROCESS = {*CACHES, "NDREPRO_RUNS", "PYTHONPATH", "PYTHONPYCACHEPREFIX"}
_OF_SEVERAL_PROCESSES = {"MASTER_ADDR", "MASTER_PORT"}
# folders of a machine, whose paths have no part in what most programs compute; a repetition of one has others
PLACES_OF_MACHINES = ("NDREPRO_HOME", "TMPDIR", *CACHES)
# of a program given in another way, or named beside the others
_MOVE_NOTHING = {"HOME", "PYTHONPATH", *PLACES_OF_MACHINES}
# by its own modules, whatever the program reads
_READ_BY_PYTHON = {"HOME", "PYTHONPATH", "TMPDIR"}
# places of an environment of the author's machine
_PLACES_OF_ENVIRONMENTS = ("CONDA_EXE", "CONDA_PREFIX", "CONDA_PYTHON_EXE", "VIRTUAL_ENV")
# a repeated program is given these as they were recorded, since a shell or a walk through all variables may ask for
# them without being seen: what names environments, by which a task of a job array knows its part, and what Python
# prints or writes beside results
_AS_RECORDED = re.compile(
    "|".join(("CONDA_DEFAULT_ENV|CONDA_PROMPT_MODIFIER|CONDA_SHLVL|SLURM_ARRAY_.*", *_PLACES_OF_ENVIRONMENTS))
    + "|PYTHONDONTWRITEBYTECODE|PYTHONFAULTHANDLER|PYTHONNODEBUGRANGES|PYTHONUNBUFFERED"
)


def is_passed(name: str) -> bool:
    """Whether a confined process is given a variable of that name: it moves numbers or finds libraries."""
    return name not in CACHES and _PASSED.fullmatch(name) is not None


def is_as_recorded(name: str) -> bool:
    """Whether a repeated program is given a variable of that name with the recorded value, though it moves nothing."""
    return _AS_RECORDED.fullmatch(name) is not None


def moves_numbers(name: str) -> bool:
    """Whether a variable of that name chooses kernels, threads or devices, wherever a run is."""
    return name not in CACHES and _MOVES_NUMBERS.fullmatch(name) is not None


def of_training_not_given(recorded: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a training run's recorded variables that its repetition has not, or not as they were: its code may
    read any.
    """
    return _not_given(recorded, given, _OF_A_TRAINING_PROCESS | (_OF_SEVERAL_PROCESSES & given.keys()))


def of_program_not_given(
    recorded: Mapping[str, Any], given: Mapping[str, Any], read: Collection[str]
) -> tuple[str, ...]:
    """The same of a program, without those that move nothing; ``read``: which its Python code is known to have read.

    The place of an environment that the program reads is named although it is given: nothing of it is there.
    """
    lost = _not_given(recorded, given, _MOVE_NOTHING - ({*read} - _READ_BY_PYTHON))
    return tuple(sorted({*lost, *(name for name in _PLACES_OF_ENVIRONMENTS if name in recorded and name in read)}))


def _not_given(recorded: Mapping[str, Any], given: Mapping[str, Any], without: Collection[str]) -> tuple[str, ...]:
    # of two redacted values nobody knows whether they are equal
    odd = (name for name, value in recorded.items() if given.get(name) != value or "[redacted:" in str(value))
    return tuple(sorted(name for name in odd if name not in without))
