"""Whether a file is plain text that its reader sees whole in any editor, so that what is read is what is executed.

Whatever else a file is does not matter: there is no list of formats that can hold code. Seen are printable ASCII, tabs
and line ends, and further characters only if they look like no ASCII character, have a width of their own, and stay
what they are where Python normalizes names.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from provenance.formats.bounded_read import open_regular

_MOST_BYTES, _START_BYTES = 1 << 20, 1 << 12
_COLUMNS, _TAB = 200, 8
# where blanks and returns at the end of a line mean nothing; to a shell "exit\r" is no exit, and a backslash before a
# blank continues no line
_PYTHON = (".py", ".pyw")
# in a text with tabs
_TABS = re.compile("[^\t\n]\t|(?m:^)  ")
# letters of Latin-1 that NFKC leaves as they are, and signs that look like no ASCII character
_SEEN = "À-ÖØ-öø-ÿ±§°→←↑↓↔≤≥≠≈∞√"
# others, which Python takes for parts of no name: punctuation, arrows, lines, pictures
_SIGNS = (
    "\xa1\xab\xb7\xbb\xbf\xd7\xf7\u2010-\u2027\u2030-\u203e\u2041-\u2053\u2055-\u205e\u2192-\u27bf\U0001f300-\U0001faff"
)
# what a comment in one of the first two lines may say; Source: PEP 263
_UTF_8 = "(?:utf[-_]?8|(?:us-)?ascii)"
_OBSTACLES = (
    ("a carriage return", re.compile("\r")),
    ("a control character", re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")),
    ("letters or invisible characters beyond ASCII", re.compile(f"[^\t\n -~{_SEEN}{_SIGNS}]")),
    ("signs beyond ASCII", re.compile(f"(?![{_SEEN}])[{_SIGNS}]")),
    ("another encoding", re.compile(rf"(?i)\A(?:.*\n)?[ \t]*#.*?coding[:=][ \t]*(?!{_UTF_8}(?![-\w.]))[-\w.]")),
    (f"more than {_COLUMNS} columns", re.compile(f".{{{_COLUMNS + 1}}}")),
    ("a blank at the end", re.compile(r" (?:\n|\Z)")),
    # what follows is outside of the window
    ("a wide gap", re.compile(r"[^ \n] {60}| {80}|\n{61}")),
)
_CELLS = ("cells", "worksheets")


@dataclass(frozen=True)
class ReadingObstacle:
    """Why a reader does not see a file whole: in a few words, the same for all such files, and in which line."""

    reason: str
    line: int | None = None

    def __str__(self) -> str:
        return self.reason if self.line is None else f"{self.reason} in line {self.line:,}"


_NO_TEXT, _TOO_LARGE = ReadingObstacle("not text"), ReadingObstacle("larger than 1 MiB")
_NOTEBOOK = ReadingObstacle("a notebook, whose metadata are not shown")


def reading_obstacle(file: Path) -> ReadingObstacle | None:
    """Why a reader does not see a file, or what a link leads to, whole as plain text; ``None`` where he does."""
    try:
        with open(open_regular(file, follow_symlinks=True), "rb") as stream:
            start = stream.read(_START_BYTES)
            if b"\0" in start:
                return _NO_TEXT
            if os.fstat(stream.fileno()).st_size > _MOST_BYTES:
                return _TOO_LARGE
            return obstacle_in(start + stream.read(_MOST_BYTES), file.suffix.lower())
    except OSError:
        return ReadingObstacle("cannot be read")


def obstacle_in(content: bytes, suffix: str = "") -> ReadingObstacle | None:
    """The same of the bytes of a file whose name ends in ``suffix``, in small letters."""
    if len(content) > _MOST_BYTES:
        return _TOO_LARGE
    if suffix in _PYTHON:
        content = b"\n".join(line.rstrip(b" \t\r") for line in content.split(b"\n"))
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _NO_TEXT
    if "\0" in text:
        return _NO_TEXT
    if suffix == ".ipynb" or _has_cells(text):
        return _NOTEBOOK
    if "\t" in text and (match := _TABS.search(text)):
        return _at(match, "tabs among blanks")
    text = text.expandtabs(_TAB)
    return next((_at(match, reason) for reason, pattern in _OBSTACLES if (match := pattern.search(text))), None)


def _at(found: re.Match[str], reason: str) -> ReadingObstacle:
    return ReadingObstacle(reason, found.string.count("\n", 0, found.start()) + 1)


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
