"""A file as it may be kept: redacted as what it is, or left out with the reason.

    Python                  strings and comments (``provenance.redaction.python_source``)
    JSON, notebooks         the values of the parsed document, which is then written anew
    other text              line by line; UTF-8, or UTF-16 with its mark
    archives, compressed    searched within bounds and never changed: left out where a member holds a secret
    other binary files      searched for tokens that are known by their looks: left out where there is one

What was code or a document stays one: a file that parsed before and would not afterwards is left out.
"""

from __future__ import annotations

import ast
import codecs
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from provenance.redaction.patterns import redact_shapes
from provenance.redaction.python_source import redact_python
from provenance.redaction.redact import redact_text, redact_tree

_SEARCHED_BYTES = 32 << 20
_SEARCHED_MEMBERS = 2000
_DEEPEST = 3
_PIECE = 1 << 20
_UTF16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True)
class RedactedFile:
    """What may be kept of a file; ``problem`` is why nothing of it may, "" where it may."""

    data: bytes
    problem: str = ""


def redact_file(name: str, data: bytes) -> RedactedFile:
    """The file ``name`` (its ending says what it is) with its secrets replaced, or why it is to be left out."""
    problem, encoding = binary_problem(name, data), _encoding(data)
    if problem or encoding is None or _is_packed(data):
        return RedactedFile(b"" if problem else data, problem)
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    try:
        text = data.decode(encoding, errors)
        redacted = _redact_as(name, text)
    except (UnicodeError, RecursionError):
        return RedactedFile(b"", "text that cannot be searched for secrets")
    if redacted == text:
        return RedactedFile(data)
    if not still_parses(name, text, redacted):
        return RedactedFile(b"", "it holds what looks like a secret, and would not parse without it")
    return RedactedFile(redacted.encode(encoding, errors))


def binary_problem(name: str, data: bytes) -> str:
    """Why a binary, packed or compressed file is to be left out; "" for one that may be kept, and for text."""
    if _is_packed(data):
        return _Search().problem(name, data, 0)
    held = _encoding(data) is None and redact_shapes(text := data.decode("latin-1")) != text
    return "a binary file that holds what looks like a token" if held else ""


def redact_lines(name: str, text: str) -> str:
    """Like ``redact_file`` for text, with every line in its place: for what is compared line by line."""
    return (redact_python(text) if _ending(name) in _PYTHON else None) or redact_text(text)


def still_parses(name: str, before: str, after: str) -> bool:
    """Whether a file of a kind that can be parsed still is one; true of what was none before."""
    parse = _PARSERS.get(_ending(name))
    return parse is None or not _is_parsed(parse, before) or _is_parsed(parse, after)


def _redact_as(name: str, text: str) -> str:
    if _ending(name) not in _JSON:
        return redact_lines(name, text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return redact_text(text)
    redacted = redact_tree(document)
    return text if redacted == document else json.dumps(redacted, indent=1, ensure_ascii=False) + "\n"


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _encoding(data: bytes) -> str | None:
    """The encoding of text; ``None`` for what is none."""
    for mark, encoding in _UTF16:
        if data.startswith(mark):
            return encoding
    return None if b"\0" in data else "utf-8"


def _python(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ast.parse(text)


def _json_lines(text: str) -> None:
    for line in filter(str.strip, text.split("\n")):
        json.loads(line)


_PYTHON = ("py", "pyi", "pyw")
_JSON = ("json", "ipynb", "geojson")
_PARSERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_PYTHON, _python),
    **dict.fromkeys(_JSON, json.loads),
    **dict.fromkeys(("jsonl", "ndjson"), _json_lines),
}


def _is_parsed(parse: Callable[[str], Any], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def _is_packed(data: bytes) -> bool:
    magic = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
    return data.startswith(magic) or data[257:262] == b"ustar"


class _Search:
    """A search through archives and what is compressed, within bounds for all that one file holds."""

    def __init__(self) -> None:
        self._bytes, self._members = _SEARCHED_BYTES, _SEARCHED_MEMBERS

    def problem(self, name: str, data: bytes, depth: int) -> str:
        """Why the file is to be left out; "" where nothing is found in it."""
        if not _is_packed(data):
            return f"{name} in it holds what looks like a secret" if self._holds_secret(name, data) else ""
        if depth >= _DEEPEST:
            return f"{name} in it is packed more than {_DEEPEST} times: not searched for secrets"
        from provenance.redaction.archives import DAMAGED, unpacked  # few files are one

        try:
            for inner, content in unpacked(name, data):
                piece = self._read(content)
                if piece is None:
                    return f"it unpacks to more than is searched for secrets ({_SEARCHED_BYTES} bytes)"
                found = self.problem(inner, piece, depth + 1)
                if found:
                    return found
        except (*DAMAGED, RuntimeError, NotImplementedError) as error:
            return f"it cannot be searched for secrets ({type(error).__name__}: {error})"
        return ""

    def _holds_secret(self, name: str, data: bytes) -> bool:
        redacted = redact_file(name, data)
        return bool(redacted.problem) or redacted.data != data

    def _read(self, content: IO[bytes]) -> bytes | None:
        self._members -= 1
        pieces = []
        with content:
            while piece := content.read(min(_PIECE, self._bytes + 1)):
                self._bytes -= len(piece)
                pieces.append(piece)
                if self._bytes < 0 or self._members < 0:
                    return None
        return None if self._members < 0 else b"".join(pieces)
