"""STL-10 is the same from the archive and unpacked, and as torchvision reads it; its unlabelled images are not kept."""

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import stl10
from ndrepro.training.data.readers.published import PublishedFile


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    generator = np.random.RandomState(0)
    names = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    shapes = ((6, 3, 96, 96), (6,), (4, 3, 96, 96), (4,))
    arrays = [generator.randint(1, 11, shape).astype(np.uint8) for shape in shapes]
    arrays[0][:] = generator.randint(0, 256, shapes[0])
    files = {name: array.tobytes() for name, array in zip(names, arrays, strict=True)}
    files["class_names.txt"] = b"airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n"
    files["unlabeled_X.bin"] = bytes(100_000)
    return files


@pytest.fixture
def files(tmp_path: Path, contents: dict[str, bytes]) -> stl10.OfficialArchive:
    """torchvision's facts, with the digests of the archive made here in ``tmp_path``."""
    facts = stl10.official()
    path = tmp_path / facts.archive.name
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = PublishedFile(path.name, ("http://127.0.0.1:9/x",), md5(path.read_bytes()))
    ours = tuple(replace(file, md5=md5(contents[file.name]) if file.md5 else "") for file in facts.files)
    return replace(facts, archive=archive, files=ours)


def test_the_facts_are_those_of_the_official_files() -> None:
    facts = stl10.official()
    assert facts.archive.md5 == "91f7769df0f17e558f3565bffb0c7dfb"
    assert [file.name for file in facts.files] == [
        "train_X.bin",
        "train_y.bin",
        "test_X.bin",
        "test_y.bin",
        "class_names.txt",
    ]
    assert facts.files[3].md5 == "36f9794fa4beb8a2c72628de14fa638e"


def test_archive_and_unpacked_files_give_what_torchvision_reads(
    tmp_path: Path, files: stl10.OfficialArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import STL10

    from_archive = stl10.load(tmp_path / files.archive.name, files)
    assert len(from_archive.files) == 1 and from_archive.canonical is True
    with tarfile.open(tmp_path / files.archive.name) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    unpacked = stl10.load(tmp_path / "unpacked", files)
    assert len(unpacked.files) == 5 and unpacked.canonical is True
    assert unpacked.describe()["pixels_sha256"] == from_archive.describe()["pixels_sha256"]
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    theirs = STL10(str(tmp_path / "unpacked"), split="train")
    assert (from_archive.train.images == theirs.data).all() and (from_archive.train.labels == theirs.labels).all()
    assert list(from_archive.classes) == theirs.classes


def test_a_damaged_archive_or_file_is_named(tmp_path: Path, files: stl10.OfficialArchive) -> None:
    path = tmp_path / files.archive.name
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    content = path.read_bytes()
    for spoilt in (content[:200], content[: len(content) // 2], content[:300] + b"\0" + content[301:], b""):
        path.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"stl10_binary\.tar\.gz: md5"):
            stl10.load(tmp_path, files)
    path.write_bytes(content[:-1])  # of the checksum at the end: nothing that is read is missing
    assert stl10.load(tmp_path, files).official_by == "digests of the uncompressed content"
    member = tmp_path / "unpacked" / "stl10_binary" / "test_y.bin"
    member.write_bytes(member.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_y\.bin: md5"):
        stl10.load(tmp_path / "unpacked", files)


def test_an_archive_packed_anew_is_official_by_what_is_in_it(tmp_path: Path, files: stl10.OfficialArchive) -> None:
    path = tmp_path / files.archive.name
    official = stl10.load(path, files)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=1))
    again = stl10.load(path, files)
    assert again.canonical is True and again.official_by == "digests of the uncompressed content"
    assert again.describe()["content_sha256"] == official.describe()["content_sha256"]
    assert again.describe()["tree_sha256"] != official.describe()["tree_sha256"]


def test_an_archive_without_a_file_says_which(tmp_path: Path, files: stl10.OfficialArchive) -> None:
    more = replace(files, files=(*files.files[:4], PublishedFile("names.txt", (), "")))
    with pytest.raises(DataError, match=r"stl10_binary/names\.txt is not in it"):
        stl10.load(tmp_path, more)


def test_labels_that_do_not_match_are_refused(
    tmp_path: Path, files: stl10.OfficialArchive, contents: dict[str, bytes]
) -> None:
    folder = tmp_path / "unpacked" / "stl10_binary"
    folder.mkdir(parents=True)
    for name, content in {**contents, "train_y.bin": bytes([0] * 6), "test_X.bin": bytes(100)}.items():
        (folder / name).write_bytes(content)
    unchecked = replace(files, files=tuple(replace(file, md5="") for file in files.files))
    with pytest.raises(DataError, match=r"train_X\.bin: a label -1, stl10 has 0 to 9"):
        stl10.load(tmp_path / "unpacked", unchecked)
    (folder / "train_y.bin").write_bytes(contents["train_y.bin"])
    with pytest.raises(DataError, match=r"test_X\.bin: 100 bytes, no whole number of images"):
        stl10.load(tmp_path / "unpacked", unchecked)


def test_without_data_or_network_the_cure_is_said(tmp_path: Path, files: stl10.OfficialArchive) -> None:
    with pytest.raises(DataError, match=r"has no stl10_binary\.tar\.gz") as caught:
        stl10.load(tmp_path / "nothing", files)
    assert "--data" in caught.value.cure
