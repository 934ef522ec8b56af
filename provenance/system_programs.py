"""The programs of this machine that are started to help: git, bwrap, podman, Apptainer, uv, Slurm's.

A relative or empty entry of PATH (``.``, ``node_modules/.bin``) means a folder below the current one, which may be a
stranger's clone: what is there is none of this machine's programs. Nor is what git tracks, as where an environment that
was made in a clone is active (``provenance.git.helper_programs``), and no git inside of a work tree is asked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path


def programs_on_path(name: str) -> Iterator[str]:
    """The absolute paths of the programs of a name in the absolute folders of PATH, in their order."""
    for folder in filter(os.path.isabs, os.get_exec_path()):
        found = shutil.which(name, path=folder)
        # Windows looks into the current folder first, whatever PATH is
        if found is not None and os.path.isabs(found):
            yield found


def find_any_program(name: str) -> str | None:
    """The first of them, whoever made it; ``None`` for none."""
    return next(programs_on_path(name), None)


def find_git(name: str) -> str | None:
    """The first of them that no repository holds, itself or what it leads to; one of the user's whole home folder does
    not count."""
    return next((found for found in programs_on_path(name) if not _is_in_work_tree(found)), None)


def system_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for a helper, which may look for others itself: PATH without the entries that are not absolute."""
    path = variables.get("PATH")
    return dict(variables) if path is None else {**variables, "PATH": _absolute(path.split(os.pathsep))}


def _absolute(folders: list[str]) -> str:
    return os.pathsep.join(folder for folder in folders if os.path.isabs(folder))


def _is_in_work_tree(path: str) -> bool:
    own = Path(os.path.expanduser("~"))
    above = {folder for each in (path, os.path.realpath(path)) for folder in Path(each).parents}
    return any(os.path.lexists(folder / ".git") for folder in above if folder not in (own, Path(folder.anchor)))
