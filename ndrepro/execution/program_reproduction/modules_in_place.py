"""Modules of the recorded code that were imported in the place of Python's own, of an installed package, or of a file.

A reader who sees ``import statistics`` looks nowhere else, and the environment is compared without the folders of the
code, which Python searches first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import all_suffixes

_INSTALLED = ("site-packages", "dist-packages")


def modules_in_place(
    place: str, working_folder: str, read: Iterable[str], searched: Iterable[str], environment: Collection[str]
) -> Iterator[str]:
    """Each such module, by its path in the code, and the one that it is imported for.

    Args:
        place, working_folder: the folder of the code, and where the program ran; both as absolute paths.
        read: the files that the program read, absolute or relative to ``working_folder``.
        searched: the entries of ``sys.path`` of all its processes.
        environment: the folders that its interpreter imports from.
    """
    known = {*sys.stdlib_module_names, *(name for folder in environment for name in _modules(folder))}
    folders = {os.path.normpath(os.path.join(working_folder, entry)) for entry in searched} - {*environment}
    found = set()
    for path in (os.path.normpath(os.path.join(working_folder, each)) for each in read):
        for folder in folders if path.startswith(f"{place}/") and path.endswith(tuple(all_suffixes())) else ():
            first = os.path.relpath(path, folder).split(os.sep)[0]
            name, shown = first.partition(".")[0], os.path.relpath(os.path.join(folder, first), place)
            if name in known:
                found.add(f"{shown} of the recorded code instead of the installed {name}")
            elif first != f"{name}.py" and os.path.lexists(os.path.join(folder, f"{name}.py")):
                found.add(f"{shown} of the recorded code instead of {name}.py beside it")
    yield from sorted(found)


def _modules(folder: str) -> Iterator[str]:
    """The names of what an interpreter imports from a folder of packages; those of the code may be in others."""
    if os.path.basename(folder) in _INSTALLED and os.path.isdir(folder):
        yield from (name.partition(".")[0] for name in os.listdir(folder) if not name.endswith("-info"))
