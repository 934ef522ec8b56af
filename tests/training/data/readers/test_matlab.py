"""MATLAB files are read as scipy reads them; one that is cut short, damaged or of another kind is refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers.matlab import read_mat

PATH = Path("x.mat")
SYNSETS = np.array(
    [(np.uint16(index + 1), f"n0{index}", f"word{index}, other", np.arange(index)) for index in range(4)],
    dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("children", "O")],
)


def mat(variables: dict[str, object], *, compressed: bool = True) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_come_as_scipy_reads_them(dtype: str, compressed: bool) -> None:
    array = (np.random.RandomState(0).rand(3, 4, 2, 5) * 100).astype(dtype)
    content = mat({"X": array, "y": array[0, 0]}, compressed=compressed)
    found, theirs = read_mat(PATH, content), loadmat(io.BytesIO(content))
    for name in ("X", "y"):
        assert found[name].dtype == theirs[name].dtype
        assert (found[name] == theirs[name]).all() and found[name].shape == theirs[name].shape


@pytest.mark.parametrize("compressed", [True, False])
def test_structures_text_and_cells(compressed: bool) -> None:
    cells = np.array([["a", np.arange(3.0)], ["längere", "d"]], dtype=object)
    found = read_mat(
        PATH, mat({"synsets": SYNSETS, "cells": cells, "rows": ["ab", "cd"], "none": ""}, compressed=compressed)
    )
    assert [row["WNID"] for row in found["synsets"]] == ["n00", "n01", "n02", "n03"]
    assert [int(row["ILSVRC2012_ID"].item()) for row in found["synsets"]] == [1, 2, 3, 4]
    assert found["synsets"][3]["children"].tolist() == [[0, 1, 2]]
    assert [found["cells"][0], found["cells"][1], found["cells"][3]] == ["a", "längere", "d"]
    assert found["rows"] == ["ab", "cd"] and found["none"] == ""


def test_numbers_stored_in_a_smaller_type_get_their_class() -> None:
    content = bytearray(mat({"y": np.array([[1.0, 2.0, 10.0]])}, compressed=False))
    place = content.rindex(np.array([1.0, 2.0, 10.0]).tobytes()) - 8
    # what MATLAB itself writes: doubles that are small whole numbers as bytes
    content[place:] = np.array([2, 3], "<u4").tobytes() + bytes([1, 2, 10]) + bytes(5)
    content[132:136] = np.array([len(content) - 136], "<u4").tobytes()
    found = read_mat(PATH, bytes(content))["y"]
    assert found.dtype == np.float64 and found.tolist() == [[1.0, 2.0, 10.0]]
    assert loadmat(io.BytesIO(bytes(content)))["y"].tolist() == [[1.0, 2.0, 10.0]]


def test_the_other_byte_order() -> None:
    # one 1x2 matrix of uint16 named y, written by hand
    flags, shape = np.array([6, 8, 11, 0], ">u4").tobytes(), np.array([5, 8, 1, 2], ">u4").tobytes()
    name, data = np.array([(1 << 16) | 1], ">u4").tobytes() + b"y\0\0\0", np.array([(4 << 16) | 4], ">u4").tobytes()
    body = flags + shape + name + data + np.array([258, 7], ">u2").tobytes()
    content = bytes(124) + b"\x01\x00MI" + np.array([14, len(body)], ">u4").tobytes() + body
    assert read_mat(PATH, content)["y"].tolist() == [[258, 7]]


@pytest.mark.parametrize("compressed", [True, False])
def test_cut_anywhere_or_spoilt_it_is_refused_or_read_and_nothing_else(compressed: bool) -> None:
    content = mat({"X": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "synsets": SYNSETS}, compressed=compressed)
    whole = read_mat(PATH, content)
    refused = 0
    generator = np.random.RandomState(0)
    for place in range(0, len(content), 7):
        spoilt = bytearray(content)
        spoilt[place] ^= int(generator.randint(1, 256))
        for attempt in (content[:place], bytes(spoilt)):
            try:
                read_mat(PATH, attempt)
            except DataError as error:
                refused += 1
                assert str(error).startswith("x.mat: cannot be read as a MATLAB file")
    assert refused > len(content) / 14
    assert len(whole["synsets"]) == 4, "the control"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([[1 + 2j]]), "'X' is a complex matrix"),
        (__import__("scipy.sparse").sparse.csc_matrix([[1.0]]), "class 5"),
    ],
)
def test_what_is_not_read_is_said(value: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_mat(PATH, mat({"X": value}))


def test_a_file_of_matlab_7_3_is_refused() -> None:
    content = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    with pytest.raises(DataError, match="no MATLAB 5 file"):
        read_mat(PATH, content)
