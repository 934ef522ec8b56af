"""JSON as an attacker would write it: a real document with a few values, names or whole branches replaced.

Mutations are drawn by Hypothesis, so that a failing one shrinks to the smallest that fails. In the suite they are the
same each time; ``make fuzz`` draws others, as many as FUZZ_EXAMPLES says.
"""

from __future__ import annotations

import copy
import math
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = int(os.environ.get("FUZZ_EXAMPLES", "0"))

DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, -(2**53), 10**25, 10**400, 0.5, -0.0, 1e-320, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, "", " ", "0", "-1", "nan", "inf", "1e999", "\0", "\ud800", "\x1b[2J", "é" * 300),
    *("a" * 70_000, "..", "/etc/passwd", "../../x", "{0}", "%s", "[red]x[/nope]", "<script>", "9" * 5000, "true", "x"),
    *([], {}, [None], [[]], {"": {}}, {"a": []}, [{}], {"unavailable": "x"}, {"none": "x"}, {"unavailable": []}),
    *([1, "a", None, {}], {"sha256": None}, {"path": None}, [float("nan")], {"name": 1}, DEEP),
)


def fuzzing(examples: int) -> settings:
    """So many examples in the suite, always the same; FUZZ_EXAMPLES others where it is set."""
    checks = list(HealthCheck)
    if LONG:
        return settings(max_examples=LONG, deadline=None, suppress_health_check=checks)
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=checks)


@st.composite
def mutated(draw: st.DrawFn, document: Any, values: tuple[Any, ...] = HOSTILE) -> Any:
    """The document with one to three of its values replaced, removed, renamed or added."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(found, (dict, list)) or not found:
            return draw(st.sampled_from(values))
        holder, key = _place(draw, found)
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "rename", "add")))
        value = copy.deepcopy(draw(st.sampled_from(values)))
        if how == "replace" or isinstance(holder, list):
            holder[key] = value
        elif how == "remove":
            del holder[key]
        elif how == "rename":
            holder[draw(st.sampled_from(("", "x", "\ud800", "a" * 300)))] = holder.pop(key)
        else:
            holder[draw(st.sampled_from(("", "x", "unavailable", "none", "sha256")))] = value
    return found


def _place(draw: st.DrawFn, node: Any) -> tuple[Any, Any]:
    """A member or item, with what holds it: every branch of the document is as likely, however much is below it."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[draw(st.integers(0, len(keys) - 1))]
        below = node[key]
        if not isinstance(below, (dict, list)) or not below or draw(st.integers(0, 4)) == 0:
            return node, key
        node = below


def small_places(document: Any, most: int = 3) -> Any:
    """The document with long lists of objects cut short, so that mutations spread over what is different."""
    if isinstance(document, dict):
        return {key: small_places(value, most) for key, value in document.items()}
    if isinstance(document, list):
        return [small_places(item, most) for item in document[:most]]
    return document


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with some flipped, removed, repeated or cut off."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, max(0, len(found) - 1))), draw(st.integers(1, 16))
        how = draw(st.sampled_from(("set", "cut", "remove", "repeat", "insert")))
        piece = draw(st.sampled_from((b"\0", b"\xff" * 8, b"-", b"9", b'"', b"nan", b"[" * 40, b"{", b"\xed\xa0\x80")))
        if how == "set":
            found[at : at + len(piece)] = piece
        elif how == "cut":
            del found[at:]
        elif how == "remove":
            del found[at : at + length]
        elif how == "repeat":
            found[at:at] = found[at : at + length] * 3
        else:
            found[at:at] = piece
    return bytes(found)
