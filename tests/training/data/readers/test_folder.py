"""A folder of images is read in a fixed order, hashed as read, and refused by name where something is wrong."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data import DATASETS
from ndrepro.training.data.readers.images import Split

CLASSES = [f"class {number} ü" for number in range(10)]


def picture(path: Path, value: int, size: int = 32, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(value).randint(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            for index in range(2):
                picture(tmp_path / split / name / f"{index}.png", 100 * number + index)
    return tmp_path


def test_images_come_in_order_with_the_digest_of_what_was_read(root: Path) -> None:
    images = DATASETS["cifar10"](root)
    assert images.train.images.shape == (20, 3, 32, 32)
    assert images.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert images.classes == tuple(CLASSES)
    first = np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (images.train.images[0] == first.transpose(2, 0, 1)).all()
    digests = {item.name: item.sha256 for item in images.files}
    assert len(digests) == 40
    for name, digest in digests.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest
    assert images.canonical is False


def test_one_changed_pixel_changes_the_digests(root: Path) -> None:
    before = DATASETS["cifar10"](root).describe()
    assert DATASETS["cifar10"](root).describe() == before
    picture(root / "test" / CLASSES[3] / "1.png", 12345)
    after = DATASETS["cifar10"](root).describe()
    assert after["tree_sha256"] != before["tree_sha256"]
    assert after["pixels_sha256"]["test"] != before["pixels_sha256"]["test"]
    assert after["pixels_sha256"]["train"] == before["pixels_sha256"]["train"]


def test_other_suffixes_and_deeper_folders_are_read_and_what_is_left_out_is_recorded(root: Path) -> None:
    assert DATASETS["cifar10"](root).describe()["left_out"] == {"count": 0, "reasons": {}, "examples": []}
    picture(root / "train" / CLASSES[0] / "2.JPG", 1, mode="L")
    picture(root / "train" / CLASSES[0] / "deeper" / "0.webp", 1)
    (root / "train" / CLASSES[0] / "1.png").rename(root / "train" / CLASSES[0] / "1")
    (root / "test" / CLASSES[0] / "notes.txt").write_text("not an image")
    (root / "test" / CLASSES[0] / "._0.png").write_bytes(b"")
    images = DATASETS["cifar10"](root)
    assert len(images.train.labels) == 22 and len(images.test.labels) == 20
    few = images.first(10, 10).describe()
    assert few["left_out"]["count"] == 2
    assert few["left_out"]["examples"] == [f"test/{CLASSES[0]}/._0.png", f"test/{CLASSES[0]}/notes.txt"]


def test_the_same_pictures_in_8_and_16_bits_are_the_same_pixels(tmp_path: Path) -> None:
    """16 bits used to be clipped: all but the darkest 255 of 65,536 levels were white."""
    grey = np.random.RandomState(3).randint(0, 256, (28, 28))
    for kind, pixels in (("8", grey.astype(np.uint8)), ("16", (grey * 257).astype(np.uint16))):
        for split in ("train", "test"):
            for number in range(10):
                path = tmp_path / kind / split / str(number) / "0.png"
                path.parent.mkdir(parents=True)
                Image.fromarray(pixels).save(path)
    described = [DATASETS["mnist"](tmp_path / kind).describe() for kind in ("8", "16")]
    assert described[0]["pixels_sha256"] == described[1]["pixels_sha256"]
    assert len(np.unique(DATASETS["mnist"](tmp_path / "16").train.images)) == len(np.unique(grey))


def truncated(root: Path) -> str:
    path = root / "train" / CLASSES[4] / "1.png"
    path.write_bytes(path.read_bytes()[:-900])
    return "1.png: not a whole image"


def empty(root: Path) -> str:
    (root / "train" / CLASSES[4] / "1.png").write_bytes(b"")
    return "1.png: not a whole image"


def wrong_size(root: Path) -> str:
    picture(root / "test" / CLASSES[4] / "1.png", 1, size=31)
    return "1.png: 31x31 pixels, expected 32x32"


def missing_class(root: Path) -> str:
    (root / "test" / CLASSES[4]).rename(root / "test" / "other")
    return "missing: class 4 ü; not in train: other$"


def too_few_classes(root: Path) -> str:
    (root / "train" / CLASSES[4]).rename(root / "elsewhere")
    return "9 class folders"


def no_image(root: Path) -> str:
    for path in (root / "test" / CLASSES[4]).iterdir():
        path.unlink()
    return "class 4 ü: no image"


@pytest.mark.parametrize("damage", [truncated, empty, wrong_size, missing_class, too_few_classes, no_image])
def test_what_is_wrong_is_named(root: Path, damage) -> None:  # type: ignore[no-untyped-def]
    said = damage(root)
    with pytest.raises(DataError, match=said):
        DATASETS["cifar10"](root)


def test_more_images_than_there_are_is_refused(root: Path) -> None:
    images = DATASETS["cifar10"](root)
    assert len(images.first(5, None).train.labels) == 5
    with pytest.raises(DataError, match="21 images asked for"):
        images.first(21, None)


def test_the_first_few_images_are_of_every_class(root: Path) -> None:
    whole = DATASETS["cifar10"](root)
    few = whole.first(13, 10)
    assert few.test.labels.tolist() == list(range(10))
    assert np.bincount(few.train.labels).tolist() == [2, 2, 2] + [1] * 7
    rows = [0, 1, 2, 3, 4, 5, *range(6, 20, 2)]
    assert (few.train.images == whole.train.images[rows]).all(), "in the order of the whole"
    # the control: images that are in no order of classes are cut in place
    plain = Split(whole.train.images, whole.train.labels).first(13)
    assert plain.labels.tolist() == whole.train.labels[:13].tolist()
