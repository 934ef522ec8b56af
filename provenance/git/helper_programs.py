"""Programs that are started to help, outside of a sandbox: none that git tracks, whose commits decide what it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from provenance.git.tracked_paths import tracked
from provenance.system_programs import programs_on_path, system_variables


def find_program(name: str) -> str | None:
    """The absolute path of a program of this machine's, in a folder of PATH; ``None`` where none has it."""
    return next((found for found in programs_on_path(name) if not is_tracked(found)), None)


def helper_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for a helper, which may look for others itself: PATH without folders that are not absolute, or in which
    git tracks something."""
    found = system_variables(variables)
    if "PATH" in found:
        found["PATH"] = os.pathsep.join(each for each in found["PATH"].split(os.pathsep) if not is_tracked(each))
    return found


def is_tracked(path: str) -> bool:
    """Whether git tracks an absolute path, what is below it, or what it leads to."""
    return any(tracked([Path(path)]))
