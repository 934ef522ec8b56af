"""The claim that names what of code, inputs and data nobody reads as plain text, whatever it is or holds."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import all_suffixes
from pathlib import Path

from ndrepro.execution.programs.input_files import is_code
from ndrepro.execution.reproduce.unread_words import DATA, MAY_RUN, NAMED, SOURCE, UnreadFile, unread_claim
from ndrepro.protocol.verdicts import ClaimCheck
from ndrepro.text.plain_text import ReadingObstacle, name_obstacle, reading_obstacles
from provenance.formats.folder_tree import files_and_links, walk

# what is looked at, in some seconds; of what is no text only the start is read
_MOST_FILES, _MOST_BYTES = 200_000, 1 << 28
_IMPORTED = tuple(all_suffixes())
# see Python's modules site and importlib.metadata; matplotlib imports the backend that its settings name
_LOADED = re.compile(
    r"(?si)(?:.*/)?(?:(?:site|user)customize(?:[./].*)?|(?:site|dist)-packages/.*"
    r"|(?:[^/]+\.)?(?:dist|egg)-info(?:/entry_points\.txt)?|matplotlibrc)"
)
_MAY_BE_LOADED = ReadingObstacle("may be executed whatever the program imports")
_LEADS_OUT, _NOT_LOOKED_AT = ReadingObstacle("a link that leads out"), ReadingObstacle("not looked at")
_NOT_LISTED = ReadingObstacle("a folder that cannot be listed")


def unread_files(
    place: Path, shown: Iterable[Path], left_out: Sequence[Path], executed: Collection[str]
) -> tuple[ClaimCheck, ...]:
    """The claim on what is at or below ``place`` and ``shown``, but for what is below ``left_out``; () for nothing.

    Named first are paths ``executed``, which are words of the command and entries of the search path, then source, and
    what else may be executed by its name or mode.

    Raises StorageError for folders nested too deeply.
    """
    tops = {path: top for top in (place, *shown) for path in _paths(top, left_out)}
    return unread_claim(_unread(tops, place, executed), f"of {len(tops):,}")


def _paths(top: Path, left_out: Sequence[Path]) -> Iterator[str]:
    """Every file at or below a path, every link to a folder, and every folder that cannot be listed."""
    if not top.is_dir():
        yield str(top)
        return
    closed: list[OSError] = []
    for listing in walk(top, onerror=closed.append):
        if not any(Path(listing[0]).is_relative_to(each) for each in left_out):
            yield from files_and_links(listing)
    yield from (error.filename for error in closed)


def _unread(tops: Mapping[str, Path], place: Path, executed: Collection[str]) -> Iterator[UnreadFile]:
    """What may be executed is looked at first, and nothing beyond the limits."""
    real, read = set(map(os.path.realpath, set(tops.values()))), 0
    for number, (rank, path) in enumerate(sorted((_rank(path, executed), path) for path in tops)):
        skipped = number >= _MOST_FILES or read > _MOST_BYTES
        obstacles = (_NOT_LOOKED_AT,) if skipped else _obstacles(path, tops[path], real)
        if not obstacles or obstacles[0].line:
            with suppress(OSError):
                read += os.path.getsize(path)
        name = path if tops[path] != place else path[len(str(place)) + 1 :] or path
        yield from (UnreadFile(name, rank, obstacle) for obstacle in obstacles)


def _rank(path: str, executed: Collection[str]) -> int:
    name = os.path.basename(path)
    may_run = name.endswith(_IMPORTED) or not os.path.splitext(name)[1] or os.access(path, os.X_OK)
    return NAMED if path in executed else SOURCE if is_code(name) else MAY_RUN if may_run else DATA


def _obstacles(path: str, top: Path, tops: Collection[str]) -> tuple[ReadingObstacle, ...]:
    name = path[len(str(top.parent)) :].lstrip(os.sep)  # what is above is the reviewer's
    if obstacle := name_obstacle(name):
        return (obstacle,)
    if os.path.islink(path) and not _is_below(os.path.realpath(path), tops):
        return (_LEADS_OUT,)
    loaded = (_MAY_BE_LOADED,) if _LOADED.fullmatch(name) else ()
    if os.path.isdir(path):
        return loaded if os.path.islink(path) else (*loaded, _NOT_LISTED)
    return *loaded, *reading_obstacles(Path(path))


def _is_below(path: str, tops: Collection[str]) -> bool:
    return any(path == top or path.startswith(f"{top}{os.sep}") for top in tops)
