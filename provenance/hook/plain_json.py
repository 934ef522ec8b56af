"""JSON of dictionaries, lists, texts, numbers and None, in ASCII, without importing ``json``.

Importing it here would decide which ``json`` the program gets, which may have a file of that name.
"""

from __future__ import annotations

_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def encode(value: object) -> str:
    """The JSON text of ``value``; floats that are not finite, and whatever has no JSON, as the text of their repr."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float) and value - value == 0:
        return float.__repr__(value)
    if isinstance(value, dict):
        return "{" + ",".join(quoted(str(key)) + ":" + encode(item) for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(encode, value)) + "]"
    return quoted(repr(value))


def quoted(text: str) -> str:
    """``text`` as a JSON string; an undecodable byte stays the surrogate that Python made of it."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return '"' + text + '"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if " " <= letter <= "~":
        return _SHORT.get(letter, letter)
    if letter in _SHORT:
        return _SHORT[letter]
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
