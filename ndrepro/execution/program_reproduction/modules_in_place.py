"""Modules of the recorded code that its reader does not look for: imported in the place of Python's own, of an
installed package or of a file beside them, or by no file of the code.

A reader who sees ``import statistics`` looks nowhere else, and the environment is compared without the folders of the
code, which Python searches first. And what the code does not import, Python or an installed package may: what it loads
where it is there, plug-ins, what settings name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.machinery import all_suffixes

from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.protocol.program_record import is_below
from provenance.observation.process_record import ImportedModule

# nobody imports those of Python or of another project, and many have files of these names
_OF_EVERY_PROJECT = {"test", "tests", "conftest", "setup"}
_SUFFIXES = tuple(all_suffixes())
# what Python calls code that is a word of the command, or comes from standard input
_OF_THE_COMMAND = ("<string>", "<stdin>")


def modules_in_place(
    place: str, imported: Iterable[ImportedModule], environment: Collection[str], editable: Collection[str]
) -> Iterator[str]:
    """Each module of the code that was imported by the name of another one, and that name.

    Args:
        place: the folder of the code; what is in no folder of packages either, the program made of it.
        environment: the folders that its interpreter imports from, but for those of the code.
        editable: names that it imports from editable installations, but for the code's own.
    """
    packages = (os.listdir(folder) for folder in environment if _has_packages(folder))
    names = (name for listed in packages for name in listed if not name.endswith("-info"))
    known = {*sys.stdlib_module_names, *editable, *(name.partition(".")[0] for name in names)} - _OF_EVERY_PROJECT
    for module in _of_the_code(imported, environment):
        if (name := module.name.partition(".")[0]) in known:
            yield f"{_shown(_top(module), place)} of the code instead of the installed {name}"


def modules_before_others(place: str, imported: Iterable[ImportedModule]) -> Iterator[str]:
    """The packages and compiled modules of the code in ``place`` that were imported, or lead to what was, each with the
    module beside it that it stands before."""
    for path in (module.path for module in imported):
        while _is_of(path, [place]) and path != place:
            folder, name = os.path.split(path)
            beside = f"{name.partition('.')[0]}.py"
            if name != beside and os.path.lexists(os.path.join(folder, beside)):
                yield f"{_shown(path, place)} of the code instead of {beside} beside it"
            path = folder


def modules_elsewhere(
    imported: Iterable[ImportedModule], known: Collection[str], made: Collection[str], shown: Collection[str]
) -> Iterator[str]:
    """The paths of modules that are neither of the code nor of the environment, which are compared, each once.

    Args:
        known: the folders and files of these; a folder of packages inside is none of its modules, unless it is known.
        made: where a program finds what it made itself, but for what is ``shown`` to it there.
    """
    others = [os.path.join(folder, name) for folder in known for name in PACKAGE_FOLDERS]
    others = [folder for folder in others if folder not in known]
    for path in dict.fromkeys(module.path for module in imported):
        own = _is_of(path, made) and not _is_of(path, shown)
        if not own and (not _is_of(path, known) or _is_of(path, others)):
            yield path


def imported_by_others(
    place: str,
    imported: Iterable[ImportedModule],
    command: Sequence[str],
    words: Iterable[str],
    environment: Collection[str],
) -> Iterator[str]:
    """Each module of the code that none of its files imported, but Python or an installed package.

    Args:
        place, environment: as in ``modules_in_place``.
        command: the recorded one, whose program may import what it likes, such as pytest the tests.
        words: those of all its processes: of the command, and absolute paths that they name.
    """
    modules = [*_of_the_code(imported, environment)]
    known, launched = {*words, *_OF_THE_COMMAND}, _launched(command)
    code = {*known, *(module.path for module in modules)}
    archives = [path for path in code if os.path.isfile(path)]
    expected, unknown = set(), dict[str, str]()
    for module in modules:
        # a package, too, above the module that a word names
        named = any(f"{word}.".startswith(f"{module.name}.") or is_below(module.path, word) for word in known)
        starter, place_of = _starter(module.importer, environment), _place(module)
        started = (named and starter == "runpy") or (starter != "" and starter == launched)
        if started or module.importer in code or _is_of(module.importer, archives):
            expected.add(place_of)
        else:
            unknown.setdefault(place_of, module.importer)
    for path, importer in unknown.items():
        if path not in expected:
            yield f"{_shown(path, place)}, by {importer}"


def _of_the_code(imported: Iterable[ImportedModule], environment: Collection[str]) -> Iterator[ImportedModule]:
    return (module for module in imported if not _is_of(module.path, environment))


def _is_of(path: str, tops: Iterable[str]) -> bool:
    """Whether a path is one of these, or in such a folder or archive."""
    return any(path == top or path.startswith(f"{top}{os.sep}") for top in tops)


def _launched(command: Sequence[str]) -> str:
    """The name of the program that a command starts, or of the module of Python's."""
    program = os.path.basename(command[0])
    if not program.startswith("python"):
        return program
    words = iter(command[1:])
    for word in words:
        if word == "-m":
            return next(words, "").partition(".")[0]
        if word in ("-W", "-X"):
            next(words, "")
        elif not word.startswith("-"):
            break
    return ""


def _starter(importer: str, environment: Iterable[str]) -> str:
    """The name of the module or package of Python's that an importer is of, as a command would have it."""
    if importer == "<frozen runpy>":
        return "runpy"
    within = (os.path.relpath(importer, folder) for folder in environment if _is_of(importer, [folder]))
    return os.path.splitext(next(within, "").partition(os.sep)[0])[0].strip("_")


def _shown(path: str, place: str) -> str:
    return os.path.relpath(path, place) if _is_of(path, [place]) else path


def _place(module: ImportedModule) -> str:
    """The file of a module; in an archive its name as well."""
    return module.path if module.path.endswith(_SUFFIXES) else f"{module.path} ({module.name})"


def _top(module: ImportedModule) -> str:
    """Where the package or module is that stands first in the name of a module."""
    path = module.path
    if not path.endswith(_SUFFIXES):
        return _place(module)
    for _ in range(module.name.count(".") + (os.path.basename(path).partition(".")[0] == "__init__")):
        path = os.path.dirname(path)
    return path


def _has_packages(folder: str) -> bool:
    """Whether an interpreter's own modules are in a folder, or packages; those of the code may be in others."""
    own = os.path.basename(folder) == "lib-dynload" or os.path.isfile(os.path.join(folder, "os.py"))
    return (own or os.path.basename(folder) in PACKAGE_FOLDERS) and os.path.isdir(folder)
