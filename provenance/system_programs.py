"""The programs of this machine that are started to help: git, bwrap, podman, Apptainer, uv, Slurm's.

A relative or empty entry of PATH (``.``, ``node_modules/.bin``) means a folder below the current one, which may be a
stranger's clone: what is there is none of this machine's programs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping


def find_program(name: str) -> str | None:
    """The absolute path of a program in one of the absolute folders of PATH; ``None`` where none has it."""
    found = shutil.which(name, path=_absolute(os.get_exec_path()))
    # Windows looks into the current folder first, whatever PATH is
    return found if found is not None and os.path.isabs(found) else None


def system_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for a helper, which may look for others itself: PATH without the entries that are not absolute."""
    path = variables.get("PATH")
    return dict(variables) if path is None else {**variables, "PATH": _absolute(path.split(os.pathsep))}


def _absolute(folders: list[str]) -> str:
    return os.pathsep.join(folder for folder in folders if os.path.isabs(folder))
