"""Prepares the start-up hook for one program: a copy of it, an empty folder for its output, the variables.

The copy is a package of its own, ``ndrepro_hook``, laid out as ``provenance`` is, with the files that the hook needs
and no other: programs run in environments that have no ndrepro, and that must not find this one's packages.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path

from provenance.errors import UsageError
from provenance.formats.atomic_io import make_folder, storage_error

TRAIL_AUTO, TRAIL_OFF = "auto", "off"
_EVERY = re.compile(r"every=([1-9][0-9]{0,8})")
_PACKAGE = "ndrepro_hook"
# beside the hook itself, of this package
_COPIED = ("formats/__init__.py", "formats/fingerprint.py", "formats/trail_header.py", "hook/__init__.py")
_START_UP = "sitecustomize.py"


@dataclass(frozen=True)
class PreparedHook:
    """A hook ready for one program: the variables to start it with, and the folder that its processes write to."""

    variables: Mapping[str, str]
    output: Path


def trail_every(trail: str) -> int:
    """How many optimizer steps lie between two records of the trail: 1 for auto, 0 for off.

    Raises UsageError for what is neither ``auto``, ``off`` nor ``every=K``.
    """
    every = _EVERY.fullmatch(trail)
    if every:
        return int(every[1])
    if trail not in (TRAIL_AUTO, TRAIL_OFF):
        raise UsageError(f"trail {trail!r}: expected auto, off or every=K", "for example every=10: each tenth step")
    return 1 if trail == TRAIL_AUTO else 0


def prepare(folder: Path, trail: str = TRAIL_AUTO, variables: Mapping[str, str] | None = None) -> PreparedHook:
    """Copy the hook into ``folder``, which is new or empty, and say what to start the program with.

    Args:
        folder: made where it is missing; the program must be able to read it, and to write to ``output`` in it.
        trail: ``auto``, ``off`` or ``every=K``.
        variables: the program's environment otherwise, whose PYTHONPATH is kept behind the hook's folder;
            ``os.environ`` where it is left out.

    Raises UsageError for another ``trail``, StorageError where the folder cannot be written.
    """
    trail_every(trail)
    environment = os.environ if variables is None else variables
    folder = folder.absolute()
    code, output = folder / "code", folder / "output"
    make_folder(output)
    own = Path(__file__).resolve().parents[1]
    hook_files = sorted(path.relative_to(own).as_posix() for path in (own / "hook").glob("*.py"))
    try:
        for name in dict.fromkeys((*_COPIED, *hook_files)):
            target = code / _START_UP if name.endswith(_START_UP) else code / _PACKAGE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(own / name, target)
        (code / _PACKAGE / "__init__.py").write_text('"""The start-up hook of ndrepro: see hook/__init__.py."""\n')
    except OSError as error:
        raise storage_error(code, error) from error
    behind = environment.get("PYTHONPATH", "")
    return PreparedHook(
        {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(code), behind])),
            "NDREPRO_HOOK_OUT": str(output),
            "NDREPRO_HOOK_TRAIL": trail,
        },
        output,
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a module, and what this Python compiled of it: programs of the same Python need not compile it again."""
    shutil.copyfile(source, target)
    if sys.dont_write_bytecode or sys.pycache_prefix is not None:
        return
    times = os.stat(source)
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which Python knows what was compiled of it
    compiled, cached = (Path(cache_from_source(str(place))) for place in (source, target))
    with suppress(OSError):  # a program that finds nothing compiles it
        if not compiled.is_file() or compiled.stat().st_mtime_ns < times.st_mtime_ns:
            SourceFileLoader(target.stem, str(source)).get_code(target.stem)  # which writes it, where it can
        cached.parent.mkdir(exist_ok=True)
        shutil.copyfile(compiled, cached)
