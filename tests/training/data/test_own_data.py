"""A data set of one's own is read as it is laid out, described by what it holds, and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.own_data.npz_arrays import ARRAYS
from ndrepro.training.data.own_data.own_images import images_of, load

DRAW = np.random.RandomState(0)
GREY = DRAW.randint(0, 256, (9, 8, 8), dtype=np.uint8)
LABELS = np.arange(9) % 3


def stored(path: Path, names: tuple[str, ...] = ARRAYS[0], **changed: Any) -> Path:
    arrays = dict(zip(names, (GREY, LABELS, GREY[:3], LABELS[:3]), strict=True))
    np.savez(path, **{**arrays, **changed})
    return path


@pytest.mark.parametrize("names", ARRAYS)
def test_arrays_are_read_under_their_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    data = load(stored(tmp_path / "data.npz", names))
    assert (data.train.images[:, 0] == GREY).all() and data.train.labels.tolist() == LABELS.tolist()
    assert (data.classes, data.canonical, [item.name for item in data.files]) == (("0", "1", "2"), None, ["data.npz"])


def test_every_layout_gives_the_same_pixels(tmp_path: Path) -> None:
    colour = DRAW.randint(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    last = load(stored(tmp_path / "a.npz", x_train=colour, x_test=colour[:3], y_train=LABELS[:, None]))
    moved = colour.transpose(0, 3, 1, 2)
    first = load(stored(tmp_path / "b.npz", x_train=moved, x_test=moved[:3]))
    assert (last.train.images == first.train.images).all() and last.describe()["pixels_sha256"] == (
        first.describe()["pixels_sha256"]
    )
    found = images_of(last)
    assert (found.classes, found.channels, found.size, found.train_images, found.test_images) == (3, 3, 8, 9, 3)
    assert [float(each) for each in str(found.mean).split(",")] == pytest.approx(
        (colour / 255).mean((0, 1, 2)).tolist(), abs=1e-4
    )
    assert [float(each) for each in str(found.std).split(",")] == pytest.approx(
        (colour / 255).std((0, 1, 2)).tolist(), abs=1e-4
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x_train": GREY / 255}, "x_train is float64, expected uint8"),
        ({"x_train": GREY[:, :6]}, r"x_train has shape \(9, 6, 8\)"),
        ({"y_train": LABELS - 1}, "y_train is int64"),
        ({"y_train": LABELS[:5]}, "y_train is int64 of shape"),
        ({"y_train": LABELS * 0.5}, "y_train is float64"),
        ({"y_train": LABELS * 2}, "no training image of class 1"),
        ({"y_train": LABELS * 10**9}, "a label 2000000000"),
        ({"x_test": GREY[:3, :4, :4]}, "test images 1x4x4"),
        ({"y_train": np.array([{}] * 9, dtype=object)}, "arrays that cannot be read"),
    ],
)
def test_arrays_that_are_no_images_are_named(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load(stored(tmp_path / "data.npz", **changed))


def test_a_file_of_other_arrays_or_of_anything_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=GREY)
    with pytest.raises(DataError, match="arrays a"):
        load(tmp_path / "other.npz")
    (tmp_path / "text").write_text("no data")
    with pytest.raises(DataError, match="neither a folder"):
        load(tmp_path / "text")
    cut = stored(tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(cut[:200] + b"x" * 50 + cut[250:])
    with pytest.raises(DataError, match=r"cut\.npz"):
        load(tmp_path / "cut.npz")


def pictures(root: Path, mode: str, size: tuple[int, int] = (8, 8)) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        path = root / split / name / "1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (len(name), 50, 100)).convert(mode).save(path)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_folder_is_grey_where_every_image_is(mode: str, channels: int, tmp_path: Path) -> None:
    pictures(tmp_path, mode)
    data = load(tmp_path)
    assert data.classes == ("a", "b") and images_of(data).channels == channels
    assert float(str(images_of(data).std).split(",")[0]) == 0.01, "of images of one colour"
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "a" / "2.png")
    assert images_of(load(tmp_path)).channels == 3


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "L")
    Image.new("L", (9, 8)).save(tmp_path / "train" / "a" / "2.png")
    with pytest.raises(DataError, match="8x8, 9x8, expected square ones of one size"):
        load(tmp_path)


def test_a_file_that_unpacks_to_more_than_images_would_is_refused_by_its_directory(tmp_path: Path) -> None:
    """Its wanted members together say 800 MB, and are not unpacked; one that is not wanted may say anything."""
    path = stored(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the last entry of the directory: its size when unpacked
    content[at + 24 : at + 28] = (800_000_000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match="bytes when unpacked, expected at most"):
        load(path)
