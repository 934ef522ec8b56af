"""Takes secrets out of text, JSON and command lines before anything is written or signed.

A secret is known by its looks (``provenance.redaction.patterns``) or by the name beside it
(``provenance.redaction.names``): ``name=value``, JSON, YAML, INI, exported variables, HTTP headers, connection strings,
options. It is replaced by ``[redacted:KIND]``. What stays as it is: digests, commits, UUIDs, names such as
``max_tokens``, and values that only refer to a secret (``${TOKEN}``, ``os.environ["TOKEN"]``) or are none (``None``,
``str``).

Laws: ``redact_text(redact_text(x)) == redact_text(x)``, and so for the others; lines stay lines; the time is
proportional to the length, also of text made to be slow. It finds carelessness, not intent: a secret without a known
look beside a name that says nothing stays, and so does one that was encoded or compressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provenance.redaction.marker import marker
from provenance.redaction.names import secret_kind
from provenance.redaction.patterns import LINE_ENDS, redact_shapes
from provenance.redaction.rules import redact_by_rules

_MARKER = re.compile(r"\[redacted:[a-z0-9-]+\]")
# every secret name holds one of these
_HINTS = ("pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "conn", "dsn", "sess", "jwt")

_NAME = re.compile(r"[\w.\-]+", re.ASCII)
# between a name and its value: the name's closing quote or bracket, then an assignment or comparison
_BETWEEN = re.compile(r"(\\{0,8}[\"'`])?\]?[ \t]{0,32}(?:=>|:=|!==?|={1,3}|:(?!:))[ \t]{0,32}")
_SPACE = re.compile(r"[ \t]{1,32}(?=[^\s=:-])")
_TAG = re.compile(r"[^<>\n]{0,200}>")
# what may stand before a name that has the line to itself: a diff's sign, a list's dash, "export" and its like
_LEAD = re.compile(
    r"[-+ \t>*|]*(?:(?:export|set|setx|setenv|declare|local|const|let|var|final|static|public|private|env|ENV|ARG"
    r"|typeset|readonly)[ \t]+(?:-[a-z]+[ \t]+)?){0,4}"
)
# lines whose values follow a space: C's, csh's and Docker's definitions, a netrc's logins
_SPACED = re.compile(
    r"[-+ \t]*(?:#[ \t]*define\s|setenv\s|set\s+-|ENV\s|machine\s.{0,400}\spassword\s|default\s.{0,400}\spassword\s"
    r"|pass(?:word|wd)[ \t]+\S+[ \t]*$)"
)
_QUOTE = re.compile(r"[rbfuRBFU]{0,2}(\\{0,8})(\"\"\"|'''|[\"'`])")
_QUOTED = {quote: re.compile(rf"[^{quote}\\]*(?:\\.[^{quote}\\]*)*", re.DOTALL) for quote in "\"'`"}
# a run without spaces; a quote belongs to it if a letter follows
_BARE = re.compile(r"(?:[^\s\"'`]|[\"'`](?=\w))+")
_NEXT_PAIR = re.compile(r"[,;&](?=\s*[\"']?[\w.\-]{1,64}[\"']?\s?[=:]|\s*$)")
_ANNOTATION = re.compile(r"(?:Optional\[)?(?:str|bytes|int|bool|float|object|Any|SecretStr)\]?(?: ?\| ?None)?\s?=\s?")
_TYPE = r"(?:Optional\[)?(?:str|bytes|int|bool|float|object|Any|SecretStr)\]?(?: ?\| ?None)?"
_REFERENCE = (
    r"\$\{\w+\}|\$\{\{[^{}]*\}\}|\{\{[^{}]*\}\}|(?:os\.)?(?:environ\[|environ\.get\(|getenv\()[\"'][A-Z0-9_]+[\"'][)\]]"
    r"|(?:getpass\.)?getpass\([^()]*\)|(?:self|cls|args|kwargs|cfg|config|settings|options|opts|params)(?:\.[a-z_]\w*)+"
)
_HARMLESS = re.compile(
    rf"(?:none|null|nil|true|false|undefined|~|{_TYPE}|{_REFERENCE})(?=[ \t]*(?:[,;)\]}}\"'`#]|:?$))", re.IGNORECASE
)
_BLOCK = re.compile(r"[|>][-+0-9]{0,2}[ \t]*(?:#.*)?$")
_OPENERS = {"(": ")", "[": "]", "{": "}"}
_HUNK = ("diff --git ", "@@ ")
# kinds whose value has spaces in it wherever it stands
_TO_LINE_END = ("authorization", "cookie")


def redact_text(text: str) -> str:
    """``text`` with every secret in it replaced by ``[redacted:KIND]``; the number of lines stays."""
    text = redact_shapes(text)
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    pieces = LINE_ENDS.split(text)
    carried: _Carried | None = None
    for index in range(0, len(pieces), 2):
        if carried is not None:
            pieces[index], carried = _continue(pieces[index], carried)
        if carried is None:
            pieces[index], carried = _redact_line(pieces[index])
    return "".join(pieces)


def is_harmless(value: str) -> bool:
    """Whether a value is a marker already, stands for none, or only refers to a secret."""
    return bool(_MARKER.fullmatch(value) or _HARMLESS.fullmatch(value))


def redact_tree(tree: Any) -> Any:
    """The same JSON with every secret in it replaced: below a secret's name every value but null, true and false.

    A list of strings is read as a command line, or as lines where they end in line ends, as a notebook's cells do;
    ``{"name": "DB_PASSWORD", "value": ...}`` as a pair.
    """
    return _redact_node(tree, None)


def redact_arguments(argv: Sequence[str]) -> list[str]:
    """The same command line with the values of options and settings that have a secret's name replaced.

    Read are ``--name value``, ``--name=value``, ``name=value`` and ``Name: value``.
    """
    found, pending, option = [], None, ""
    for argument in argv:
        is_value = bool(argument) and not argument.startswith("--") and argument != "-"
        if pending and is_value:
            found.append(_replaced(argument, pending))
            pending = None
            continue
        name, separator, value = _split_argument(argument)
        kind = secret_kind(name) if name else None
        pending = kind if kind and not separator and argument.startswith("-") else None
        if kind and value:
            found.append(argument[: len(argument) - len(value)] + _replaced(value, kind))
        else:
            found.append(_redact_paired(option, argument) if option and is_value else redact_text(argument))
        option = name if name and not separator and argument.startswith("--") else ""
    return found


@dataclass(frozen=True)
class _Carried:
    """A secret that continues in the next lines.

    It ends at ``closing``, before a line that begins with ``before``, or before one no further in than ``indent``.
    """

    kind: str
    closing: str = ""
    before: str = ""
    indent: int = -1


@dataclass(frozen=True)
class _Value:
    """Where a value stands in its line, what to put there, and what of it continues below."""

    start: int
    end: int
    text: str
    carried: _Carried | None = None


def _redact_node(node: Any, kind: str | None) -> Any:
    if isinstance(node, dict):
        return _redact_members(node, kind)
    if isinstance(node, (list, tuple)):
        if kind is None and node and all(isinstance(item, str) for item in node):
            return _redact_lines(node) if _are_lines(node) else redact_arguments(node)
        return [_redact_node(item, kind) for item in node]
    if isinstance(node, str):
        return _replaced(node, kind) if kind and node else redact_text(node)
    if kind and isinstance(node, (int, float)) and not isinstance(node, bool):
        return marker(kind)
    return node


def _are_lines(texts: Sequence[str]) -> bool:
    return len(texts) > 1 and all(text.find("\n") == len(text) - 1 for text in texts[:-1])


def _redact_lines(texts: Sequence[str]) -> list[str]:
    whole = "".join(texts)
    redacted = redact_text(whole)
    return list(texts) if redacted == whole else re.findall(r"[^\n]*\n|[^\n]+", redacted)


def _redact_members(members: dict[str, Any], kind: str | None) -> dict[str, Any]:
    spoken_of = next((members[key] for key in ("name", "key", "Name", "Key") if isinstance(members.get(key), str)), "")
    named = secret_kind(_MARKER.sub("", redact_text(spoken_of)))
    found: dict[str, Any] = {}
    for key, value in members.items():
        name = plain = redact_text(str(key))
        below = kind or secret_kind(_MARKER.sub("", name)) or (named if key in ("value", "Value") else None)
        number = 1
        while name in found:  # two keys that were secrets themselves
            number += 1
            name = f"{plain} ({number})"
        paired = isinstance(value, str) and below is None
        found[name] = _redact_paired(name, value) if paired else _redact_node(value, below)
    return found


def _redact_paired(name: str, value: str) -> str:
    """A value beside a name that is none of a secret's, but perhaps that of a service whose tokens rules know by it."""
    redacted = redact_text(value)
    if redacted != value or not value:
        return redacted
    pair = redact_by_rules(f"{name}={value}")
    return pair[len(name) + 1 :] if pair.startswith(f"{name}=") else value


def _replaced(value: str, kind: str) -> str:
    """The marker, unless the value is one already, is none, or only refers to one."""
    return value if is_harmless(value) else marker(kind)


def _split_argument(argument: str) -> tuple[str, str, str]:
    """Name, separator and value of ``--name=value``, ``name=value``, ``Name: value``; no name where it is neither."""
    match = re.match(r"[-+~]{0,2}([\w.\-]+)(?:([=:][ \t]*)(.*))?$", argument, re.DOTALL | re.ASCII)
    return (match.group(1), match.group(2) or "", match.group(3) or "") if match else ("", "", "")


def _redact_line(line: str) -> tuple[str, _Carried | None]:
    """One line, without its end, with the values beside secret names replaced."""
    lower = line.lower()
    if not any(hint in lower for hint in _HINTS):
        return line, None
    lead = _end(_LEAD, line)
    spaced = bool(_SPACED.match(line))
    pieces: list[str] = []
    carried: _Carried | None = None
    copied = position = 0
    while carried is None and (name := _NAME.search(line, position)):
        position = name.end()
        kind = secret_kind(name.group().removeprefix("-D"))
        start, closed = _value_start(line, name, spaced) if kind else (0, False)
        if not kind or not start or start >= len(line):
            continue
        alone = not closed and not name.group().startswith("--") and _after_dashes(name) <= lead
        value = _find_value(line, name, start, kind, alone, closed)
        position = max(position, value.end)
        pieces += [line[copied : value.start], value.text]
        copied, carried = value.end, value.carried
    return "".join([*pieces, line[copied:]]), carried


def _end(pattern: re.Pattern[str], line: str) -> int:
    match = pattern.match(line)
    return match.end() if match else 0


def _after_dashes(name: re.Match[str]) -> int:
    return name.end() - len(name.group().lstrip("-."))


def _value_start(line: str, name: re.Match[str], spaced: bool) -> tuple[int, bool]:
    """Where the value of a name begins (0: it has none), and whether the name itself is in quotes."""
    if match := _BETWEEN.match(line, name.end()):
        return match.end(), match.group(1) is not None
    if name.start() and line[name.start() - 1] == "<" and (tag := _TAG.match(line, name.end())):
        return tag.end(), False
    if (spaced or name.group().startswith("-")) and (space := _SPACE.match(line, name.end())):
        return space.end(), True
    return 0, False


def _find_value(line: str, name: re.Match[str], start: int, kind: str, alone: bool, closed: bool) -> _Value:
    """The value that begins at ``start``: what a reader of this format would take for it, or more."""
    annotation = _ANNOTATION.match(line, start)
    start = annotation.end() if annotation and annotation.end() < len(line) else start
    if already := _MARKER.match(line, start):
        return _Value(already.end(), already.end(), "")
    if harmless := _HARMLESS.match(line, start):
        return _Value(harmless.end(), harmless.end(), "")
    if block := _BLOCK.match(line, start):
        return _Value(block.end(), block.end(), "", _Carried(kind, indent=_indent(line)))
    if quote := _QUOTE.match(line, start):
        return _quoted_value(line, quote, kind)
    if line[start] in _OPENERS:
        return _bracketed_value(line, start, kind)
    end = _bare_end(line, name, start, kind, alone, closed)
    text = line[start:end]
    if not any(map(str.isalnum, text)):
        return _Value(end, end, "")
    mark = '"' if line[name.end() : name.end() + 1] == '"' and closed else ""  # so that JSON stays JSON
    return _Value(start, end, f"{mark}{marker(kind)}{mark}")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip("-+ \t"))


def _quoted_value(line: str, quote: re.Match[str], kind: str) -> _Value:
    """What is between the quotes; to the end of the line, and below if they are triple, where none closes it."""
    start, closing = quote.end(), quote.group(1) + quote.group(2)
    body = _QUOTED[closing].match(line, start) if closing in _QUOTED else None
    end = body.end() if body else line.find(closing, start)
    carried = _Carried(kind, closing) if end < 0 and len(quote.group(2)) == 3 else None
    end = len(line) if end < 0 else end
    text = line[start:end]
    if not any(map(str.isalnum, text)) or is_harmless(text):
        return _Value(end, end, "", carried)
    return _Value(start, end, marker(kind), carried)


def _bracketed_value(line: str, start: int, kind: str) -> _Value:
    """A list, a call's arguments or an object, to the bracket that closes it or the end of the line."""
    end = _closing_bracket(line, start)
    # what an object holds below has names of its own
    carried = _Carried(kind, before=_OPENERS[line[start]]) if end < 0 and line[start] != "{" else None
    end = len(line) if end < 0 else end
    text = line[start + 1 : end]
    if not any(map(str.isalnum, text)) or _MARKER.fullmatch(text):
        return _Value(end, end, "", carried)
    return _Value(start + 1, end, marker(kind), carried)


def _closing_bracket(line: str, start: int) -> int:
    """Where the bracket at ``start`` is closed, -1 if not in this line."""
    depth = 0
    for bracket in re.compile(rf"[{re.escape(line[start] + _OPENERS[line[start]])}]").finditer(line, start):
        depth += 1 if bracket.group() == line[start] else -1
        if not depth:
            return bracket.start()
    return -1


def _bare_end(line: str, name: re.Match[str], start: int, kind: str, alone: bool, closed: bool) -> int:
    """Where a value without quotes ends."""
    before = line[name.start() - 1 : name.start()]
    if before == "<":
        end = line.find("<", start)
        return len(line) if end < 0 else end
    if before and before in "\"'`" and not closed:  # the whole pair is in quotes
        end = line.find(before, start)
        end = len(line) if end < 0 else end
        return start + len(line[start:end].rstrip("\\"))
    if alone or (kind in _TO_LINE_END and not closed):
        return start + len(line[start:].rstrip().removesuffix(",").removesuffix(";"))
    run = _BARE.match(line, start)
    end = run.end() if run else start
    pair = _NEXT_PAIR.search(line, start, end)
    end = pair.start() if pair else end
    return start + len(line[start:end].rstrip(",;)]}>"))


def _continue(line: str, carried: _Carried) -> tuple[str, _Carried | None]:
    """A line below the one where a secret began; the second result is None where the secret is over.

    A diff shows only pieces of files: its next piece ends every secret.
    """
    if line.startswith(_HUNK):
        return line, None
    if carried.closing:
        end = line.find(carried.closing)
        if end >= 0:
            return _whole(line[:end], carried.kind) + line[end:], None
    elif carried.before:
        if line.lstrip("-+ \t").startswith(carried.before):
            return line, None
    elif line.strip("-+ \t") and _indent(line) <= carried.indent:
        return line, None
    return _whole(line, carried.kind), carried


def _whole(line: str, kind: str) -> str:
    indent = _indent(line)
    return line[:indent] + marker(kind) if line[indent:].strip() else line
