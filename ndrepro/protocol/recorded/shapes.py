"""Shapes of recorded JSON: a shape is a function that takes a ``Field`` and raises its error where the value differs.

Documents of fixed members are ``record``s, so that nothing can be signed beside what a recorder writes: a member that
no release of this project wrote is refused like a value of another type. Members of later releases are optional, and
those of earlier ones stay known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from provenance.capture.unavailable import MOST_COUNT, is_missing
from provenance.formats.strict_json import Field

Shape = Callable[[Field], None]
# a configuration of torch's build is some kilobytes; on Linux a variable or a word of a command may have 128 KiB, each
# byte of which is spelled out in four characters where it is no text
LONGEST_TEXT = 1 << 20


def text(field: Field) -> None:
    """A string, which may be empty."""
    if len(field.string()) > LONGEST_TEXT:
        field.refuse(f"at most {LONGEST_TEXT} characters")


def version(field: Field) -> None:
    """The version of a program."""
    if re.fullmatch(r"[0-9][0-9A-Za-z.+!_-]{0,40}", field.string()) is None:
        field.refuse("a version")


def run_id(field: Field) -> None:
    """The name of a run: when it began, and some digits."""
    if re.fullmatch("[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6,8}", field.string()) is None:
        field.refuse("a run's name")


def git_name(field: Field) -> None:
    """The full name of an object of git's."""
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", field.string()) is None:
        field.refuse("40 or 64 hexadecimal digits")


def truth(field: Field) -> None:
    """True or false."""
    if not isinstance(field.value, bool):
        field.refuse("true or false")


def sha256(field: Field) -> None:
    """A SHA-256 in lower-case hexadecimal."""
    field.sha256()


def anything(field: Field) -> None:
    """Whatever another program wrote."""


def whole(least: int = 0) -> Shape:
    """A whole number from ``least`` to what 64 bits hold."""

    def shape(field: Field) -> None:
        if field.integer(least) > MOST_COUNT:
            field.refuse(f"at most {MOST_COUNT}")

    return shape


def number(least: float = 0.0, most: float = math.inf, unit: str = "") -> Shape:
    """A finite number from ``least`` to ``most``."""

    def shape(field: Field) -> None:
        value = field.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            field.refuse("a finite number")
        if not least <= value <= most:
            field.refuse(f"from {least:g} to {most:g} {unit}".rstrip())

    return shape


def one_of(*shapes: Shape) -> Shape:
    """What fits one of several shapes; the error is the last one's."""

    def shape(field: Field) -> None:
        for each in shapes[:-1]:
            try:
                return each(field)
            except field.error:
                continue
        shapes[-1](field)

    return shape


def nothing(field: Field) -> None:
    """Null."""
    if field.value is not None:
        field.refuse("null")


def missing(field: Field) -> None:
    """The marker of what is absent or unavailable, with the reason."""
    if not is_missing(field.value):
        field.refuse("none or unavailable, with the reason")
    text(Field(next(iter(field.value.values())), field.path, field.error))


def captured(shape: Shape) -> Shape:
    """A probe's answer: a value of that shape, or the marker of what is missing."""

    def either(field: Field) -> None:
        (missing if is_missing(field.value) else shape)(field)

    return either


def record(required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    """An object of these members and no other."""
    members = {**required, **(optional or {})}

    def shape(field: Field) -> None:
        for name, member in field.members(required, members).items():
            members[name](member)

    return shape


def table(of: Shape, names: Shape = text) -> Shape:
    """An object of any names, each with a value of one shape."""

    def shape(field: Field) -> None:
        for name, value in field.mapping().items():
            names(Field(name, f"{field.path}: a name", field.error))
            of(Field(value, f"{field.path}.{name}", field.error))

    return shape


def among(*names: str) -> Shape:
    """One of these texts."""

    def shape(field: Field) -> None:
        field.one_of(names)

    return shape


def each(names: str, shape: Shape) -> dict[str, Shape]:
    """Members of one shape; ``names`` has a space between each two."""
    return dict.fromkeys(names.split(), shape)


def array(of: Shape) -> Shape:
    """An array whose items have one shape."""

    def shape(field: Field) -> None:
        for item in field.items():
            of(item)

    return shape


COUNT = whole()
TEXTS = array(text)
SECONDS = number(0, 3.2e9, "seconds")  # a century
