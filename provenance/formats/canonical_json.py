"""One value, one sequence of bytes: canonical JSON after RFC 8785 (JCS).

What is signed or hashed is bytes, so two writers of one value must write the same ones. Objects are sorted by their
keys' UTF-16 code units, strings carry the fewest escapes, numbers are written as ECMAScript's Number::toString does,
nothing is padded, and the result is UTF-8.

Law: ``parse(canonical_bytes(x)) == x`` (tuples come back as lists), hence canonical_bytes(parse(b)) == b for every b
that canonical_bytes wrote.

What has no such form is refused with its JSON path: NaN and the infinities, sets and other objects,
keys that are not strings, lone surrogates, and integers beyond 2^53, which a reader that holds numbers as doubles
would change without a word: write those as strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NoReturn

from provenance.errors import CanonicalError

LARGEST_INTEGER = 2**53

# RFC 8785 3.2.2.2 asks for exactly the escapes that this encoder makes when it may leave non-ASCII as it is
_quote = json.JSONEncoder(ensure_ascii=False).encode


def canonical_bytes(value: Any) -> bytes:
    """The canonical JSON of ``value``, UTF-8. Raises CanonicalError naming the path of what cannot be written."""
    pieces: list[str] = []
    try:
        _write(value, "$", pieces)
    except RecursionError:
        raise CanonicalError("$: nested too deeply, or a value that holds itself", "flatten it") from None
    return "".join(pieces).encode("utf-8")


def parse(data: bytes) -> Any:
    """The value of JSON bytes, strictly: UTF-8, no key twice, no NaN, no number beyond a double.

    A number written without point or exponent is an ``int`` up to 2^53 and a ``float`` beyond, as its writer held it.
    Raises CanonicalError saying what is wrong and where.
    """
    try:
        return _decoder().decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CanonicalError(f"not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise CanonicalError(f"not JSON: {error}") from None
    except RecursionError:
        raise CanonicalError("not JSON that can be read: nested too deeply") from None


def _write(value: Any, path: str, pieces: list[str]) -> None:
    # bool before int: True is an int
    if value is None or isinstance(value, bool):
        pieces.append("null" if value is None else "true" if value else "false")
    elif isinstance(value, str):
        pieces.append(_string(value, path))
    elif isinstance(value, int):
        pieces.append(_whole(value, path))
    elif isinstance(value, float):
        pieces.append(_number(value, path))
    elif isinstance(value, Mapping):
        _write_object(value, path, pieces)
    elif isinstance(value, (list, tuple)):
        _write_array(value, path, pieces)
    else:
        _refuse(path, f"a {type(value).__name__} has no JSON form", "make it a dict, list, str, number, bool or None")


def _write_object(value: Mapping[Any, Any], path: str, pieces: list[str]) -> None:
    for key in value:
        if not isinstance(key, str):
            _refuse(path, f"the key {key!r} is a {type(key).__name__}, expected str", "make it a string")
    # encoded first: a lone surrogate in a key cannot be sorted
    quoted = {key: _string(key, f"{path}, key") for key in value}
    separator = "{"
    for key in sorted(value, key=lambda key: key.encode("utf-16-be")):
        pieces += (separator, quoted[key], ":")
        _write(value[key], f"{path}.{key}", pieces)
        separator = ","
    pieces.append("}" if value else "{}")


def _write_array(value: Iterable[Any], path: str, pieces: list[str]) -> None:
    separator = "["
    for index, item in enumerate(value):
        pieces.append(separator)
        _write(item, f"{path}[{index}]", pieces)
        separator = ","
    pieces.append("]" if separator == "," else "[]")


def _string(value: str, path: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        _refuse(path, f"{value!r} holds a lone surrogate", "decode it as UTF-8, or escape its bytes")
    return _quote(value)


def _whole(value: int, path: str) -> str:
    if abs(value) > LARGEST_INTEGER:
        _refuse(path, f"{value} is beyond 2^53 and would lose bits in a reader with doubles", "write it as a string")
    return int.__repr__(value)


def _number(value: float, path: str) -> str:
    """ECMA-262 Number::toString of a double; Python's repr has the same shortest digits in another layout."""
    if value != value or value in (float("inf"), float("-inf")):
        _refuse(path, f"{value} has no JSON form", 'write it as a string, for instance "nan"')
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # the value is 0.d1d2... times 10^point
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        tail = digits[point:]
        return sign + digits[:point].ljust(point, "0") + ("." + tail if tail else "")
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _refuse(path: str, what: str, cure: str) -> NoReturn:
    raise CanonicalError(f"{path}: {what}", cure)


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members, for ``object_pairs_hook``. Raises CanonicalError for a key that stands twice.

    Readers differ in which of the two they take, so that what is signed would say two things.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise CanonicalError(f"JSON in which the key {key!r} stands twice in one object")
            seen.add(key)
    return members


@cache
def _decoder() -> json.JSONDecoder:
    # made once: a line of a ledger takes hardly longer to read than its decoder to make
    return json.JSONDecoder(
        object_pairs_hook=unique_members, parse_int=_integer, parse_float=_finite, parse_constant=_constant
    )


def _integer(text: str) -> int | float:
    # 2^53 has 16 digits; a longer one is never turned into an int, whose making is quadratic in the length
    if len(text) <= 17:
        value = int(text)
        if abs(value) <= LARGEST_INTEGER:
            return value
    return _finite(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise CanonicalError(f"JSON with a number beyond a double: {text[:40]}")
    return value


def _constant(text: str) -> NoReturn:
    raise CanonicalError(f"not JSON: {text}")
