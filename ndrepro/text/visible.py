"""Text of strangers made harmless to show: no character commands a terminal or turns the direction of what follows."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL, C1; marks that turn the direction of what follows
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """``text`` with every character that commands a terminal or a page's direction written as its escape."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
