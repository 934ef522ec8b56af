"""The version matrix: one environment per cell of ``environments/``, built once from a hashed lock and kept.

Beside the project's cells stand those that were added here (``ndrepro.execution.environments.add_cell``), whose locks
are in the folder ``cells`` of the cache; they have names of their own, so a name always means the same lock.

A cell is a lock, ``torch-1.13.1.lock``, whose first line names its Python (``# python: 3.10``). ``create``
turns it into an environment under the cache folder and answers with the path of that environment's python;
whoever runs training there starts that path and imports nothing from it.

The environment's folder is named after the lock's sha256, so a changed lock is another environment and an
old one is never altered. It is built beside its place, by one process at a time, and renamed into it when
whole: two processes that ask at once get the same folder, and one that was killed leaves nothing that looks
finished.

Cache folder: ``$NDREPRO_CACHE/environments``, else ``$XDG_CACHE_HOME/ndrepro/environments``, else the same
below ``~/.cache``. uv links files from its own cache: a second cell costs what it does not share with the
first.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.environments.interpreters import find_python, run_uv
from ndrepro.execution.environments.lockfile import Pin, read_pins
from ndrepro.execution.environments.verify_installed import problems_with_files, problems_with_pins
from ndrepro.protocol.errors import EnvironmentMissing, UsageError, suggestion
from ndrepro.protocol.project_folders import project_folder
from provenance.errors import StorageError
from provenance.formats.folder_tree import remove_tree


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: name ("torch-1.13.1"), Python ("3.10"), lock, the lock's sha256 (hex), pins."""

    name: str
    python: str
    lock: Path
    digest: str
    pins: tuple[Pin, ...]

    @classmethod
    def from_lock(cls, lock: Path) -> Cell:
        """Read a lock; raises UsageError if it names no Python or does not pin and hash everything."""
        content = lock.read_bytes()
        text = content.decode("utf-8")
        digest = hashlib.sha256(content).hexdigest()
        return cls(lock.stem, python_of(text, lock.name), lock, digest, read_pins(text, lock.name))

    def version(self, distribution: str) -> str | None:
        """The version that the lock pins of a distribution (a normalized name), None if it has none."""
        return next((pin.version for pin in self.pins if pin.name == distribution), None)


def python_of(text: str, where: str) -> str:
    """The Python that a cell's file asks for in its ``# python: 3.10`` line; UsageError if there is none."""
    found = re.search(r"(?m)^# python: (\d+\.\d+)$", text)
    if found is None:
        raise UsageError(f"{where} does not say its Python", "begin it with a line such as '# python: 3.11'")
    return found[1]


def list_cells(folder: Path | None = None) -> tuple[Cell, ...]:
    """Every cell, oldest torch first; ``folder`` holds the locks (default: this project's own)."""
    cells = [Cell.from_lock(lock) for lock in (folder or project_folder("environments")).glob("*.lock")]
    return tuple(sorted(cells, key=lambda cell: [int(part) for part in re.findall(r"\d+", cell.name)]))


def added_cells() -> tuple[Cell, ...]:
    """The cells that were added here, in the order of their names' numbers."""
    return list_cells(added_locks_folder())


def cell(name: str, folder: Path | None = None) -> Cell:
    """The cell of that name, the project's or one that was added; UsageError with the nearest names if there is none.

    ``folder`` holds the locks to choose from instead.
    """
    cells = {each.name: each for each in list_cells(folder)}
    if name not in cells and folder is None:
        cells.update({each.name: each for each in added_cells()})
    if name not in cells:
        raise UsageError(f"no environment {name!r} in the version matrix", suggestion(name, cells))
    return cells[name]


def location(cell: Cell) -> Path:
    """The folder of the cell's environment, whether or not it has been built."""
    return cache_folder() / f"{cell.name}-{cell.digest[:16]}"


def create(cell: Cell) -> Path:
    """The python of the cell's environment, built first if it is not there; a second call returns at once.

    Raises EnvironmentMissing if the cell's Python cannot be found or uv cannot install the lock (no network,
    a file whose hash is not the lock's), StorageError if the disk is full.
    """
    place = location(cell)
    python = place / "bin" / "python"
    if not python.exists():
        base = find_python(cell.python)
        with _sole_builder(place) as lock:
            if not python.exists():
                _build(cell, base, place, lock)
    return python


def verify(cell: Cell, deep: bool = False) -> tuple[str, ...]:
    """What is wrong with the cell's environment, one sentence each; empty if it is sound.

    Compares installed distributions with the pins (milliseconds); ``deep`` also hashes every installed file
    against its RECORD (seconds). Raises EnvironmentMissing if the environment has not been built.
    """
    site = next(location(cell).glob("lib/python*/site-packages"), None)
    if site is None:
        raise EnvironmentMissing(f"{cell.name} has not been built", f"build it: ndrepro env create {cell.name}")
    return (*problems_with_pins(site, cell.pins), *(problems_with_files(site) if deep else ()))


def remove(cell: Cell) -> None:
    """Delete the cell's environment, if there is one. uv's cache stays, so building it again is quick."""
    place = location(cell)
    if place.exists():
        with _sole_builder(place):
            place.rename(_partial(place))
            remove_tree(_partial(place))


def _build(cell: Cell, base: Path, place: Path, lock: int) -> None:
    """Build in a folder of another name, then rename: ``place`` exists only when it is whole."""
    partial = _partial(place)
    _uv(lock, "venv", "--relocatable", "--no-project", "--python", str(base), str(partial))
    for hook in partial.glob("lib/python*/site-packages/_virtualenv*"):
        hook.unlink()  # uv's helper for pip, run at every start, and in no RECORD; pip is never used here
    python = partial / "bin" / "python"
    _uv(lock, "pip", "sync", "--require-hashes", "--python", str(python), str(cell.lock.absolute()))
    if place.exists():  # its base interpreter is gone
        remove_tree(place)
    partial.rename(place)


def _uv(lock: int, *arguments: str) -> None:
    """Run uv. It inherits the lock: one whose parent was killed keeps the next builder waiting."""
    answer = run_uv("--quiet", *arguments, pass_fds=[lock])
    if answer.returncode == 0:
        return
    said = " ".join(answer.stderr.split())
    if "No space left on device" in said:
        raise StorageError(f"no space left below {cache_folder()}", "free some, or set NDREPRO_CACHE to another disk")
    raise EnvironmentMissing(
        f"uv {' '.join(arguments[:2])} failed: {said}",
        "the first build of an environment needs the package index; a changed hash means a changed file",
    )


@contextmanager
def _sole_builder(place: Path) -> Iterator[int]:
    """Hold the right to build or remove ``place``; what an earlier one left unfinished is cleared first."""
    import fcntl

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_name(f"{place.name}.lock"), "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _partial(place).exists():
                remove_tree(_partial(place))
            yield handle.fileno()
    except OSError as error:
        raise StorageError(
            f"cannot build environments in {place.parent}: {error}", "set NDREPRO_CACHE to a folder that can be written"
        ) from error


def _partial(place: Path) -> Path:
    return place.with_name(f"{place.name}.partial")


def cache_folder() -> Path:
    """Where environments are kept, as described above; StorageError where there is not even a home folder."""
    if own := os.environ.get("NDREPRO_CACHE"):
        return Path(own).absolute() / "environments"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise StorageError(
            "there is no home folder to keep environments in", "set NDREPRO_CACHE to a folder that can be written"
        ) from error
    return Path(base).absolute() / "ndrepro" / "environments"


def added_locks_folder() -> Path:
    """Where the locks of added cells lie; it need not be there."""
    return cache_folder().parent / "cells"
