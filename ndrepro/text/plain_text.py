"""Whether a file is plain text that its reader sees whole in any editor, so that what is read is what is executed.

Whatever else a file is does not matter: there is no list of formats that can hold code. Seen are printable ASCII, tabs
and line ends, and further characters only if they look like no ASCII character, have a width of their own, and stay
what they are where Python normalizes names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from provenance.formats.bounded_read import open_regular

_MOST_BYTES, _START_BYTES = 1 << 20, 1 << 12
_COLUMNS, _TAB = 200, 8
# Python alone takes them for line ends; to a shell, "exit\r" is another command
_RETURNS = (".py", ".pyw")
# what a comment in one of the first two lines may say; Source: PEP 263
_UTF_8 = "(?:utf[-_]?8|(?:us-)?ascii)"
_OBSTACLES = (
    ("a carriage return", re.compile("\r")),
    ("a control character", re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")),
    # all but letters of Latin-1 that NFKC leaves as they are, and signs that look like no ASCII character
    ("characters beyond ASCII", re.compile("[^\t\n -~À-ÖØ-öø-ÿ±§°→←↑↓↔≤≥≠≈∞√]")),
    ("another encoding", re.compile(rf"(?i)\A(?:.*\n)?[ \t]*#.*?coding[:=][ \t]*(?!{_UTF_8}(?![-\w.]))[-\w.]")),
    (f"more than {_COLUMNS} columns", re.compile(f".{{{_COLUMNS + 1}}}")),
    # what follows is outside of the window
    ("a wide gap", re.compile(r"[^ \n] {60}|\n(?: *\n){60}")),
)
_CELLS = ("cells", "worksheets")


@dataclass(frozen=True)
class ReadingObstacle:
    """Why a reader does not see a file whole: in a few words, the same for all such files, and in which line."""

    reason: str
    line: int | None = None

    def __str__(self) -> str:
        return self.reason if self.line is None else f"{self.reason} in line {self.line:,}"


def reading_obstacle(file: Path) -> ReadingObstacle | None:
    """Why a reader does not see a file, or what a link leads to, whole as plain text; ``None`` where he does."""
    try:
        with open(open_regular(file, follow_symlinks=True), "rb") as stream:
            start = stream.read(_START_BYTES)
            content = start if b"\0" in start else start + stream.read(_MOST_BYTES + 1 - len(start))
    except OSError:
        return ReadingObstacle("cannot be read")
    return obstacle_in(content, file.suffix.lower())


def obstacle_in(content: bytes, suffix: str = "") -> ReadingObstacle | None:
    """The same of the bytes of a file whose name ends in ``suffix``, in small letters."""
    if b"\0" not in content and len(content) > _MOST_BYTES:
        return ReadingObstacle("larger than 1 MiB")
    if suffix in _RETURNS and content.count(b"\r") == content.count(b"\n"):
        content = content.replace(b"\r\n", b"\n")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ReadingObstacle("not text")
    if "\0" in text:
        return ReadingObstacle("not text")
    text = text.expandtabs(_TAB)
    for reason, pattern in _OBSTACLES:
        if match := pattern.search(text):
            return ReadingObstacle(reason, text.count("\n", 0, match.start()) + 1)
    return ReadingObstacle("a notebook") if suffix == ".ipynb" or _has_cells(text) else None


def _has_cells(text: str) -> bool:
    """Whether a text is a notebook: a viewer shows of it neither metadata nor the source of what is displayed."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return any(name in json.loads(text) for name in _CELLS)
    except RecursionError:
        return True
    except ValueError:
        return False
