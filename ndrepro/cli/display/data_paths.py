"""``--data`` of commands that have runs on several data sets: PATH for all of them, or DATASET=PATH for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ndrepro.protocol.errors import UsageError

ALL = ""


def parse(given: Sequence[str]) -> dict[str, Path]:
    """The paths by data set, ``ALL`` for all that are not named. Raises UsageError for one given twice."""
    from ndrepro.protocol.experiment.catalogue import DATASETS

    paths: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        name, path = (name, path) if equals and name in DATASETS else (ALL, text)
        if name in paths:
            raise UsageError(f"--data {text}: given twice for {name or 'every data set'}", "give each data set once")
        paths[name] = Path(path)
    return paths


def by_dataset(paths: Mapping[str, Path], names: Iterable[str], whose: str) -> dict[str, Path]:
    """The path of each data set of ``names`` that has one. Raises UsageError for a data set that is not among them."""
    names = set(names)
    strangers = sorted(set(paths) - names - {ALL})
    if strangers:
        raise UsageError(
            f"--data {strangers[0]}={paths[strangers[0]]}: {whose} has no runs on it",
            f"its data sets are {', '.join(sorted(names))}",
        )
    return {name: paths.get(name, paths.get(ALL, Path())) for name in names if name in paths or ALL in paths}
