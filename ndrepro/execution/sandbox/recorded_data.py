"""The path of the data as an author recorded it: where a reviewer's machine may show it to recorded code.

The author chooses it, so it may name anything of the reviewer's. What recorded code reads it can write to its run
folder, and a FIFO below a folder can be written to though the folder is mounted read-only; so can a socket from a
container, where ``inside`` filters no system calls. A path that is refused here may still be right: then the reviewer
names it with ``--data``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndrepro.execution.sandbox.confinement import data_paths, expect_harmless
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.experiment.experiment import Experiment

_SYSTEM = tuple(Path(name) for name in ("/run", "/var", "/proc", "/sys", "/dev", "/etc", "/boot"))
_SHARED = (Path("/tmp"), Path("/home"))  # of everybody; what is below may be data
# ImageNet has 1.33 million; more are looked through for a reviewer who names them
_MOST_ENTRIES = 2_000_000


def recorded_data(experiment: Experiment, recorded: Path, private: Iterable[Path]) -> Path | None:
    """The recorded path if it is on this machine, None where the data are to be looked for: digits are bundled.

    ``private`` are the folders of runs and keys. Raises SandboxError for a path that an author has no reason to name,
    for one inside a private folder or around it, and for one that holds anything but files, folders and links.
    """
    if experiment.dataset == "digits":
        return None
    if not recorded.is_absolute():
        raise _refused(recorded, "it is relative: the author's data, or what was added to the run")
    if not (recorded.is_file() or recorded.is_dir()):
        return None
    resolved = [path.resolve() for path in private]
    # first the path itself: a refused folder is not looked into
    _expect_data(recorded, resolved)
    for path in data_paths(recorded):
        _expect_data(path, resolved)
        _expect_files_only(path)
    return recorded


def _expect_data(path: Path, private: list[Path]) -> None:
    real = path.resolve()
    expect_harmless(path, (), ())
    around = {real, *real.parents}
    if around & set(_SYSTEM):
        why = "the system's files and sockets are there"
    elif real in _SHARED:
        why = "it is everybody's"
    elif any(part.startswith(".") for part in real.parts):
        why = "programs keep their settings, caches and sockets in hidden folders"
    elif any(folder in around or real in folder.parents for folder in private):
        why = "it is inside a folder of runs or keys, or holds one"
    else:
        return
    raise _refused(path, why)


def _expect_files_only(top: Path) -> None:
    """Raises SandboxError for a socket, FIFO or device at a path or below it, and where that cannot be seen."""
    if not (top.is_file() or top.is_dir()):
        raise _refused(top, "a socket, FIFO or device")
    try:
        for count, entry in enumerate(_entries(top)):
            if count > _MOST_ENTRIES:
                raise _refused(top, f"more than {_MOST_ENTRIES:,} files")
            if not (entry.is_symlink() or entry.is_file() or entry.is_dir()):
                raise _refused(Path(entry.path), "a socket, FIFO or device")
    except OSError as error:
        raise _refused(Path(error.filename or top), f"{error.strerror}") from None


def _entries(top: Path) -> Iterator[os.DirEntry[str]]:
    """All entries of a folder and the folders below it; of a file none. Links are not followed."""
    folders = [str(top.resolve())] if top.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                yield entry


def _refused(path: Path, why: str) -> SandboxError:
    return SandboxError(
        f"{path}: the run names its data there, which is not shown to recorded code: {why}",
        "name your own copy: --data PATH",
    )
