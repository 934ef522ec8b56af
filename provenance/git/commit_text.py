"""What a commit holds that nobody reads in ``git log`` and ``git show``: named by default, whatever it is.

They print the author, the message, and the files that changed. A program that is given the commit reads every byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_OID = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")
# without what git trims: blanks around a name, or a zone of -0000
_PERSON = re.compile(rb"(?:[^<> ]+ )+<[^<>]*> (?:0|[1-9][0-9]*) (?!-0000)[+-][0-9]{4}")
# gitformat-commit
# lines of printable ASCII and letters of Latin-1, without blanks at their ends; the last one is not empty
_SHOWN = re.compile(
    "(?:(?:[ -~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]*[!-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff])?\n)*(?<!\n\n)"
)
_FORMS = {b"tree": _OID, b"parent": _OID, b"author": _PERSON, b"committer": _PERSON}


def unread_parts(content: bytes) -> Iterator[str]:
    """The parts of a commit's content that git does not print, each in a few words; none may come twice."""
    header, _, message = content.partition(b"\n\n")
    seen: dict[bytes, bytes] = {}
    named = False
    for line in header.split(b"\n"):
        if line.startswith(b" ") and named:  # it continues the one before
            continue
        name, _, value = line.partition(b" ")
        form, again = _FORMS.get(name), name in seen and name != b"parent"
        named = form is None or again or form.fullmatch(value) is None
        if named:
            yield f"header {name.decode('utf-8', 'backslashreplace')}"
        seen[name] = value
    if seen.get(b"author") != seen.get(b"committer"):
        yield "another committer than its author or another time"
    text, hidden, _ = message.partition(b"\0")
    if hidden:
        yield "text after a NUL character"
    if text.startswith(b"\n") or not _shows(seen.get(b"author", b"") + b"\n" + text):
        yield "characters that may not show"


def _shows(text: bytes) -> bool:
    """Whether a text has only characters that show for certain, and blanks and line ends where they do."""
    try:
        return _SHOWN.fullmatch(text.decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False
