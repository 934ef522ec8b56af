"""The recorded inputs that are not brought, since an installation, the machine or git has them, and that are not here.

Their author decides by their paths alone which these are, and the program may have read anything there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from pathlib import Path

from ndrepro.execution.program_reproduction.data_elsewhere import digest_of
from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
from ndrepro.execution.program_reproduction.recorded_inputs import SETTINGS, is_inside
from ndrepro.execution.sandbox.confinement import is_of_the_system, settings_of_the_system
from ndrepro.execution.sandbox.interpreter_paths import PACKAGE_FOLDERS
from ndrepro.protocol.program_record import is_below


def uncompared_inputs(plan: ProgramPlan) -> Iterator[str]:
    """The recorded paths of those that the program finds nowhere with the recorded digest and size."""
    for file in plan.place.of_environment:
        path = Path(os.path.normpath(plan.command.working_folder / file.path))
        here = (each for each in _places(path, plan) if file.sha256 is not None and digest_of(each) == file.sha256)
        if all(each.stat().st_size != file.size for each in here):
            yield file.path


def opened_here(plan: ProgramPlan, read: Set[str]) -> Iterator[str]:
    """The recorded paths of those that the program ``read`` where they are here; of the machine's it is not known."""
    for file in plan.place.of_environment:
        path = Path(os.path.normpath(plan.command.working_folder / file.path))
        if _is_of_the_machine(path) or not read.isdisjoint(map(str, _places(path, plan))):
            yield file.path


def _places(path: Path, plan: ProgramPlan) -> Iterator[Path]:
    """Where the program finds such a file: in the private folder, of the system, beside packages or a Python here.

    One of the system's has the same path here: no environment's own stands in its place.
    """
    top, place = plan.command.top or plan.command.working_folder, plan.place.place
    if is_below(path, top) and is_inside(here := place / os.path.relpath(path, top), place):
        yield here
    if _is_of_the_machine(path):
        yield path
    elif not is_below(path, SETTINGS):  # of which few are shown
        yield from (each.with_name(path.name) for each in plan.environment.interpreters)
        for number, part in enumerate(path.parts, 1):
            if part in PACKAGE_FOLDERS:
                yield from (folder.joinpath(*path.parts[number:]) for folder in plan.environment.searched)


def _is_of_the_machine(path: Path) -> bool:
    return any(is_below(path, each) for each in settings_of_the_system()) or is_of_the_system(path)
