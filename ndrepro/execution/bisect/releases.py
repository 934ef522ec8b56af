"""The releases of a distribution between two versions, as uv finds them in the index.

Only what could be installed counts: final releases that were not withdrawn, with files for this platform and Python.
Each is found as the newest below the one before, so no list has to be read and no order of versions to be known here.
"""

from __future__ import annotations

import subprocess

from ndrepro.execution.bisect.lock_diff import entries
from ndrepro.execution.environments.add_cell import PLATFORM
from ndrepro.execution.environments.interpreters import shield_from_configuration, uv_executable, uv_variables
from ndrepro.protocol.errors import EnvironmentMissing
from provenance.formats.folder_tree import temporary_folder

_MOST = 200


def releases_between(name: str, first: str, last: str, python: str) -> tuple[str, ...]:
    """Every release from ``first`` to ``last``, both included, oldest first.

    An older ``last`` than ``first`` is a row like any other, from the newer to the older one. Raises EnvironmentMissing
    where the index cannot be asked.
    """
    row = _descending(name, last, first, python)
    if row is None:
        row = _descending(name, first, last, python)
        if row is None:
            raise EnvironmentMissing(f"{name}: the index knows no way from {first} to {last}", "see `uv pip index`")
        return tuple(row)
    return tuple(reversed(row))


def _descending(name: str, high: str, low: str, python: str) -> list[str] | None:
    """From ``high`` down to ``low``; None where ``low`` is not below ``high``."""
    row = [high]
    while row[-1] != low and len(row) < _MOST:
        below = _newest(f"{name}>={low},<{row[-1]}", python)
        if below is None:
            return None
        row.append(below)
    return row


def _newest(requirement: str, python: str) -> str | None:
    """The newest release that satisfies a requirement of one distribution; None where there is none."""
    with temporary_folder("ndrepro-release-") as folder:
        shield_from_configuration(folder)
        source = folder / "one.in"
        source.write_text(f"{requirement}\n", encoding="utf-8")
        command = [str(uv_executable()), "pip", "compile", "--quiet", "--no-deps", "--no-annotate", "--no-header"]
        command += ["--python-version", python, "--python-platform", PLATFORM, source.name]
        answer = subprocess.run(command, capture_output=True, text=True, env=uv_variables(), cwd=folder)
    if answer.returncode:
        if "No solution found" in answer.stderr:
            return None
        raise EnvironmentMissing(
            f"uv cannot ask for releases of {requirement}: {' '.join(answer.stderr.split())}", "is the index there?"
        )
    (entry,) = entries(answer.stdout).values()
    return entry.partition("==")[2].split(";")[0].strip()
