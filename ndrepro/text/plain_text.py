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

from ndrepro.text.visible import SEEN
from provenance.formats.bounded_read import open_regular

_MOST_BYTES, _START_BYTES = 1 << 20, 1 << 12
_COLUMNS, _TAB = 200, 8
_OTHER_INTERPRETER = re.compile(rb"#!(?! ?(?:/[\w./-]*/|/usr/bin/env )python[\d.]*(?: -[A-Za-z]+)*\r?(?:\n|\Z))")
# in a text with tabs
_TABS = re.compile("[^\t\n]\t|(?m:^)  ")
# others, which Python takes for parts of no name: punctuation, arrows, lines, pictures
_SIGNS = (
    "\xa1\xab\xb7\xbb\xbf\xd7\xf7\u2010-\u2027\u2030-\u203e\u2041-\u2053\u2055-\u205e\u2192-\u27bf\U0001f300-\U0001faff"
)
# what a comment in one of the first two lines may say; Source: PEP 263
_UTF_8 = "(?:utf[-_]?8|(?:us-)?ascii)"
_OBSTACLES = (
    ("a carriage return", re.compile("\r")),
    ("a control character", re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")),
    ("letters or invisible characters beyond ASCII", re.compile(f"[^\0-\x9f{SEEN}{_SIGNS}]")),
    ("signs beyond ASCII", re.compile(f"(?![{SEEN}])[{_SIGNS}]")),
    ("another encoding", re.compile(rf"(?i)\A(?:.*\n)?[ \t]*#.*?coding[:=][ \t]*(?!{_UTF_8}(?![-\w.]))[-\w.]")),
    (f"more than {_COLUMNS} columns", re.compile(f".{{{_COLUMNS + 1}}}")),
    ("a blank at the end", re.compile(r" (?:\n|\Z)")),
    # what follows is outside of the window
    ("a wide gap", re.compile(r"(?m)[^ \n] {60}| {80}|^(?=.{101}).*?[^ \n] {20}|(?:^[^\w\n]*\n){41}")),
)
# Markdown's; behind a backslash they mean something else to a shell
_LINE_BREAKS = re.compile(rb"(?<![ \\])  (?=\n)")
_POINTER = b"version https://git-lfs.github.com/spec/"
_CELLS = ("cells", "worksheets")
# of a file or folder: no blank at an end
_NAME, _MOST_NAME = re.compile(r"[!-~](?:[ -~]*[!-~])?"), 200


@dataclass(frozen=True)
class ReadingObstacle:
    """Why a reader does not see a file whole: in a few words, the same for all such files, and in which line."""

    reason: str
    line: int | None = None

    def __str__(self) -> str:
        return self.reason if self.line is None else f"{self.reason} in line {self.line:,}"


_NO_TEXT, _NOTEBOOK = ReadingObstacle("not text"), ReadingObstacle("a notebook, whose metadata are not shown")


def name_obstacle(name: str) -> ReadingObstacle | None:
    """Why a reader does not see a file's name, with the folders in it, whole; ``None`` where he does."""
    seen = len(name) <= _MOST_NAME and all(map(_NAME.fullmatch, name.split(os.sep)))
    return None if seen else ReadingObstacle("a name that is not seen whole")


def reading_obstacles(file: Path) -> tuple[ReadingObstacle, ...]:
    """Why a reader does not see a file, or what a link leads to, whole as plain text: all there is, a harmless one may
    stand in front of another. () where he does.
    """
    suffix = file.suffix.lower()
    if suffix == ".ipynb":
        return (_NOTEBOOK,)
    try:
        with open(open_regular(file, follow_symlinks=True), "rb") as stream:
            start = stream.read(_START_BYTES)
            if b"\0" in start:
                return (_NO_TEXT,)
            if os.fstat(stream.fileno()).st_size > _MOST_BYTES:
                return (ReadingObstacle("larger than 1 MiB"),)
            content = start + stream.read(_MOST_BYTES)
            if suffix == ".md":
                content = _LINE_BREAKS.sub(b"", content)
            return _obstacles(content, is_python=suffix in (".py", ".pyw"))
    except OSError:
        return (ReadingObstacle("cannot be read"),)


def _obstacles(content: bytes, *, is_python: bool) -> tuple[ReadingObstacle, ...]:
    """The same of bytes. A return before the end of every line means nothing in Python alone: to a shell "exit" with a
    return is no exit. A blank there may be part of a string, and one behind a backslash ends the statement.
    """
    ends_alike = content.count(b"\r\n") == content.count(b"\n")
    if is_python and ends_alike and not _OTHER_INTERPRETER.match(content):
        content = content.replace(b"\r\n", b"\n")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return (_NO_TEXT,)
    if content.startswith(_POINTER):
        return (ReadingObstacle("a pointer of Git LFS in the place of a file"),)
    if _has_cells(text):
        return (_NOTEBOOK,)
    tabs = _TABS.search(text) if "\t" in text else None
    text = text.expandtabs(_TAB)
    found = (_at(match, reason) for reason, pattern in _OBSTACLES if (match := pattern.search(text)))
    return (*([_at(tabs, "tabs among blanks")] if tabs else []), *found)


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
