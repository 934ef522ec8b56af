"""Diagnoses this machine before a run: one finding a line, each with its remedy.

Each probe answers one question and never stops the others: a failed probe is itself a finding. Nothing
is changed and nothing is built. torch is asked in a process of its own (``accelerator``).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding
from ndrepro.execution.environments.gpu_fit import torch_and_gpu
from ndrepro.protocol import extras
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.project_folders import CODE
from provenance.capture import source
from provenance.capture.unavailable import is_missing
from provenance.errors import ProvenanceError, SourceError
from provenance.git.helper_programs import find_program
from provenance.git.repository import Repository

_GIGABYTE = 10**9
_TOLD = 3  # packages by name, of any number that are not as they should be
# by which a data set is known in the data folder: an archive or a folder, as published or as torchvision names it
_DATA_MARKS = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz"),
    "mnist": ("MNIST", "train-images-idx3-ubyte.gz"),
    "fashion_mnist": ("FashionMNIST",),
    "emnist_balanced": ("EMNIST", "gzip.zip"),
    "svhn": ("train_32x32.mat",),
    "stl10": ("stl10_binary", "stl10_binary.tar.gz"),
    "tiny_imagenet": ("tiny-imagenet-200", "tiny-imagenet-200.zip"),
    "imagenet": ("ILSVRC",),
}
_ENGINES = {
    "docker": "containers",
    "podman": "containers",
    "apptainer": "containers",
    "enroot": "containers",
    "sbatch": "Slurm",
}


def examine(runs: RunsFolder) -> Iterator[Finding]:
    """Every finding, each as soon as it is known; ``runs`` is the folder whose disk is looked at."""
    probes: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("extras", _extras),
        ("torch", _torch),
        ("machine", _machine),
        ("disk", lambda: _disk(runs)),
        ("source", lambda: _source(runs)),
        ("key", _key),
        ("data", _data),
        ("environments", _environments),
        ("engines", _engines),
    ]
    for name, probe in probes:
        try:
            yield from probe()
        except ProvenanceError as error:
            yield Finding(name, PROBLEM, error.message, error.cure)
        except Exception as error:  # a doctor that dies of what it finds helps nobody
            yield Finding(name, PROBLEM, f"could not be examined: {type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    message = f"{version} ({sys.executable})"
    cure = "the lock is for Python 3.11 to 3.14: make clean, then make env"
    yield Finding.of("python", (3, 11) <= sys.version_info < (3, 15), message, cure)


def _packages() -> Iterator[Finding]:
    from ndrepro.execution.environments import main_environment

    pins = main_environment.locked_pins()
    if pins is None:
        yield Finding(
            "packages", WARNING, "there is no requirements.lock: versions not compared", "run from a checkout"
        )
    else:
        wrong = main_environment.pin_problems(pins)
        extra = [sentence for sentence in wrong if sentence.endswith("not in the lock")]
        yield from _differences("packages", [each for each in wrong if each not in extra], extra)
        if not wrong:
            yield Finding("packages", OK, f"{len(pins)} as requirements.lock pins them")
    edited = main_environment.file_problems()
    added = [sentence for sentence in edited if sentence.endswith("no distribution lists it")]
    yield from _differences("package files", [each for each in edited if each not in added], added)
    if not edited:
        yield Finding("package files", OK, "every file as it was installed")


def _differences(name: str, wrong: list[str], extra: list[str]) -> Iterator[Finding]:
    """A wrong version is a problem, a surplus distribution a warning."""
    cure = "make env installs what the lock has"
    if name == "package files":
        cure = "make clean, then make env; files are hard links: where it comes back, uv cache clean first"
    for level, sentences in ((PROBLEM, wrong), (WARNING, extra)):
        if sentences:
            more = f"; and {len(sentences) - _TOLD} more" if len(sentences) > _TOLD else ""
            yield Finding(name, level, "; ".join(sentences[:_TOLD]) + more, cure)


def _extras() -> Iterator[Finding]:
    """What the light installation leaves out: nothing is wrong with it, and some commands need it."""
    for extra, modules in extras.EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        if absent:
            cure = f"pip install 'ndrepro[{extra}]', for the commands that need it"
            yield Finding(f"extra {extra}", WARNING, f"not installed: {', '.join(absent)}", cure)


def _torch() -> Iterator[Finding]:
    """Nothing where torch is not installed: that is the extra's finding."""
    if find_spec("torch") is not None:
        yield from torch_and_gpu()


def _machine() -> Iterator[Finding]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", OK, f"{cores} for this process, {os.cpu_count()} in the machine")
    free = psutil.virtual_memory().available
    message = f"{free / _GIGABYTE:.1f} GB available"
    cure = "CIFAR runs need about 3 GB: end other programs, or lower batch_size"
    yield Finding.of("memory", free >= 3 * _GIGABYTE, message, cure)


def _disk(runs: RunsFolder) -> Iterator[Finding]:
    from ndrepro.execution.environments.matrix import list_cells, location

    cache = location(list_cells()[0]).parent
    for name, folder, needed, advice in (
        ("disk for runs", runs.root.absolute(), 2, "free some, or choose another folder: --runs DIR"),
        ("disk for environments", cache, 8, "free some, or set NDREPRO_CACHE to another disk"),
    ):
        place = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            yield Finding(name, PROBLEM, f"{place} cannot be written", advice)
            continue
        free = shutil.disk_usage(place).free
        message = f"{free / _GIGABYTE:.1f} GB free at {folder}"
        yield Finding.of(name, free > needed * _GIGABYTE, message, advice)


def _source(runs: RunsFolder) -> Iterator[Finding]:
    """Whether a run can name its code: a commit, and nothing beside it."""
    try:
        Repository(CODE).facts()
    except SourceError as error:
        yield Finding("source", WARNING, error.message, error.cure)
        return
    captured = source.capture(CODE, None, exclude=[runs.root])
    commit, dirty = captured["commit"], captured["dirty"]
    unknown = next((field["unavailable"] for field in (commit, dirty) if is_missing(field)), "")
    if unknown:
        yield Finding("source", WARNING, unknown, "see what `git status` says there")
    elif dirty:
        changed, count = source.differing_files(captured)
        shown = ", ".join(changed[:3]) + (", ..." if count > 3 else "")
        cure = "commit first, if others are to find the code; a run keeps the differences either way"
        yield Finding("source", WARNING, f"{commit[:12]}, DIRTY: {count} changed or new ({shown})", cure)
    else:
        yield Finding("source", OK, f"{commit[:12]}, clean")


def _data() -> Iterator[Finding]:
    """Which data sets lie where they are looked for; a run finds out whether they are whole."""
    if find_spec("sklearn") is not None:
        yield Finding("data digits", OK, "in scikit-learn")
    folder = Path(os.environ.get("NDREPRO_DATA") or "data").absolute()
    absent = []
    for name in (each for each in DATASETS if each != "digits"):
        place = next((folder / mark for mark in _DATA_MARKS.get(name, ()) if (folder / mark).exists()), None)
        if place is None:
            absent.append(name)
        else:
            yield Finding(f"data {name}", OK, str(place))
    if absent:
        yield Finding("data", OK, f"not in {folder}: {', '.join(absent)}; name another folder with --data")


def _environments() -> Iterator[Finding]:
    from ndrepro.execution.environments import matrix
    from ndrepro.execution.environments.interpreters import find_python
    from ndrepro.protocol.errors import EnvironmentMissing, MissingExtra

    cells = matrix.list_cells()
    for python in sorted(
        {cell.python for cell in cells}, key=lambda version: [int(part) for part in version.split(".")]
    ):
        mine = [cell for cell in cells if cell.python == python]
        built = sum((matrix.location(cell) / "bin" / "python").exists() for cell in mine)
        names = f"{', '.join(cell.name.removeprefix('torch-') for cell in mine)} ({built} of {len(mine)} built)"
        try:
            yield Finding(f"cells, Python {python}", OK, f"torch {names}: {find_python(python)}")
        except (EnvironmentMissing, MissingExtra) as error:
            yield Finding(f"cells, Python {python}", WARNING, f"torch {names}: {error.message}", error.cure)


def _engines() -> Iterator[Finding]:
    for engine, purpose in _ENGINES.items():
        found = find_program(engine)
        yield Finding(engine, OK, found or f"not found; only {purpose} would need it")


def _key() -> Iterator[Finding]:
    """The key home: there or possible, private, and outside of any repository."""
    from provenance.attestation.key_home import KeyRing, default_home

    ring = KeyRing(default_home())
    if not ring.exists:
        place = next(path for path in ring.path.parents if path.exists())
        can = os.access(place, os.W_OK | os.X_OK)
        message = f"the first run makes {ring.path}" if can else f"{place} cannot be written"
        yield Finding.of("key", can, f"none yet; {message}", "set NDREPRO_HOME to a folder of your own", PROBLEM)
        return
    # raises where others can read the key, or put another there
    yield Finding("key", OK, f"{ring.keyid} in {ring.path}")
