"""``--data`` of commands that have runs on several data sets: PATH for all of them, or DATASET=PATH for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ndrepro.spec.errors import UsageError

_ALL = ""


def by_dataset(given: Sequence[str], names: Iterable[str], whose: str) -> dict[str, Path]:
    """The path of each of ``names`` that has one. Raises UsageError for one given twice, or a data set not there."""
    names, paths = set(names), _parsed(given)
    strangers = sorted(set(paths) - names - {_ALL})
    if strangers:
        raise UsageError(
            f"--data {strangers[0]}={paths[strangers[0]]}: {whose} has no runs on it",
            f"its data sets are {', '.join(sorted(names))}",
        )
    return {name: paths.get(name, paths.get(_ALL, Path())) for name in names if name in paths or _ALL in paths}


def _parsed(given: Sequence[str]) -> dict[str, Path]:
    from ndrepro.spec.catalogue import DATASETS

    paths: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals and name in DATASETS else (_ALL, text)
        if name in paths:
            raise UsageError(f"--data {text}: given twice for {name or 'every data set'}", "give each data set once")
        paths[name] = Path(path)
    return paths
