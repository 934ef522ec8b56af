"""Modules of the recorded code that its reader does not look for: imported in the place of Python's own, of an
installed package or of a file beside them, or by no file of the code.

A reader who sees ``import statistics`` looks nowhere else, and the environment is compared without the folders of the
code, which Python searches first. And what the code does not import, Python or an installed package may: what it loads
where it is there, plug-ins, what settings name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator

from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.protocol.program_record import is_below
from provenance.observation.process_record import ImportedModule

# nobody imports those of Python or of another project, and many have files of these names
_OF_EVERY_PROJECT = {"test", "tests", "conftest", "setup"}
# what Python calls code that is a word of the command, or comes from standard input
_OF_THE_COMMAND = ("<string>", "<stdin>")


def modules_in_place(
    place: str, imported: Iterable[ImportedModule], environment: Collection[str], editable: Collection[str]
) -> Iterator[str]:
    """Each module of the code in ``place`` that was imported by the name of another one, and that name.

    Args:
        environment: the folders that its interpreter imports from.
        editable: names that it imports from editable installations, but for the code's own.
    """
    installed = (name for folder in environment for name in _modules(folder))
    known = {*sys.stdlib_module_names, *editable, *installed} - _OF_EVERY_PROJECT
    for module in imported:
        if module.path.startswith(f"{place}{os.sep}") and (name := module.name.partition(".")[0]) in known:
            yield f"{os.path.relpath(_top(module), place)} of the recorded code instead of the installed {name}"


def modules_before_others(place: str, imported: Iterable[ImportedModule]) -> Iterator[str]:
    """The packages and compiled modules of the code that were imported, or lead to what was, each with the module
    beside it that it stands before."""
    for path in (module.path for module in imported):
        while path.startswith(f"{place}{os.sep}"):
            folder, name = os.path.split(path)
            beside = f"{name.partition('.')[0]}.py"
            if name != beside and os.path.lexists(os.path.join(folder, beside)):
                yield f"{os.path.relpath(path, place)} of the recorded code instead of {beside} beside it"
            path = folder


def imported_by_others(
    place: str, imported: Iterable[ImportedModule], words: Iterable[str], environment: Collection[str]
) -> Iterator[str]:
    """Each module of the code in ``place`` that none of its files imported, but Python or an installed package.

    Args:
        words: those of all its processes: of the command, and absolute paths that they name.
        environment: as in ``modules_in_place``.
    """
    known, unknown = {*words, *_OF_THE_COMMAND}, dict[str, str]()
    expected = set()
    for module in imported:
        if not module.path.startswith(f"{place}{os.sep}"):
            continue
        of_environment = module.importer.startswith("<") or any(is_below(module.importer, each) for each in environment)
        parents = (module.name[: found.start()] for found in re.finditer(r"\.|\Z", module.name))
        named = module.importer in known or any(is_below(module.path, word) for word in known)
        if not of_environment or named or not known.isdisjoint(parents):
            expected.add(module.path)
        else:
            unknown.setdefault(module.path, module.importer)
    for path, importer in unknown.items():
        if path not in expected:
            yield f"{os.path.relpath(path, place)}, by {importer}"


def _top(module: ImportedModule) -> str:
    """Where the package or module is that stands first in the name of a module."""
    path = module.path
    for _ in range(module.name.count(".") + (os.path.basename(path).partition(".")[0] == "__init__")):
        path = os.path.dirname(path)
    return path


def _modules(folder: str) -> Iterator[str]:
    """The names of what an interpreter imports from a folder of packages or of its own; those of the code may be in
    others."""
    own = os.path.basename(folder) == "lib-dynload" or os.path.isfile(os.path.join(folder, "os.py"))
    if (own or os.path.basename(folder) in PACKAGE_FOLDERS) and os.path.isdir(folder):
        yield from (name.partition(".")[0] for name in os.listdir(folder) if not name.endswith("-info"))
