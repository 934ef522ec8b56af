"""Tiny ImageNet is read as Stanford ships it, zipped or unpacked, and what does not fit is refused by name."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import tiny_imagenet
from ndrepro.training.data.readers.published import PublishedFile

# the file lists them in an order of its own
WNIDS = [f"n{(number * 37) % 200:08d}" for number in range(200)]


def picture(path: Path, number: int, size: int = 64, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), (number, 200, 0) if mode == "RGB" else number).save(path, "JPEG")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which tiny-imagenet-200 lies, one training image a class and three validation images."""
    top = tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200"
    for wnid in WNIDS:
        number = int(wnid[1:])
        picture(top / "train" / wnid / "images" / f"{wnid}_0.JPEG", number, mode="L" if number == 3 else "RGB")
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    for index in range(3):
        picture(top / "val" / "images" / f"val_{index}.JPEG", index)
        picture(top / "test" / "images" / f"test_{index}.JPEG", index)
    rows = [f"val_{index}.JPEG\t{WNIDS[index]}\t0\t32\t44\t62" for index in (2, 0, 1)]
    (top / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    (top / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (top / "words.txt").write_text("n00000001\tsomething\n")
    return top.parent


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_unpacked_folder_and_zip_give_the_same_images(made: Path, tmp_path: Path) -> None:
    images = tiny_imagenet.load(made)
    assert images.train.images.shape == (200, 3, 64, 64) and images.train.labels.tolist() == list(range(200))
    assert images.classes == tuple(sorted(WNIDS))
    assert images.test.labels.tolist() == [sorted(WNIDS).index(WNIDS[index]) for index in range(3)]
    assert np.abs(images.train.images[:, 0, 0, 0].astype(int) - np.arange(200)).max() <= 3, "each its own picture"
    assert (images.train.images[3, 0] == images.train.images[3, 1]).all(), "a grey one"
    assert images.canonical is None
    assert tiny_imagenet.load(made / "tiny-imagenet-200").describe() == images.describe()
    path = Path(shutil.make_archive(str(tmp_path / "tiny-imagenet-200"), "zip", made))
    file = PublishedFile(path.name, (), hashlib.md5(path.read_bytes()).hexdigest())
    for place in (path, path.parent):
        zipped = tiny_imagenet.load(place, file)
        assert zipped.canonical is True and len(zipped.files) == 1
        assert zipped.describe()["pixels_sha256"] == images.describe()["pixels_sha256"]


def test_every_file_that_counts_is_digested(made: Path) -> None:
    names = {source.name for source in tiny_imagenet.load(made).files}
    assert len(names) == 200 + 3 + 2
    assert {"wnids.txt", "val/val_annotations.txt", "val/images/val_2.JPEG"} <= names


def unlabelled_class(top: Path) -> str:
    (top / "train" / WNIDS[5]).rename(top / "train" / "n99999999")
    return f"class folders and wnids.txt differ in {WNIDS[5]}, n99999999"


def missing_image(top: Path) -> str:
    (top / "val" / "images" / "val_1.JPEG").unlink()
    return r"val_1.JPEG: no such file"


def truncated(top: Path) -> str:
    path = top / "train" / WNIDS[7] / "images" / f"{WNIDS[7]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:-60])
    return f"{WNIDS[7]}_0.JPEG: not a whole image"


def wrong_size(top: Path) -> str:
    picture(top / "val" / "images" / "val_0.JPEG", 0, size=63)
    return "val_0.JPEG: 63x63 pixels, expected 64x64"


def wrong_label(top: Path) -> str:
    with (top / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_3.JPEG\tn77777777\t0\t0\t1\t1\n")
    return "val_annotations.txt: line 4: 'val_3.JPEG"


def too_few(top: Path) -> str:
    (top / "wnids.txt").write_text("\n".join(WNIDS[1:]))
    return "wnids.txt: 199 classes, expected 200"


@pytest.mark.parametrize("damage", [unlabelled_class, missing_image, truncated, wrong_size, wrong_label, too_few])
def test_what_is_wrong_is_named(root: Path, damage) -> None:  # type: ignore[no-untyped-def]
    said = damage(root / "tiny-imagenet-200")
    with pytest.raises(DataError, match=said):
        tiny_imagenet.load(root)


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"tiny-imagenet-200\.zip: md5"):
        tiny_imagenet.load(tmp_path)
    file = PublishedFile(path.name, (), hashlib.md5(b"PK").hexdigest())
    with pytest.raises(DataError, match=r"tiny-imagenet-200\.zip: damaged"):
        tiny_imagenet.load(tmp_path, file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-imagenet-200/words.txt", "")
    file = PublishedFile(path.name, (), hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"wnids\.txt is not in it"):
        tiny_imagenet.load(tmp_path, file)


def test_without_data_or_network_the_cure_is_said(tmp_path: Path) -> None:
    file = PublishedFile("tiny-imagenet-200.zip", ("http://127.0.0.1:9/x",), "0" * 32)
    with pytest.raises(DataError, match=r"has no tiny-imagenet-200\.zip") as caught:
        tiny_imagenet.load(tmp_path / "nothing", file)
    assert "--data" in caught.value.cure
