"""The path of the data as an author recorded it: where a reviewer's machine may show it to recorded code.

The author chooses it, so it may name anything of the reviewer's. What recorded code reads it can write to its run
folder, and a FIFO below a folder can be written to though the folder is mounted read-only; so can a socket from a
container, where ``inside`` filters no system calls. So nobody but the reviewer and root may be able to put anything
there while the code runs: folders, and all above them, that another user may write are refused. A path that is refused
here may still be right: then the reviewer names it with ``--data``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ndrepro.execution.sandbox.confinement import data_paths, entries, expect_harmless, link_steps
from ndrepro.execution.sandbox.interpreter_paths import package_folders
from ndrepro.execution.sandbox.shared_folders import who_may_exchange, who_may_write
from ndrepro.protocol.errors import SandboxError
from ndrepro.protocol.experiment.experiment import Experiment

_SYSTEM = tuple(Path(name) for name in ("/run", "/var", "/proc", "/sys", "/dev", "/etc", "/boot"))
_SHARED = (Path("/tmp"), Path("/home"))  # of everybody; what is below may be data
# ImageNet has 1.33 million; more are looked through for a reviewer who names them
_MOST_ENTRIES = 2_000_000


def recorded_data(experiment: Experiment, recorded: Path, private: Iterable[Path], *, own: bool = False) -> Path | None:
    """The recorded path if it is on this machine, None where the data are to be looked for: digits are bundled.

    ``private`` are the folders of runs and keys; ``own``: the reviewer recorded the run himself, so that whoever else
    may write there is his choice. Raises SandboxError for a path that an author has no reason to name, for one inside a
    private folder or around it, for one that holds anything but files, folders and links, or where another user may
    put something else.
    """
    if experiment.dataset == "digits":
        return None
    if not recorded.is_absolute():
        raise _refused(recorded, "it is relative: the author's data, or what was added to the run")
    if not (recorded.is_file() or recorded.is_dir()):
        return None
    expect_recorded_path(recorded, private, own=own)
    return recorded


def expect_recorded_path(recorded: Path, private: Iterable[Path], *, own: bool = False) -> None:
    """Raises SandboxError for a file or folder that recorded code is not shown because an author named it; arguments
    as in ``recorded_data``.
    """
    resolved = [path.resolve() for path in private]
    # first the path itself: a refused folder is not looked into
    _expect_data(recorded, resolved)
    for path in data_paths(recorded):
        _expect_data(path, resolved)
        if not own:
            _expect_own_way(path)
        expect_files_only(path, own=own)


def linked_data(data: Path, private: Iterable[Path], *, own: bool = False) -> tuple[str, ...]:
    """In words, where links at the top of a folder of data lead out of it: the recorded code is shown what is there.

    Who named the folder may have unpacked it, links included. Raises SandboxError as ``expect_recorded_path`` does,
    where the run is not the reviewer's ``own``.
    """
    top, private = data.resolve(), tuple(private)
    leading = [path for path in data_paths(data)[1:] if not path.resolve().is_relative_to(top)]
    for path in () if own else leading:
        expect_recorded_path(path, private, own=True)
    return tuple(f"data: {path} leads to {path.resolve()}, which the recorded code may read" for path in leading)


def _expect_data(path: Path, private: list[Path]) -> None:
    real = path.resolve()
    expect_harmless(path, (), ())
    around = {real, *real.parents}
    if around & set(_SYSTEM):
        why = "the system's files and sockets are there"
    elif real in _SHARED:
        why = "it is everybody's"
    elif any(part.startswith(".") for part in _below_packages(real).parts):
        why = "programs keep their settings, caches and sockets in hidden folders"
    elif any(folder in around or real in folder.parents for folder in private):
        why = "it is inside a folder of runs or keys, or holds one"
    else:
        return
    raise _refused(path, why)


def _below_packages(path: Path) -> Path:
    """What of a path is below a folder of installed packages, which the code is shown in any case, .venv or not."""
    return next((path.relative_to(each) for each in package_folders() if path.is_relative_to(each)), path)


def _expect_own_way(path: Path) -> None:
    """Raises SandboxError where another user may exchange a folder above the path, or a link on the way to it."""
    for step, _ in link_steps(path):
        if who := who_may_exchange(step):
            raise _refused(path, f"{who} while the code runs")


def _expect_unshared(folder: Path, path: Path) -> None:
    """Raises SandboxError where another user may write into a folder."""
    if who := who_may_write(folder):
        raise _refused(path, f"{who} while the code runs, and a FIFO there is a way out")


def expect_files_only(top: Path, *, own: bool) -> None:
    """Raises SandboxError for a socket, FIFO or device at a path or below it, and where that cannot be seen.

    Not ``own``, also for a folder there that another user may write.
    """
    if not (top.is_file() or top.is_dir()):
        raise _refused(top, "a socket, FIFO or device")
    try:
        if top.is_dir() and not own:
            _expect_unshared(top.resolve(), top)
        for count, entry in enumerate(entries(top)):
            if count > _MOST_ENTRIES:
                raise _refused(top, f"more than {_MOST_ENTRIES:,} files")
            if not (entry.is_symlink() or entry.is_file() or entry.is_dir()):
                raise _refused(Path(entry.path), "a socket, FIFO or device")
            if not own and entry.is_dir(follow_symlinks=False):
                _expect_unshared(Path(entry.path), top)
    except OSError as error:
        raise _refused(Path(error.filename or top), f"{error.strerror}") from None


def _refused(path: Path, why: str) -> SandboxError:
    return SandboxError(
        f"{path}: the run names its data there, which is not shown to recorded code: {why}",
        "name your own copy: --data PATH",
    )
