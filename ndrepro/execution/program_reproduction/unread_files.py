"""The claim that names what of a program's code and inputs nobody reads as plain text, whatever it is or holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path

from ndrepro.execution.programs.input_files import is_code
from ndrepro.execution.reproduce.unread_source import UNREAD_FILES
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plain_text import ReadingObstacle, name_obstacle, reading_obstacle
from ndrepro.text.plurals import first_of
from provenance.formats.folder_tree import walk

# what is looked at, in some seconds; of what is no text only the start is read
_MOST_FILES, _MOST_BYTES = 200_000, 1 << 28
_SHOWN_CHARACTERS, _SHOWN_DATA, _SHOWN_SUFFIXES = 1500, 3, 8
_NAME_CHARACTERS, _SUFFIX_CHARACTERS = 200, 12
_DATA = 3
_IMPORTED = tuple(all_suffixes())
_LEADS_OUT, _NOT_LOOKED_AT = ReadingObstacle("a link that leads out"), ReadingObstacle("not looked at")


@dataclass(frozen=True, slots=True)
class _UnreadFile:
    """``rank``: 0 for what the command names, then source, what else may be executed, and 3 for data."""

    name: str
    rank: int
    obstacle: ReadingObstacle

    @property
    def suffix(self) -> str:
        return ascii(os.path.splitext(self.name)[1][:_SUFFIX_CHARACTERS])[1:-1] or "without a suffix"

    @property
    def kind(self) -> tuple[int, str, str]:
        return self.rank, self.obstacle.reason, self.suffix

    def __str__(self) -> str:
        line = "" if self.obstacle.line is None else f":{self.obstacle.line}"
        return ascii(self.name[:_NAME_CHARACTERS])[1:-1] + line


def unread_files(
    place: Path, shown: Iterable[Path], left_out: Sequence[Path], executed: Collection[str]
) -> tuple[ClaimCheck, ...]:
    """The claim on what is at or below ``place`` and ``shown``, but for what is below ``left_out``; () for nothing.

    Named first are paths ``executed``, which are words of the command and entries of the search path, then source, and
    what else may be executed by its name or mode.

    Raises StorageError for folders nested too deeply.
    """
    tops = {path: top for top in (place, *shown) for path in _paths(top, left_out)}
    found = list(_unread(tops, place, executed))
    if not found:
        return ()
    # one file of code among images is of a rare kind
    kinds = Counter(file.kind for file in found)
    found.sort(key=lambda file: (file.rank, kinds[file.kind], file.name))
    return (claim(UNREAD_FILES, None, f"{len(found):,} of {len(tops):,}: {_words(found)}"),)


def _paths(top: Path, left_out: Sequence[Path]) -> Iterator[str]:
    """Every file at or below a path, and every link to a folder."""
    if not top.is_dir():
        yield str(top)
        return
    for at, folders, files in walk(top):
        if not any(Path(at).is_relative_to(each) for each in left_out):
            links = (name for name in folders if os.path.islink(os.path.join(at, name)))
            yield from (os.path.join(at, name) for name in (*files, *links))


def _unread(tops: Mapping[str, Path], place: Path, executed: Collection[str]) -> Iterator[_UnreadFile]:
    """What may be executed is looked at first, and nothing beyond the limits."""
    real, read = set(map(os.path.realpath, set(tops.values()))), 0
    for number, (rank, path) in enumerate(sorted((_rank(path, executed), path) for path in tops)):
        obstacle = _NOT_LOOKED_AT if number >= _MOST_FILES or read > _MOST_BYTES else _obstacle(path, tops[path], real)
        if obstacle is None or obstacle.line:
            with suppress(OSError):
                read += os.path.getsize(path)
        if obstacle:
            name = path if tops[path] != place else path[len(str(place)) + 1 :]
            yield _UnreadFile(name, rank, obstacle)


def _rank(path: str, executed: Collection[str]) -> int:
    name = os.path.basename(path)
    may_run = name.endswith(_IMPORTED) or not os.path.splitext(name)[1] or os.access(path, os.X_OK)
    return 0 if path in executed else 1 if is_code(name) else 2 if may_run else _DATA


def _obstacle(path: str, top: Path, tops: Collection[str]) -> ReadingObstacle | None:
    name = path[len(str(top.parent)) :].lstrip(os.sep)  # what is above is the reviewer's
    if obstacle := name_obstacle(name):
        return obstacle
    if os.path.islink(path) and not _is_below(os.path.realpath(path), tops):
        return _LEADS_OUT
    return None if os.path.isdir(path) else reading_obstacle(Path(path))  # what is below a folder is looked at


def _is_below(path: str, tops: Collection[str]) -> bool:
    return any(path == top or path.startswith(f"{top}{os.sep}") for top in tops)


def _words(found: Sequence[_UnreadFile]) -> str:
    """Names by reason, as many as there is room for, of data some of each kind; of the others how many, by suffix."""
    data = Counter[tuple[int, str, str]]()
    shown, room = list[_UnreadFile](), _SHOWN_CHARACTERS
    for file in found:
        data[file.kind] += 1
        if (file.rank != _DATA or data[file.kind] <= _SHOWN_DATA) and (room := room - len(str(file)) - 2) >= 0:
            shown.append(file)
    parts = []
    for reason, count in Counter(file.obstacle.reason for file in found).items():
        names = ", ".join(str(file) for file in shown if file.obstacle.reason == reason)
        parts.append(f"{reason} ({count:,}){': ' * bool(names)}{names}")
    if others := Counter(file.suffix for file in found) - Counter(file.suffix for file in shown):
        suffixes = [f"{count:,} {suffix}" for suffix, count in others.most_common()]
        parts.append(f"{others.total():,} of them not named here: {first_of(suffixes, _SHOWN_SUFFIXES)}")
    return "; ".join(parts)
