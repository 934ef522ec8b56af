"""Modules of the recorded code that were imported in the place of Python's own, of an installed package, or of a file.

A reader who sees ``import statistics`` looks nowhere else, and the environment is compared without the folders of the
code, which Python searches first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import all_suffixes

from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS

_SUFFIXES = tuple(all_suffixes())
# nobody imports those of Python or of another project, and many have files of these names
_OF_EVERY_PROJECT = {"test", "tests", "conftest", "setup"}


def modules_in_place(
    place: str,
    working_folder: str,
    read: Iterable[str],
    searched: Iterable[str],
    environment: Collection[str],
    editable: Collection[str],
) -> Iterator[str]:
    """Each such module, by its path in the code, and the one that it is imported for.

    Args:
        place, working_folder: the folder of the code, and where the program ran; both as absolute paths.
        read: the files that the program read, absolute or relative to ``working_folder``.
        searched: the entries of ``sys.path`` of all its processes.
        environment: the folders that its interpreter imports from.
        editable: names that it imports from editable installations, but for the code's own.
    """
    installed = (name for folder in environment for name in _modules(folder))
    known = {*sys.stdlib_module_names, *editable, *installed} - _OF_EVERY_PROJECT
    folders = {os.path.normpath(os.path.join(working_folder, entry)) for entry in searched} - {*environment}
    found = set()
    for path in (os.path.normpath(os.path.join(working_folder, each)) for each in read):
        if not path.startswith(f"{place}/") or not path.endswith(_SUFFIXES):
            continue
        for folder in folders:
            first = os.path.relpath(path, folder).split(os.sep)[0]
            if (name := first.partition(".")[0]) in known:
                shown = os.path.relpath(os.path.join(folder, first), place)
                found.add(f"{shown} of the recorded code instead of the installed {name}")
        found |= {f"{shown} of the recorded code instead of {name} beside it" for shown, name in _before(place, path)}
    yield from sorted(found)


def _before(place: str, path: str) -> Iterator[tuple[str, str]]:
    """The packages and compiled modules that a path leads through, each with the file that it stands before."""
    while path != place:
        folder, name = os.path.split(path)
        beside = f"{name.partition('.')[0]}.py"
        if name != beside and os.path.lexists(os.path.join(folder, beside)):
            yield os.path.relpath(path, place), beside
        path = folder


def _modules(folder: str) -> Iterator[str]:
    """The names of what an interpreter imports from a folder of packages; those of the code may be in others."""
    if os.path.basename(folder) in PACKAGE_FOLDERS and os.path.isdir(folder):
        yield from (name.partition(".")[0] for name in os.listdir(folder) if not name.endswith("-info"))
