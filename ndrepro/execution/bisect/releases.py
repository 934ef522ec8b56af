"""The releases of a distribution between two versions, as uv finds them in the index.

Only what could be installed counts: final releases that were not withdrawn, with files for this platform and Python.
Each is found as the newest below the one before, so no list has to be read and no order of versions to be known here.
"""

from __future__ import annotations

from ndrepro.execution.bisect.lock_diff import entries
from ndrepro.execution.environments.resolver import resolve
from ndrepro.protocol.errors import EnvironmentMissing

_MOST = 200


def releases_between(name: str, first: str, last: str, python: str) -> tuple[str, ...]:
    """Every release from ``first`` to ``last``, both included, oldest first.

    An older ``last`` than ``first`` is a row like any other, from the newer to the older one. Raises EnvironmentMissing
    where the index cannot be asked.
    """
    row = _descending(name, last, first, python)
    if row is not None:
        return tuple(reversed(row))
    row = _descending(name, first, last, python)
    if row is None:
        raise EnvironmentMissing(f"{name}: the index knows no way from {first} to {last}", "see `uv pip index`")
    return tuple(row)


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
    try:
        lock = resolve([requirement], python, "--no-deps", "--no-annotate")
    except EnvironmentMissing as error:
        if "No solution found" in error.message:
            return None
        raise EnvironmentMissing(
            f"uv cannot ask for releases of {requirement}: {error.message}", "is the index there?"
        ) from None
    (entry,) = entries(lock).values()
    return entry.partition("==")[2].split(";")[0].strip()
