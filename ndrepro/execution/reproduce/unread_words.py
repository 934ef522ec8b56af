"""The words of a claim on files that nobody reads as plain text: those of rare kinds are named first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plain_text import ReadingObstacle
from ndrepro.text.plurals import first_of

UNREAD_FILES = "files that are not plain text"
# ranks of what the command names, of source, of what else may be executed, and of data
NAMED, SOURCE, MAY_RUN, DATA = range(4)
_SHOWN_CHARACTERS, _SHOWN_DATA, _SHOWN_SUFFIXES = 1500, 3, 8
_NAME_CHARACTERS, _SUFFIX_CHARACTERS = 200, 12


@dataclass(frozen=True, slots=True)
class UnreadFile:
    """A file of a rank with one of the obstacles that keep its reader from it."""

    name: str
    rank: int
    obstacle: ReadingObstacle

    @property
    def suffix(self) -> str:
        """The end of its name, or that it has none."""
        return ascii(os.path.splitext(self.name)[1][:_SUFFIX_CHARACTERS])[1:-1] or "without a suffix"

    @property
    def kind(self) -> tuple[int, str, str]:
        """What it has in common with others."""
        return self.rank, self.obstacle.reason, self.suffix

    def __str__(self) -> str:
        line = "" if self.obstacle.line is None else f":{self.obstacle.line}"
        return ascii(self.name[:_NAME_CHARACTERS])[1:-1] + line


def unread_claim(found: Iterable[UnreadFile], of: str) -> tuple[ClaimCheck, ...]:
    """The claim on the files found, ``of`` which others; () for none. A file may come with several obstacles.

    One file of code among images, or behind twenty harmless ones, is of a rare kind.
    """
    files = [*found]
    if not files:
        return ()
    kinds = Counter(file.kind for file in files)
    files.sort(key=lambda file: (file.rank, kinds[file.kind], file.name))
    return (claim(UNREAD_FILES, None, f"{len({file.name for file in files}):,} {of}: {_words(files)}"),)


def _words(found: list[UnreadFile]) -> str:
    """Names by reason, as many as there is room for, of data some of each kind; of the others how many, by suffix."""
    data = Counter[tuple[int, str, str]]()
    shown, room = list[UnreadFile](), _SHOWN_CHARACTERS
    for file in found:
        data[file.kind] += 1
        if (file.rank != DATA or data[file.kind] <= _SHOWN_DATA) and (room := room - len(str(file)) - 2) >= 0:
            shown.append(file)
    parts = []
    for reason, count in Counter(file.obstacle.reason for file in found).items():
        names = ", ".join(str(file) for file in shown if file.obstacle.reason == reason)
        parts.append(f"{reason} ({count:,}){': ' * bool(names)}{names}")
    suffixes = {file.name: file.suffix for file in found}
    for file in shown:
        suffixes.pop(file.name, None)
    if others := Counter(suffixes.values()):
        counts = [f"{count:,} {suffix}" for suffix, count in others.most_common()]
        parts.append(f"{others.total():,} of them not named here: {first_of(counts, _SHOWN_SUFFIXES)}")
    return "; ".join(parts)
