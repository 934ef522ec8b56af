"""Grey data sets in IDX files: packed, in a zip, unpacked or downloaded, they give the same images; damage is named.

The real files cannot be had offline, so those here are made in their format, with digests of their own.
"""

import gzip
import hashlib
import io
import os
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndrepro.protocol.errors import DataError
from ndrepro.training.data import DATASETS
from ndrepro.training.data.readers import idx
from ndrepro.training.data.readers.published import PublishedFile

COUNTS = (12, 12, 5, 5)


def idx_file(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    """Images and labels of the training split, then of the test split."""
    generator = np.random.RandomState(0)
    shapes = [(count, 28, 28) if place % 2 == 0 else (count,) for place, count in enumerate(COUNTS)]
    return [generator.randint(0, 256 if len(shape) == 3 else 10, shape).astype(np.uint8) for shape in shapes]


def packed(array: np.ndarray) -> bytes:
    return gzip.compress(idx_file(array), mtime=0)


def ours(name: str, arrays: list[np.ndarray]) -> idx.OfficialIdxFiles:
    """torchvision's facts, with the digests of the files made here and no address that answers."""
    facts = idx.official(name)
    pairs = zip(facts.files, arrays, strict=True)
    files = (
        PublishedFile(
            file.name, ("http://127.0.0.1:9/x",), md5(packed(array)), file.content and sha256(idx_file(array))
        )
        for file, array in pairs
    )
    return replace(facts, files=tuple(files))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write(folder: Path, files: idx.OfficialIdxFiles, arrays: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in zip(files.files, arrays, strict=True):
        (folder / file.name).write_bytes(packed(array))


def test_the_facts_are_those_of_the_official_files() -> None:
    mnist, fashion, emnist = (idx.official(name) for name in ("mnist", "fashion_mnist", "emnist_balanced"))
    assert mnist.files[0] == replace(
        mnist.files[0], name="train-images-idx3-ubyte.gz", md5="f68b3c2dcbeaaa9fbdd348bbdeb94873"
    )
    assert fashion.files[3].md5 == "bb300cfdad3c16e7a12a480ee83cd310"
    assert (mnist.folder, fashion.folder, emnist.folder) == ("MNIST/raw", "FashionMNIST/raw", "EMNIST/raw")
    assert emnist.archive is not None and emnist.archive.md5 == "58c8d27c78d21e728a6bc7b3cc06412e"
    assert emnist.files[2].name == "emnist-balanced-test-images-idx3-ubyte.gz"
    assert len(emnist.classes) == 47 and emnist.classes[10:12] == ("A", "B")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_beside_each_other_or_where_torchvision_puts_them(tmp_path: Path, arrays: list, name: str) -> None:
    files = ours(name, arrays)
    write(tmp_path / "here", files, arrays)
    write(tmp_path / "there" / files.folder, files, arrays)
    here, there = idx.load(name, tmp_path / "here", files), idx.load(name, tmp_path / "there", files)
    assert here.train.images.shape == (12, 1, 28, 28)
    assert (here.train.images[:, 0] == arrays[0]).all() and here.train.labels.tolist() == arrays[1].tolist()
    assert (here.test.images[:, 0] == arrays[2]).all() and here.test.labels.tolist() == arrays[3].tolist()
    assert here.canonical is there.canonical is True
    assert here.describe()["pixels_sha256"] == there.describe()["pixels_sha256"]
    digests = {source.name: source.sha256 for source in there.files}
    assert len(digests) == 4
    for path, digest in digests.items():
        assert hashlib.sha256((tmp_path / "there" / path).read_bytes()).hexdigest() == digest


def test_torchvision_reads_the_same_images(tmp_path: Path, arrays: list) -> None:
    from torchvision.datasets import MNIST

    files = ours("mnist", arrays)
    write(tmp_path / files.folder, files, arrays)
    for file, array in zip(files.files, arrays, strict=True):
        (tmp_path / files.folder / file.name[:-3]).write_bytes(idx_file(array))
    ours_read, theirs = idx.load("mnist", tmp_path, files), MNIST(str(tmp_path), train=False)
    assert (ours_read.test.images[:, 0] == theirs.data.numpy()).all()
    assert (ours_read.test.labels == theirs.targets.numpy()).all()


def unpacked(path: Path, array: np.ndarray) -> None:
    path.with_suffix("").write_bytes(idx_file(array))


def packed_anew(path: Path, array: np.ndarray) -> None:
    path.write_bytes(gzip.compress(idx_file(array), compresslevel=1, mtime=1))


@pytest.mark.parametrize("rewrite", [unpacked, packed_anew])
def test_files_are_official_by_what_is_in_them(tmp_path: Path, arrays: list, rewrite) -> None:  # type: ignore[no-untyped-def]
    files = ours("mnist", arrays)
    write(tmp_path / "official", files, arrays)
    (tmp_path / "other").mkdir()
    for file, array in zip(files.files, arrays, strict=True):
        rewrite(tmp_path / "other" / file.name, array)
    official, other = (idx.load("mnist", tmp_path / folder, files).describe() for folder in ("official", "other"))
    assert official["canonical"] is other["canonical"] is True
    assert official["official_by"] == "md5 of the published files, from torchvision"
    assert other["official_by"] == "digests of the uncompressed content"
    assert official["tree_sha256"] != other["tree_sha256"]
    assert official["content_sha256"] == other["content_sha256"]
    assert f"sha256:{other['content_sha256']['t10k-labels-idx1-ubyte']}" == files.files[3].content


def test_files_with_other_content_are_not_official(tmp_path: Path, arrays: list) -> None:
    files = ours("mnist", arrays)
    for file, array in zip(files.files, arrays, strict=True):
        unpacked(tmp_path / file.name, array)
    unpacked(tmp_path / files.files[3].name, arrays[3][::-1].copy())
    images = idx.load("mnist", tmp_path, files)
    assert images.canonical is False and images.reader == "IDX files, unpacked"
    assert "official_by" not in images.describe()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: md5"):
        packed_anew(tmp_path / files.files[3].name, arrays[3][::-1].copy())
        idx.load("mnist", tmp_path, files)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def debian() -> Path:
    if not DEBIAN.is_dir():
        reason = "Debian's dataset-fashion-mnist is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return DEBIAN


def test_debians_fashion_mnist_is_official_by_its_content(debian: Path) -> None:
    images = idx.load("fashion_mnist", debian)
    assert images.canonical is True and images.official_by == "digests of the uncompressed content"
    assert images.train.images.shape == (60000, 1, 28, 28) and images.test.images.shape == (10000, 1, 28, 28)
    assert np.bincount(images.train.labels).tolist() == [6000] * 10


def test_debians_fashion_mnist_in_the_headers_of_2017_is_the_published_file(debian: Path) -> None:
    """Which shows that the digests of content are those of the official files: their md5 is torchvision's."""
    for file in idx.official("fashion_mnist").files:
        seconds = 1504176627 if file.name.startswith("t10k") else 1504176606
        header = struct.pack("<4BIBB", 0x1F, 0x8B, 8, 8, seconds, 0, 3) + file.name.removesuffix(".gz").encode() + b"\0"
        assert md5(header + (debian / file.name).read_bytes()[10:]) == file.md5


def emnist_zip(path: Path, facts: idx.OfficialIdxFiles, arrays: list[np.ndarray]) -> idx.OfficialIdxFiles:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file, array in zip(facts.files, arrays, strict=True):
            archive.writestr(f"gzip/{file.name}", packed(array))
        archive.writestr("gzip/emnist-letters-mapping.txt", "1 65 97")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return replace(facts, archive=PublishedFile("gzip.zip", ("http://127.0.0.1:9/x",), md5(content.getvalue())))


def test_emnist_is_read_from_its_zip_wherever_it_lies_or_from_the_files_in_it(tmp_path: Path, arrays: list) -> None:
    facts = idx.official("emnist_balanced")
    files = emnist_zip(tmp_path / "a" / "gzip.zip", facts, arrays)
    emnist_zip(tmp_path / "b" / "EMNIST" / "raw" / "gzip.zip", facts, arrays)
    write(tmp_path / "c" / "EMNIST" / "raw" / "gzip", facts, arrays)
    found = [idx.load("emnist_balanced", tmp_path / place, files) for place in ("a/gzip.zip", "a", "b", "c")]
    assert len({images.describe()["pixels_sha256"]["train"] for images in found}) == 1
    assert [images.canonical for images in found] == [True, True, True, None]
    assert (found[0].test.images[:, 0] == arrays[2]).all()


def cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-40])
    return f"{path.name}: md5"


def another(path: Path) -> str:
    path.write_bytes(gzip.compress(b"something else"))
    return f"{path.name}: md5"


@pytest.mark.parametrize("damage", [cut, another])
@pytest.mark.parametrize("place", range(4))
def test_a_damaged_file_is_named(tmp_path: Path, arrays: list, damage, place: int) -> None:  # type: ignore[no-untyped-def]
    files = ours("mnist", arrays)
    write(tmp_path, files, arrays)
    idx.load("mnist", tmp_path, files)
    said = damage(tmp_path / files.files[place].name)
    with pytest.raises(DataError, match=said) as caught:
        idx.load("mnist", tmp_path, files)
    assert "downloaded again" in caught.value.cure


def header(array: np.ndarray) -> bytes:
    return b"\0\0\x0d" + idx_file(array)[3:]


def short(array: np.ndarray) -> bytes:
    return idx_file(array)[:-1]


@pytest.mark.parametrize(("spoil", "said"), [(header, "no IDX file of 3 dim"), (short, "truncated"), (len, None)])
def test_an_unpacked_file_that_is_wrong_is_named(tmp_path: Path, arrays: list, spoil, said: str | None) -> None:  # type: ignore[no-untyped-def]
    files = ours("mnist", arrays)
    for file, array in zip(files.files, arrays, strict=True):
        (tmp_path / file.name[:-3]).write_bytes(idx_file(array))
    if said is None:
        assert len(idx.load("mnist", tmp_path, files).train.labels) == 12, "the control"
        return
    (tmp_path / "train-images-idx3-ubyte").write_bytes(spoil(arrays[0]))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte: .*{said}"):
        idx.load("mnist", tmp_path, files)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(np.full(12, 10, np.uint8), "a label 10, mnist has 0 to 9"), (np.zeros(11, np.uint8), "11 labels for 12 images")],
)
def test_labels_that_do_not_match_are_refused(tmp_path: Path, arrays: list, labels: np.ndarray, said: str) -> None:
    spoiled = [arrays[0], labels, *arrays[2:]]
    files = ours("mnist", spoiled)
    write(tmp_path, files, spoiled)
    with pytest.raises(DataError, match=said):
        idx.load("mnist", tmp_path, files)


def test_images_of_another_size_are_refused(tmp_path: Path, arrays: list) -> None:
    spoiled = [np.zeros((12, 32, 32), np.uint8), *arrays[1:]]
    files = ours("mnist", spoiled)
    write(tmp_path, files, spoiled)
    with pytest.raises(DataError, match="images of 1x32x32, mnist has 1x28x28"):
        idx.load("mnist", tmp_path, files)


def test_without_data_or_network_the_cure_is_said(tmp_path: Path, arrays: list) -> None:
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte\.gz") as caught:
        idx.load("mnist", tmp_path / "nothing", ours("mnist", arrays))
    assert "train/CLASS" in caught.value.cure and "--data" in caught.value.cure
    files = emnist_zip(tmp_path / "x.zip", idx.official("emnist_balanced"), arrays)
    with pytest.raises(DataError, match=r"has no gzip\.zip"):
        idx.load("emnist_balanced", tmp_path / "nothing", files)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path, arrays: list) -> None:
    files = ours("mnist", arrays)
    write(tmp_path, files, arrays)
    with pytest.raises(DataError, match="a file; mnist has several"):
        idx.load("mnist", tmp_path / files.files[0].name, files)


def test_grey_image_folders_stay_grey(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for number in range(10):
            path = tmp_path / split / str(number) / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((28, 28), number, np.uint8)).save(path)
    images = DATASETS["mnist"](tmp_path)
    assert images.train.images.shape == (10, 1, 28, 28) and images.train.images[7].max() == 7
