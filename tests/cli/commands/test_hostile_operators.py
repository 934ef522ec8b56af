"""``operators compare`` with a folder that somebody sent: what is wrong is named, and nothing compared is not equal."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_runs import Answer

from ndrepro.protocol.operators.outputs import ARRAYS, INDEX, OUTPUTS_SCHEMA

Command = Callable[..., Answer]
ONES = np.ones(3, np.float32)


def listed(**changes: Any) -> dict[str, Any]:
    names = {"operation": "conv", "shape": "1", "dtype": "float32", "output": "output", "array": "a", "reason": ""}
    return {**names, **changes}


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(entries: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., str]:
    """Writes a folder of outputs: one output and its array, unless others are named."""

    def write(name: str, *outputs: dict[str, Any], arrays: bytes | None = None, **top: Any) -> str:
        path = tmp_path / name
        path.mkdir()
        found = {"schema": OUTPUTS_SCHEMA, "torch": "2", "numpy": "1", "capability": "", "outputs": outputs, **top}
        (path / INDEX).write_text(json.dumps(found))
        (path / ARRAYS).write_bytes(npz(a=ONES) if arrays is None else arrays)
        return str(path)

    return write


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
NO_FILE = {
    "bad zip": (b"PK\x03\x04junk", "no arrays that can be read"),
    "cut zip": (npz(a=ONES)[:100], "no arrays that can be read"),
    "empty": (b"", "no arrays that can be read"),
    "text": (b"text", "no arrays that can be read"),
    "bad array": (b"\x93NUMPY\x01\x00junk", "no arrays that can be read"),
    "one array": (npy(HEADER % "(3,)", bytes(12)), "one array, expected a file of numpy.savez"),
}
NO_ARRAY = {
    "pickled": (npz(a=np.array([1, "x", None], dtype=object)), "cannot be read (Object arrays cannot be loaded"),
    "not there": (npz(b=ONES), "not there"),
    "no arrays": (zipped({}), "not there"),
    "no array": (zipped({"a.npy": b"text"}), "no array"),
    "cut array": (zipped({"a.npy": npy(HEADER % "(3,)", bytes(11))}), "cannot be read"),
    "damaged": (zipped({"a.npy": bytes(99)}).replace(b"c`", b"\xff\xff", 1), "cannot be read"),
    "huge shape": (zipped({"a.npy": npy(HEADER % "(1 << 60,)", bytes(12))}), "cannot be read"),
    "large shape": (zipped({"a.npy": npy(HEADER % str((2**60,)), bytes(12))}), "cannot be read"),
    "negative shape": (zipped({"a.npy": npy(HEADER % "(-3,)", bytes(12))}), "cannot be read"),
    "deep shape": (zipped({"a.npy": npy(HEADER % ("(" * 4000 + ")" * 4000))}), "cannot be read"),
    "strings": (npz(a=np.array(["x", "y"])), "<U1, expected float32"),
    "complex": (npz(a=np.ones(3, np.complex128)), "complex128, expected float32"),
    "structured": (npz(a=np.zeros(3, [("x", "f4")])), "[('x', '<f4')], expected float32"),
    "bool": (npz(a=np.ones(3, bool)), "bool, expected float32"),
    "datetime": (npz(a=np.array([1, 2, 3], "M8[s]")), "datetime64[s], expected float32"),
    "whole numbers": (npz(a=np.ones(3, np.int64)), "int64, expected float32"),
    "float64": (npz(a=np.ones(3)), "float64, expected float32"),
    "float16": (npz(a=np.ones(3, np.float16)), "float16, expected float32"),
    "other byte order": (npz(a=ONES.astype(">f4")), ">f4, expected float32"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [*NO_FILE, *NO_ARRAY])
def test_arrays_that_are_none_are_named_with_their_file(
    ndrepro: Command, folder: Callable[..., str], kind: str, first: bool
) -> None:
    arrays, reason = {**NO_FILE, **NO_ARRAY}[kind]
    good, bad = folder("good", listed()), folder("bad", listed(), arrays=arrays)
    answer = ndrepro("operators", "compare", *((bad, good) if first else (good, bad)))
    what, how = answer.err.splitlines()
    where = f"{Path(bad) / ARRAYS}: " + ("array 'a' (conv, output): " if kind in NO_ARRAY else "")
    assert answer.code == 3 and f"{where}{reason}" in what and "measure again" in how and answer.out == ""


@pytest.mark.parametrize(
    ("dtype", "array", "reason"),
    [
        ("bfloat16", ONES, "float32, expected int16 for bfloat16"),
        ("bfloat16", ONES.astype(np.uint16), "uint16, expected int16 for bfloat16"),
        ("float64", ONES, "float32, expected float64"),
        ("float8", ONES, "dtype 'float8', expected one of float32, float64, bfloat16"),
        ("str", np.array(["x"]), "dtype 'str', expected one of"),
    ],
)
def test_what_is_wrong_in_both_folders_is_no_equal_output(
    ndrepro: Command, folder: Callable[..., str], dtype: str, array: np.ndarray, reason: str
) -> None:
    both = [folder(name, listed(dtype=dtype), arrays=npz(a=array)) for name in ("one", "two")]
    answer = ndrepro("operators", "compare", *both)
    assert answer.code == 3 and f"{both[0]}/{ARRAYS}: array 'a' (conv, output): {reason}" in answer.err


def test_an_array_that_unpacks_to_far_more_than_any_is_not_unpacked(
    ndrepro: Command, folder: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndrepro.analysis.comparison.stored_arrays._MOST_BYTES", 1 << 16)
    bomb = folder("bomb", listed(), arrays=zipped({"a.npy": npy(HEADER % f"({1 << 20},)", bytes(1 << 22))}))
    answer = ndrepro("operators", "compare", bomb, folder("good", listed()))
    assert answer.code == 3 and "expected at most 65,536" in answer.err and f"{bomb}/{ARRAYS}: array 'a'" in answer.err


@pytest.mark.parametrize(
    ("outputs", "top", "reason"),
    [
        ([listed(), listed()], {}, "an output that is listed twice"),
        ([listed(x=1)], {}, "x"),
        ([listed(array=1)], {}, "array"),
        ([], {"outputs": {}}, "outputs"),
        ([], {"schema": "v0"}, "schema 'v0'"),
    ],
)
def test_an_index_that_is_none_is_named(
    ndrepro: Command, folder: Callable[..., str], outputs: list[Any], top: dict[str, Any], reason: str
) -> None:
    bad = folder("bad", *outputs, **top)
    answer = ndrepro("operators", "compare", folder("good", listed()), bad)
    assert answer.code == 3 and f"{bad}/{INDEX}" in answer.err and reason in answer.err and answer.out == ""


@pytest.mark.parametrize(
    "other",
    [[], [listed(operation="other")], [listed(array=None, reason="not implemented")]],
)
def test_where_no_output_was_compared_the_answer_is_not_yes(
    ndrepro: Command, folder: Callable[..., str], other: list[Any]
) -> None:
    pair = folder("good", listed()), folder("other", *other)
    for both in (pair, pair[::-1]):
        answer = ndrepro("operators", "compare", *both)
        assert answer.code == 1 and "nothing was compared" in answer.out and "differ" not in answer.out.splitlines()[-1]
        assert ndrepro("operators", "compare", *both, "--json").code == 1


def test_two_folders_without_outputs_are_an_error(ndrepro: Command, folder: Callable[..., str]) -> None:
    both = folder("one"), folder("two")
    answer = ndrepro("operators", "compare", *both)
    assert answer.code == 3 and f"{both[0]}, {both[1]}: no outputs" in answer.err and "hint:" in answer.err


@pytest.mark.parametrize("array", [np.float32(1), np.ones(4, np.float32), np.ones((3, 1), np.float32)])
def test_an_output_of_another_shape_differs(ndrepro: Command, folder: Callable[..., str], array: np.ndarray) -> None:
    pair = folder("good", listed()), folder("other", listed(), arrays=npz(a=array))
    for both in (pair, pair[::-1]):
        answer = ndrepro("operators", "compare", *both)
        assert answer.code == 1 and "1 of 1 output differ" in answer.out and "none: other shapes" in answer.out
        (row,) = ndrepro("operators", "compare", *both, "--json").json["operations"]
        assert (row["outputs"], row["differing"], row["absent"]) == (1, 1, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, np.finfo(np.float64).max])
def test_numbers_that_are_none_or_the_largest_give_a_row_of_numbers(
    ndrepro: Command, folder: Callable[..., str], value: float
) -> None:
    pair = [
        folder(name, listed(dtype="float64"), arrays=npz(a=np.array([1.0, number])))
        for name, number in (("one", value), ("two", -value))
    ]
    answer = ndrepro("operators", "compare", *pair, "--json")
    (row,) = answer.json["operations"]
    assert answer.code == 1 and isinstance(row["relative"], float)
    assert ndrepro("operators", "compare", pair[0], pair[0]).code == 0


def test_single_numbers_are_compared(ndrepro: Command, folder: Callable[..., str]) -> None:
    pair = [
        folder(name, listed(), arrays=npz(a=np.float32(value))) for name, value in (("one", 1), ("two", 1 + 2**-23))
    ]
    assert ndrepro("operators", "compare", pair[0], pair[0]).code == 0
    (row,) = ndrepro("operators", "compare", *pair, "--json").json["operations"]
    assert (row["differing"], row["ulps"]) == (1, 1)
