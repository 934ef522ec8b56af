"""Adds cells to the version matrix: from some requirements to a hashed lock, kept in the cache folder.

    ["torch=2.3.1", "numpy=1.26.4"]  ──  NAME.in  ──  uv resolves, for one Python  ──>  NAME.lock  ──>  Cell

An added cell is a cell like any other: its lock pins every distribution with the hashes of its files, its name can be
given wherever a cell's can, and it is built when it is first used. Its locks lie outside of the checkout, so that
trying releases out leaves the project's files as they are. What training needs beside torch is added where it is not
named, as the project's own cells have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ndrepro.execution.environments import resolver
from ndrepro.execution.environments.interpreters import find_python
from ndrepro.execution.environments.matrix import Cell, added_cells, added_locks_folder, list_cells, remove
from ndrepro.protocol.errors import EnvironmentMissing, UsageError
from ndrepro.protocol.image_reference import MAIN
from provenance.capture.distribution_metadata import normalized
from provenance.errors import StorageError

# what the training process imports, and what describes its environment to the recorder; Pillow as everywhere, so that
# the same JPEG gives the same pixels
NEEDS = ("torch", "torchvision", "numpy", "pillow==12.3.0", "safetensors", "scipy", "psutil", "nvidia-ml-py")
_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}", re.IGNORECASE)
_EQUAL = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)\s*={1,2}\s*(?P<version>[\w.+!]+)", re.ASCII)
_DISTRIBUTION = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_FIRST_WITH_NUMPY_2 = (2, 3)  # earlier ones lose torch.from_numpy with it
_PYTHON_OF_TORCH_1 = "3.10"
_PYTHON = "3.11"


def add(name: str, requirements: Sequence[str], *, python: str | None = None, bare: bool = False) -> Cell:
    """Resolve requirements into a cell of that name, and keep its lock.

    Args:
        name: letters, digits, ``.``, ``_``, ``+`` and ``-``; one that no other cell has.
        requirements: ``torch=2.3.1`` or any requirement that uv takes.
        python: "3.11"; left out, 3.10 for torch 1 and 3.11 for the rest.
        bare: nothing but the requirements, without what training needs.

    Raises UsageError for a name that is taken or a requirement that is none, EnvironmentMissing where no set of
    releases satisfies the requirements.
    """
    if not _NAME.fullmatch(name) or name == MAIN:
        raise UsageError(
            f"{name!r} is no name for an environment", "use letters, digits, '.', '_', '+' and '-'; e.g. torch-2.3.1"
        )
    if name in {cell.name for cell in (*list_cells(), *added_cells())}:
        raise UsageError(f"there is an environment {name!r} already", "choose another name, or remove that one first")
    wanted = [as_requirement(text) for text in requirements]
    wanted = wanted if bare else completed(wanted)
    python = python or default_python(wanted)
    lock = resolve(wanted, python)
    return keep(name, wanted, lock)


def keep(name: str, requirements: Iterable[str], lock: str) -> Cell:
    """Write a cell's two files; the lock is the last, so that a cell is either whole or not there."""
    folder = added_locks_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.in").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        partial = folder / f"{name}.lock.partial"
        partial.write_text(lock, encoding="utf-8")
        partial.replace(folder / f"{name}.lock")
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot keep {name} ({error.strerror})", "set NDREPRO_CACHE to a folder that can be written"
        ) from error
    return Cell.from_lock(folder / f"{name}.lock")


def forget(cell: Cell) -> None:
    """Remove an added cell: its environment and its lock. Raises UsageError for one of the project's."""
    if cell.lock.parent != added_locks_folder():
        raise UsageError(f"{cell.name} is one of the project's cells", "leave --lock out: only its build is removed")
    remove(cell)
    cell.lock.unlink(missing_ok=True)
    cell.lock.with_suffix(".in").unlink(missing_ok=True)


def as_requirement(text: str) -> str:
    """``torch=2.3.1`` as ``torch==2.3.1``; whatever else begins with a name, as it is. Raises UsageError."""
    found = _EQUAL.fullmatch(text.strip())
    if found is not None:
        return f"{found['name']}=={found['version']}"
    if _DISTRIBUTION.match(text.strip()) is None or "\n" in text:
        raise UsageError(f"{text!r} is no requirement", "write NAME=VERSION, e.g. torch=2.3.1")
    return text.strip()


def completed(requirements: Sequence[str]) -> list[str]:
    """The requirements and what training needs that they do not name."""
    named = {name_of(text) for text in requirements}
    whole = [*requirements, *(need for need in NEEDS if name_of(need) not in named)]
    torch = _torch_release(requirements)
    if torch is not None and torch < _FIRST_WITH_NUMPY_2 and "numpy" not in named:
        whole[whole.index("numpy")] = "numpy<2"
    return whole


def default_python(requirements: Sequence[str]) -> str:
    """The Python for a cell: torch 1 has no wheels for ours."""
    torch = _torch_release(requirements)
    return _PYTHON_OF_TORCH_1 if torch is not None and torch < (2, 0) else _PYTHON


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, as PEP 503 writes it."""
    found = _DISTRIBUTION.match(requirement)
    return normalized(found[0]) if found else ""


def resolve(requirements: Iterable[str], python: str, preferring: str = "") -> str:
    """The hashed lock that uv resolves requirements to, with its ``# python:`` line.

    ``preferring`` is a lock whose pins are kept wherever the requirements leave a choice. Raises EnvironmentMissing,
    in uv's own words, where it finds none.
    """
    find_python(python)  # before anything is resolved for an interpreter that is not here
    try:
        lock = resolver.resolve(requirements, python, "--generate-hashes", "--no-emit-index-url", preferring=preferring)
    except EnvironmentMissing as error:
        raise EnvironmentMissing(
            f"no environment for Python {python} with these requirements: {error.message}",
            "ask for other releases, or another Python with --python; without the index nothing new can be resolved",
        ) from None
    return f"# python: {python}\n{_without_local_paths(lock)}"


def _without_local_paths(lock: str) -> str:
    """The lock without the lines that say where files were looked for: they are of this machine only."""
    lines = [
        line for line in lock.splitlines() if not line.startswith(("--find-links", "--index-url", "--extra-index"))
    ]
    return "\n".join(lines) + "\n"


def _torch_release(requirements: Iterable[str]) -> tuple[int, ...] | None:
    """The first two numbers of the version of torch that the requirements pin."""
    for text in requirements:
        found = _EQUAL.fullmatch(text)
        if found is not None and normalized(found["name"]) == "torch":
            return tuple(int(part) for part in re.findall(r"\d+", found["version"])[:2])
    return None
