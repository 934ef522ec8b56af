"""Text of strangers made harmless to show: no character commands a terminal or turns the direction of what follows."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL, C1; what has no width, such as marks that turn the direction of what follows
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# letters of Latin-1 that NFKC leaves as they are, and signs that look like no ASCII character
SEEN = "À-ÖØ-öø-ÿ±§°→←↑↓↔≤≥≠≈∞√"
_NOT_SEEN, _BLANKS = re.compile(f"[^ -~{SEEN}]"), re.compile(" {3,}")


def visible(text: str) -> str:
    """``text`` with every character that commands a terminal or a page, or that nobody sees, written as its escape."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def spelled(text: str) -> str:
    """One line of ``text`` in which nothing looks like something else: characters that may look like others, or like
    none, as their escapes, and of many blanks how many they are.
    """
    plain = _NOT_SEEN.sub(lambda found: ascii(found[0])[1:-1], text)
    return _BLANKS.sub(lambda found: f" [{len(found[0])} blanks] ", plain)
