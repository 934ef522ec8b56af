"""MATLAB files are read by scipy; one that is cut short, damaged or of another kind is refused by name."""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

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


def test_numbers_keep_their_shape_and_type() -> None:
    array = np.arange(120, dtype=np.uint8).reshape(3, 4, 2, 5)
    found = read_mat(PATH, mat({"X": array, "y": array[0, :1, 0]}))
    assert found["X"].dtype == np.uint8 and (found["X"] == array).all()
    assert found["y"].shape == (1, 5)


def test_structures_are_dictionaries_and_text_is_text() -> None:
    rows = read_mat(PATH, mat({"synsets": SYNSETS[:, None]}), simplified=True)["synsets"]
    assert [row["WNID"] for row in rows] == ["n00", "n01", "n02", "n03"]
    assert [row["ILSVRC2012_ID"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("compressed", [True, False])
def test_cut_anywhere_it_is_refused_by_name(compressed: bool) -> None:
    content = mat({"X": np.arange(24, dtype=np.uint8).reshape(2, 3, 4)}, compressed=compressed)
    assert read_mat(PATH, content)["X"].shape == (2, 3, 4), "the control"
    for end in range(130, len(content) - 8, 3):
        with pytest.raises(DataError, match=r"^x\.mat: cannot be read as a MATLAB file"):
            read_mat(PATH, content[:end])


@pytest.mark.parametrize("content", [b"", b"no", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)])
def test_a_file_of_another_kind_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^x\.mat: cannot be read as a MATLAB file"):
        read_mat(PATH, content)
