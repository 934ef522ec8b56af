"""Redacts Python without changing what is code: only strings, comments, and numbers beside a secret's name.

A value is judged by the name that it is assigned to, passed as, compared with, or the dictionary key before it; a
string's content is read as text as well, since it may be a connection string or a header. Every string that was
changed is a string still: where redacting parts of it would end it early, its content is replaced as a whole. So the
file has the same lines and the same code afterwards.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from itertools import accumulate

from provenance.redaction.marker import marker
from provenance.redaction.names import secret_kind
from provenance.redaction.redact import is_harmless, redact_text

_STRING = re.compile(r"([A-Za-z]{0,2})(\"\"\"|'''|\"|')(.*)\2", re.DOTALL)
_FSTRING_TEXT = getattr(tokenize, "FSTRING_MIDDLE", -1)
_FSTRING_PARTS = (getattr(tokenize, "FSTRING_START", -1), _FSTRING_TEXT, getattr(tokenize, "FSTRING_END", -1))
_LITERALS = (tokenize.STRING, tokenize.NUMBER, *_FSTRING_PARTS)
_LAYOUT = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
_ASSIGNS = ("=", ":", "==", "!=", ":=")
# what wraps a literal and is none of the calls that ask for a secret
_WRAPPER = re.compile(r"str|bytes|[A-Z]\w*")
_LOOKED_BACK = 60
_SHORTEST_NUMBER = 6

Lexeme = tokenize.TokenInfo


def redact_python(source: str) -> str | None:
    """The source with its secrets replaced, or ``None`` where it is not Python that can be read."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source, newline="").readline))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return None
    starts = [0, *accumulate(map(len, io.StringIO(source, newline="")))]
    pieces, copied = [], 0
    for start, end, text in _replacements(tokens, source, starts):
        pieces += [source[copied:start], text]
        copied = end
    return "".join([*pieces, source[copied:]])


def _replacements(tokens: Sequence[Lexeme], source: str, starts: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    code = [lexeme for lexeme in tokens if lexeme.type not in _LAYOUT]
    place = {id(lexeme): number for number, lexeme in enumerate(code)}
    for lexeme in tokens:
        start = starts[lexeme.start[0] - 1] + lexeme.start[1]
        end = starts[lexeme.end[0] - 1] + lexeme.end[1] if lexeme.end[0] <= len(starts) else start
        text = source[start:end]
        if lexeme.type == tokenize.COMMENT:
            changed = redact_text(text)
        elif lexeme.type in (tokenize.STRING, tokenize.NUMBER, _FSTRING_TEXT):
            kind = _kind(code, place[id(lexeme)])
            changed = _number(text, kind) if lexeme.type == tokenize.NUMBER else _string(text, kind, lexeme.type)
        else:
            continue
        if changed != text:
            yield start, end, changed


def _number(text: str, kind: str | None) -> str:
    return f'"{marker(kind)}"' if kind and len(text) >= _SHORTEST_NUMBER else text


def _string(text: str, kind: str | None, token_type: int) -> str:
    match = _STRING.fullmatch(text)
    if match is None:  # a piece of an f-string, which has no quotes of its own
        return _content(text, kind) if token_type == _FSTRING_TEXT else text
    prefix, quote, content = match.groups()
    changed = prefix + quote + _content(content, kind) + quote
    if changed == text or _is_string(changed):
        return changed
    return prefix + quote + _whole(content, kind or "secret") + quote


def _content(content: str, kind: str | None) -> str:
    if kind and any(map(str.isalnum, content)) and not is_harmless(content):
        return _whole(content, kind)
    return redact_text(content)


def _whole(content: str, kind: str) -> str:
    """A marker for each line, so that lines stay lines."""
    return "\n".join(marker(kind) if line.strip() else line for line in content.split("\n"))


def _is_string(text: str) -> bool:
    try:
        return isinstance(ast.parse(f"({text})", mode="eval").body, (ast.Constant, ast.JoinedStr))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _kind(code: Sequence[Lexeme], place: int) -> str | None:
    """The kind of secret that the literal at ``place`` is by the name before it."""
    assigned = _assignment(code, place)
    if assigned < 1:
        return None
    if code[assigned - 1].string == "]" and code[assigned - 2].type == tokenize.STRING:
        return _named(code[assigned - 2])
    kind = _named(code[assigned - 1])
    if kind or code[assigned].string != "=":
        return kind
    annotated = assigned - 1
    while annotated > max(1, assigned - 12) and (
        code[annotated].type == tokenize.NAME or code[annotated].string in (".", "[", "]", "|", ",")
    ):
        annotated -= 1
    return _named(code[annotated - 1]) if code[annotated].string == ":" else None


def _named(lexeme: Lexeme) -> str | None:
    if lexeme.type == tokenize.STRING:
        return secret_kind(lexeme.string.strip("\"'rbfuRBFU"))
    return secret_kind(lexeme.string) if lexeme.type == tokenize.NAME else None


def _assignment(code: Sequence[Lexeme], place: int) -> int:
    """Where the operator stands that gives the literal at ``place`` to a name; -1 where there is none.

    Between the two are other literals of a list or of one concatenation, brackets, and a wrapper's name.
    """
    separated = False
    for number in range(place - 1, max(-1, place - _LOOKED_BACK), -1):
        lexeme = code[number]
        if lexeme.string in _ASSIGNS:
            return -1 if separated else number
        if lexeme.string == ",":
            separated = True
        elif lexeme.string in ("(", "["):
            separated = False
        elif lexeme.type in _LITERALS or (
            lexeme.type == tokenize.NAME and code[number + 1].string == "(" and _WRAPPER.fullmatch(lexeme.string)
        ):
            continue
        else:
            return -1
    return -1
