"""Canonical JSON: RFC 8785's own examples, the laws, and every refusal with its path."""

from __future__ import annotations

import enum
import json
import math
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.errors import CanonicalError
from provenance.formats.canonical_json import canonical_bytes, parse

texts = st.text(st.characters(exclude_categories=("Cs",)))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)

# RFC 8785, appendix B: IEEE 754 bits and the text that ECMAScript gives for them
RFC_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@given(values)
def test_parsing_gives_the_value_back_and_writing_it_again_the_bytes(value: object) -> None:
    data = canonical_bytes(value)
    assert parse(data) == value
    assert canonical_bytes(parse(data)) == data


@pytest.mark.parametrize(("bits", "text"), RFC_NUMBERS.items())
def test_the_numbers_of_the_rfc(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_bytes(value).decode() == text


@pytest.mark.parametrize(
    "text", ["1.5e+300", "-2.5e-7", "1.2e+21", "1e-7", "0.0000015", "150000000000000000000", "4.5"]
)
def test_few_digits_are_all_written(text: str) -> None:
    assert canonical_bytes(float(text)).decode() == text


def test_the_example_of_the_rfc() -> None:
    """Section 3.2.2 and 3.2.3: escapes, numbers and the order of keys in one object."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(value).decode() == expected


def test_keys_are_sorted_by_utf16_and_not_by_code_point() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    order = list(parse(canonical_bytes(dict.fromkeys(keys, 0))))
    assert order == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert order != sorted(keys)  # the control: code points give another order


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the PATH")
def test_numbers_are_written_as_a_javascript_engine_writes_them() -> None:
    patterns = [(0x9E3779B97F4A7C15 * n) % 2**64 for n in range(1, 3000)]
    doubles = [
        value for (value,) in (struct.unpack("<d", struct.pack("<Q", p)) for p in patterns) if math.isfinite(value)
    ]
    doubles += [n / 1000 for n in range(-50, 50)] + [10.0**n for n in range(-30, 30)]
    script = "const v = JSON.parse(require('fs').readFileSync(0)); process.stdout.write(JSON.stringify(v))"
    run = subprocess.run(["node", "-e", script], input=json.dumps(doubles), capture_output=True, text=True, check=True)
    assert canonical_bytes(doubles).decode() == run.stdout


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        ({"a": [1, math.nan]}, "$.a[1]", "nan"),
        ({"a": {"b": -math.inf}}, "$.a.b", "inf"),
        ({"a": {1, 2}}, "$.a", "set"),
        ({"a": {1: 2}}, "$.a", "the key 1 is a int"),
        ({"a": b"x"}, "$.a", "bytes"),
        (["\ud800"], "$[0]", "lone surrogate"),
        ({"x": {"\udfff": 1}}, "$.x, key", "lone surrogate"),
        ({"a": 2**53 + 1}, "$.a", "beyond 2^53"),
        ({"a": -(2**64)}, "$.a", "beyond 2^53"),
    ],
)
def test_what_has_no_form_is_refused_by_path(value: object, where: str, what: str) -> None:
    with pytest.raises(CanonicalError) as caught:
        canonical_bytes(value)
    assert caught.value.message.startswith(where + ": ")
    assert what in caught.value.message
    assert caught.value.cure


def test_subclasses_are_written_as_what_they_are() -> None:
    class Word(str, enum.Enum):  # noqa: UP042 (the older spelling, whose str() is not its value)
        LEVEL = "seeded"

    class Number(enum.IntEnum):
        ONE = 1

    class Wide(float):
        def __repr__(self) -> str:
            return "Wide(...)"

    assert canonical_bytes({Word.LEVEL: [Word.LEVEL, Number.ONE, Wide(0.5)]}) == b'{"seeded":["seeded",1,0.5]}'


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CanonicalError, match="holds itself"):
        canonical_bytes(loop)


def test_a_float_beyond_2_to_53_stays_the_same_float() -> None:
    value = 1.2345678901234567e20
    assert canonical_bytes(value) == b"123456789012345670000"
    assert parse(canonical_bytes(value)) == value
    assert json.loads(canonical_bytes(value)) != value  # the control: as a Python int it is another number


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_is_an_integer_up_to_2_to_53_and_a_float_beyond(sign: str) -> None:
    for text in ("0", "9007199254740991", "9007199254740992"):
        value = parse(f"{sign}{text}".encode())
        assert type(value) is int and canonical_bytes(value) == canonical_bytes(float(value))
    for text in ("9007199254740993", "9007199254740994", "10000000000000000", "123456789012345678901"):
        value = parse(f"{sign}{text}".encode())
        assert type(value) is float and value == float(f"{sign}{text}")
    largest = int(f"{sign}{2**53}")
    assert canonical_bytes(largest) == f"{sign}9007199254740992".encode()
    with pytest.raises(CanonicalError, match="beyond 2\\^53"):
        canonical_bytes(largest + (-1 if sign else 1))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'{"a":1,"a":2}', "JSON in which the key 'a' stands twice"),
        (b'{"b":1,"a":1,"c":1,"a":2}', "JSON in which the key 'a' stands twice"),
        (b"[NaN]", "not JSON: NaN"),
        (b"1" * 400, "JSON with a number beyond a double: 1{40}$"),
        (b"[1e999]", "JSON with a number beyond a double: 1e999"),
        (b'["\xff"]', "not UTF-8 at byte 2"),
        (b"[1,]", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "too deeply"),
    ],
)
def test_parsing_refuses_what_json_readers_disagree_on(data: bytes, what: str) -> None:
    with pytest.raises(CanonicalError, match=what) as refused:
        parse(data)
    # what is said of it begins a sentence's end: "the envelope is …"
    assert refused.value.message.startswith(("not ", "JSON "))
