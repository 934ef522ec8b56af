"""What a setting is: type, default, meaning, unit and allowed values, as the dataclass that declares it says.

A field of ``Experiment`` or of one of its sections is declared once, ``Annotated[type, Meaning(...)] = default``. From
that declaration ``settings_of`` makes what reads a value (``Setting.parse``), refuses it (``Setting.check``) and
explains it (``ndrepro settings``).
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from ndrepro.protocol.errors import UsageError, suggestion

# the largest whole number that is signed as a number (``provenance.formats.canonical_json``)
LARGEST_INTEGER = 2**53
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "none"}


@dataclass(frozen=True)
class Meaning:
    """What a declaration says of a setting beside its type and default.

    ``least`` and ``most`` are both allowed; ``choices`` are all allowed words; ``form`` says in words what a text must
    look like that is checked elsewhere; ``aliases`` are names that other programs have for it, offered as a hint.
    """

    meaning: str
    unit: str = ""
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    form: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted key, its types, its default (None where a name gives it), what is said of it."""

    key: str
    kinds: tuple[type, ...]
    default: Any
    about: Meaning

    @property
    def type_name(self) -> str:
        """The types of its values in words, e.g. "a whole number or none"."""
        return " or ".join(_KINDS[kind] for kind in self.kinds)

    @property
    def allowed(self) -> str:
        """The values that it may have, in words."""
        about, optional = self.about, " or none" if type(None) in self.kinds else ""
        if about.choices:
            return ", ".join(about.choices) + optional
        if about.form:
            return about.form
        kind = _KINDS[self.kinds[0]]
        if about.least is None:
            return kind + optional
        return f"{kind} {self._range}{optional}"

    @property
    def _range(self) -> str:
        least, most = self.about.least, self.about.most
        if most is None:
            return f"from {least}"
        return f"from {least} to {'2^53' if most == LARGEST_INTEGER else most}"

    def parse(self, text: str) -> Any:
        """The value that a text stands for. Raises UsageError where it is of another type."""
        if type(None) in self.kinds and text.lower() in ("none", "null"):
            return None
        kind = self.kinds[0]
        try:
            if kind is bool:
                return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
            value = kind(text)
        except (KeyError, ValueError):
            raise UsageError(f"{self.key}={text!r}: expected {self.type_name}", self._cure) from None
        self.check_type(value)
        return value

    def accepts(self, value: Any) -> bool:
        """Whether a value is of its types; a whole number is one of numbers, true and false are none."""
        accepted = (*self.kinds, int) if float in self.kinds else self.kinds
        return isinstance(value, accepted) and (bool in self.kinds or not isinstance(value, bool))

    def check_type(self, value: Any) -> None:
        """Raises UsageError for a value of another type, as JSON may hold one, or one too large to be signed."""
        if not self.accepts(value):
            raise UsageError(f"{self.key}={value!r}: expected {self.type_name}")
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise UsageError(f"{self.key}={value!r}, expected a whole number up to 2^53", self._cure)

    def check(self, value: Any) -> None:
        """Raises UsageError, with what is allowed, for a value that no run could mean."""
        about = self.about
        if value is None:
            return
        if about.choices:
            expect_choice(self.key, value, about.choices)
        if about.least is None:
            return
        if about.most is not None and not about.least <= value <= about.most:
            kind = _KINDS[self.kinds[0]]
            raise UsageError(f"{self.key}={value!r}, expected {kind} {self._range}", self._cure)
        if not (value >= about.least and math.isfinite(value)):
            raise UsageError(f"{self.key}={value!r}, expected a finite number, at least {about.least}", self._cure)

    @property
    def _cure(self) -> str:
        return f"give such a value, or leave {self.key} out for its default"


def expect_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises UsageError, with the nearest right word, for a value that is none of ``choices``."""
    if value not in choices:
        cure = suggestion(str(value), choices, f"it is one of {', '.join(choices)}")
        raise UsageError(f"{key}={value!r} is not known", cure)


def settings_of(kind: type, prefix: str = "") -> dict[str, Setting]:
    """Every setting that a dataclass and its sections declare, by dotted key, in the order of the declarations."""
    found: dict[str, Setting] = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for item in fields(kind):
        hint, key = hints[item.name], f"{prefix}{item.name}"
        if is_dataclass(hint):
            found.update(settings_of(typing.cast(type, hint), f"{key}."))
            continue
        plain, about = typing.get_args(hint)
        found[key] = Setting(
            key, typing.get_args(plain) or (plain,), None if item.default is MISSING else item.default, about
        )
    return found


def unknown_setting(key: str, known: Mapping[str, Setting]) -> UsageError:
    """The error for a key that is no setting: with the setting that other programs call so, or the nearest ones."""
    word = key.lower().replace("-", "_")
    named = [each for each, setting in known.items() if word in setting.about.aliases]
    leaves = [each for each in known if each.rpartition(".")[2] == word]
    cure = suggestion(word, known, "`ndrepro settings` lists and explains them", meant=named or leaves)
    return UsageError(f"unknown setting '{key}'", cure)
