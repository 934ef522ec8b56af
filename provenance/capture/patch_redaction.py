"""Redacts one file's patch so that it still applies: only lines that it adds may change.

What a patch removes or shows unchanged is the commit's, and git refuses a patch in which it differs. So the new file is
redacted as the kind of file that it is, line for line, and each added line is taken from there; where a secret is in a
removed or an unchanged line, or the patched file would not parse any more, the patch of that file is not kept.
"""

from __future__ import annotations

import re

from provenance.redaction.documents import redact_lines, still_parses
from provenance.redaction.redact import redact_text

_HUNK = re.compile(r"(@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@)(.*)", re.DOTALL)


def holds_secret(patch: bytes) -> bool:
    """Whether there is anything to redact in a patch, its binary parts left aside."""
    for section in patch.split(b"\ndiff --git "):
        text = section.partition(b"\nGIT binary patch\n")[0].decode("utf-8", "surrogateescape")
        if redact_text(text) != text:
            return True
    return False


def redact_patch(name: str, patch: bytes, before: bytes, after: bytes) -> tuple[bytes, str]:
    """The patch of one text file from ``before`` to ``after``, and why it cannot be kept ("" where it can)."""
    if b"\nGIT binary patch\n" in patch or b"\n@@ " not in patch:
        return patch, ""
    files = [data.decode("utf-8", "surrogateescape") for data in (before, after)]
    lines = [text.split("\n") for text in files]
    redacted = [redact_lines(name, text).split("\n") for text in files]
    if any(len(now) != len(then) for now, then in zip(redacted, lines, strict=True)):
        return b"", "it holds what looks like a secret, and its lines would not stay lines without it"
    found, applied = [], list(lines[1])
    old = new = 0
    inside = False
    for line in patch.decode("utf-8", "surrogateescape").split("\n"):
        hunk = _HUNK.fullmatch(line)
        if hunk:
            inside = True
            old, new = int(hunk.group(2)) - 1, int(hunk.group(3)) - 1
            line = hunk.group(1) + redact_text(hunk.group(4))
        elif inside and line[:1] in ("+", "-", " "):
            removed, added = line[0] != "+", line[0] != "-"
            if removed and redacted[0][old] != lines[0][old]:
                return b"", "a line that the commit has, and the patch has to repeat, holds what looks like a secret"
            if line[0] == "+":
                applied[new] = redacted[1][new]
                line = "+" + applied[new]
            old, new = old + removed, new + added
        found.append(line)
    if not still_parses(name, files[1], "\n".join(applied)):
        return b"", "it holds what looks like a secret, and would not parse without it"
    return "\n".join(found).encode("utf-8", "surrogateescape"), ""
