"""What this process runs in, as it sees it itself: sealed into every run's manifest at its start and at its end.

    interpreter      implementation, version, build, flags, hash seed, path, command line
    distributions    every distribution that would be imported, with the digest of its RECORD
    imported_files   the files of imported packages that are not as their RECORDs list them
    conda            the packages of a conda environment, where this is one
    variables        those that move numbers or find libraries, by allow-list; the rest are counted, not named
    machine          kernel, C library, processor, cores, memory, limits
    gpus             driver and each GPU, or why there is none
    container        engine and image, or why there is none

A field that could not be captured is ``{"unavailable": reason}``; one probe's failure never loses the others. Secrets
are redacted before anything is handed out. It runs in the training process, and so under Python 3.10 too, needs
nothing but the standard library, and imports neither torch nor numpy: whoever has them adds what they say.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from provenance.capture import conda, container, distributions, gpu, imported_files, machine
from provenance.capture.editable_source import COPY_MARK, OWN_FOLDER
from provenance.capture.unavailable import is_missing, none, printable, probe, unavailable
from provenance.redaction.redact import redact_tree
from provenance.redaction.variables import redact_variables

_LOADED = time.monotonic()

# Prefixes of variables that move numbers (threads, kernels, devices) or say where libraries are found.
_PREFIXES = (
    "AOT_?INDUCTOR_ ATEN_ BLIS_ CONDA_ CUBLAS_ CUBLASLT_ CUDA_ CUDNN_ CUTEDSL_ CUTLASS_ DNNL_ GLIBC_ GLOO_ GOMP_ "
    "GOTO_ HIP_ INDUCTOR_ KMP_ LC_ MALLOC_ MIOPEN_ MKL_ NCCL_ NDREPRO_ NPY_ NUMEXPR_ NVIDIA_ NVPL_ OMP_ ONEDNN_ "
    "OPENBLAS_ PYTHON[A-Z] PYTORCH_ ROCR_ SLURM_ARRAY_ SLURM_CPU SLURM_GPU SLURM_JOB SLURM_MEM SLURM_N SLURM_PROC "
    "SLURM_STEP TBB_ TORCH TRITON_ VECLIB_"
)
_NAMES = (
    "DISABLE_ADDMM_CUDA_LT ENABLE_INTRA_NODE_COMM ENABLE_PERSISTENT_TMA_MATMUL GROUP_RANK LANG LANGUAGE LD_BIND_NOW "
    "LD_LIBRARY_PATH LD_PRELOAD LOCAL_RANK LOCAL_WORLD_SIZE LSB_JOBID MASTER_ADDR MASTER_PORT MKLROOT PBS_JOBID "
    "RANK SLURM_CLUSTER_NAME SLURM_LOCALID SLURM_RESTART_COUNT SOURCE_DATE_EPOCH TZ VIRTUAL_ENV WORLD_SIZE"
)
_ALLOWED = re.compile(f"(?:{'|'.join(_PREFIXES.split())}).*|{'|'.join(_NAMES.split())}", re.DOTALL)


def capture(searched: Any = None) -> dict[str, Any]:
    """Everything above, as JSON: strings are valid Unicode, secrets are redacted.

    ``searched`` is what ``search`` returned, where that is known already.
    """
    found = {
        "interpreter": probe(_interpreter),
        **_packages(search() if searched is None else searched),
        "variables": probe(recorded_variables, os.environ),
        "machine": probe(machine.capture),
        "gpus": probe(gpu.capture),
        "container": probe(container.capture, os.environ),
    }
    redacted: dict[str, Any] = redact_tree(printable(found))
    return redacted


def search() -> Any:
    """The distributions that imports of this process find; or why they could not be searched for."""
    return probe(distributions.search, _search_path())


def _packages(searched: Any) -> dict[str, Any]:
    if is_missing(searched):
        return {"distributions": searched, "imported_files": searched}
    packages = probe(conda.capture, Path(sys.prefix))
    return {
        "distributions": probe(searched.to_json),
        "imported_files": probe(imported_files.compare, searched.installed.values(), imported_files.loaded_files()),
        **({} if packages is None else {"conda": packages}),
    }


def _search_path() -> list[str]:
    """Where imports look, without a private copy of these packages: that they precede installed ones is intended.

    Imports pass over an entry that is no text, such as the Path that a script appended.
    """
    entries = [entry for entry in sys.path if isinstance(entry, str)]
    if not (OWN_FOLDER / COPY_MARK).is_file():
        return entries
    return [entry for entry in entries if os.path.realpath(entry) != str(OWN_FOLDER)]


def note_modules() -> None:
    """Where this process imports a private copy of these packages, list there the source files of all modules.

    Whoever made the copy compiles them for the next process (``provenance.code.bytecode``).
    """
    note = OWN_FOLDER / COPY_MARK
    if note.is_file():
        with suppress(OSError):
            names = sorted(name for name in imported_files.module_files() if name.endswith(".py"))
            note.write_text("\0".join(names), encoding="utf-8", errors="surrogateescape")


def usage() -> dict[str, float]:
    """What this process, and those of its children that ended, have used so far: seconds, bytes, page faults.

    The difference of two is what was used between them, except for the peaks. ``wall_seconds`` counts from this
    process's beginning, as its CPU seconds do. The kernel counts a child's peak from its fork: it is never below what
    this process then held. Windows has no such account: nothing is reported there.
    """
    try:
        import resource
    except ImportError:
        return {}
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_seconds": _wall_seconds(),
        "user_seconds": own.ru_utime,
        "system_seconds": own.ru_stime,
        "children_user_seconds": children.ru_utime,
        "children_system_seconds": children.ru_stime,
        "peak_memory_bytes": _peak_memory_bytes(own.ru_maxrss),
        "children_peak_memory_bytes": _maxrss_bytes(children.ru_maxrss),
        "minor_page_faults": own.ru_minflt,
        "major_page_faults": own.ru_majflt,
        "children_minor_page_faults": children.ru_minflt,
        "children_major_page_faults": children.ru_majflt,
    }


def _wall_seconds() -> float:
    """Since this process began, by the kernel's account; where it gives none, since this module was loaded."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as stat:
            # field 22 of proc(5), counted behind the command's name, which may hold spaces and brackets
            began = int(stat.read().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic() - _LOADED


def _peak_memory_bytes(maxrss: int) -> int:
    """The peak of this program alone: ``ru_maxrss`` also holds the parent's memory at the moment of the fork."""
    try:
        with open("/proc/self/status", encoding="utf-8") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return _maxrss_bytes(maxrss)


def _maxrss_bytes(maxrss: int) -> int:
    return maxrss * (1 if sys.platform == "darwin" else 1024)


def _interpreter() -> dict[str, Any]:
    """This interpreter, how it was started and where it looks for modules."""
    import platform

    return {
        "implementation": sys.implementation.name,
        "version": platform.python_version(),
        "build": sys.version,
        "executable": sys.executable or unavailable("the interpreter does not know its own path"),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "path": list(map(str, sys.path)),
        "flags": {name: getattr(sys.flags, name) for name in dir(sys.flags) if _is_flag(name)},
        "options": {name: str(value) for name, value in sys._xoptions.items()},
        "warnings": list(map(str, sys.warnoptions)),
        "hash_seed": _hash_seed(),
        "command": list(map(str, sys.orig_argv)),
        "encoding": {"file_system": sys.getfilesystemencoding(), "default": sys.getdefaultencoding()},
    }


def _is_flag(name: str) -> bool:
    return not name.startswith(("_", "n_")) and not callable(getattr(sys.flags, name))


def _hash_seed() -> Any:
    """The seed of str.__hash__, which orders sets: 0 means that hashing is not randomised."""
    seed = os.environ.get("PYTHONHASHSEED", "random")
    if not sys.flags.hash_randomization:
        return 0
    if seed.isdecimal() and not sys.flags.ignore_environment:
        return int(seed)
    return none("drawn anew by every interpreter: PYTHONHASHSEED is not set")


def is_recorded(name: str) -> bool:
    """Whether variables of that name are on the allow-list."""
    return _ALLOWED.fullmatch(name) is not None


def recorded_variables(variables: Mapping[str, str], more: Collection[str] = ()) -> dict[str, Any]:
    """``recorded``: those of the allow-list and of ``more``, without secrets; ``not_recorded``: how many others."""
    recorded = {name: variables[name] for name in sorted(variables) if is_recorded(name) or name in more}
    return {"recorded": redact_variables(recorded), "not_recorded": len(variables) - len(recorded)}
