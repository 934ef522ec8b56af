"""Official CIFAR files are read from the archive or unpacked, after their digests; damage is named; nothing is run.

The real archive cannot be had offline, so the files here are made in its layout, with digests of their own.
"""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import cifar


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)


def batch(number: int) -> bytes:
    generator = np.random.RandomState(number)
    data = generator.randint(0, 256, (4, 3072), dtype=np.uint8)
    return pickled({"data": data, "labels": [number % 10, 1, 2, 3]})


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    names = [f"data_batch_{number}" for number in range(1, 6)]
    files = {name: batch(number) for number, name in enumerate(names)}
    files["test_batch"] = batch(9)
    files["batches.meta"] = pickled({"label_names": [f"class{number}" for number in range(10)]})
    return files


@pytest.fixture
def archive(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def files(archive: Path, contents: dict[str, bytes]) -> cifar.Official:
    """torchvision's facts of CIFAR-10, with the digests of the files made here."""
    facts = cifar.official("cifar10")

    def ours(listed: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple((name, hashlib.md5(contents[name]).hexdigest()) for name, _ in listed)

    archive_md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    return replace(facts, archive_md5=archive_md5, train=ours(facts.train), test=ours(facts.test))


def test_the_facts_are_those_of_the_official_files() -> None:
    assert cifar.official("cifar10").archive_md5 == "c58f30108f718f92721af3b95e74349a"
    assert cifar.official("cifar100").label_key == "fine_labels"
    assert cifar.official("cifar100").archive == "cifar-100-python.tar.gz"


def test_archive_folder_and_unpacked_files_give_the_same_images(archive: Path, files: cifar.Official) -> None:
    from_archive = cifar.load("cifar10", archive, files)
    assert from_archive.train.images.shape == (20, 3, 32, 32)
    assert from_archive.train.labels.tolist()[::4] == [0, 1, 2, 3, 4]
    assert from_archive.classes[0] == "class0"
    assert from_archive.canonical is True
    with tarfile.open(archive) as tar:
        tar.extractall(archive.parent / "unpacked", filter="data")
    for root in (archive.parent, archive.parent / "unpacked"):
        other = cifar.load("cifar10", root, files)
        assert (other.test.images == from_archive.test.images).all()
        assert other.describe()["pixels_sha256"] == from_archive.describe()["pixels_sha256"]
    assert len(other.files) == 7


def test_a_damaged_archive_is_named(archive: Path, files: cifar.Official) -> None:
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: md5"):
        cifar.load("cifar10", archive, files)


def test_a_damaged_batch_is_named(archive: Path, files: cifar.Official) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(archive.parent, filter="data")
    path = archive.parent / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_3: md5"):
        cifar.load("cifar10", archive.parent, files)


def test_a_file_that_would_run_something_is_refused(contents: dict[str, bytes]) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run!",)

    with pytest.raises(DataError, match="print"):
        cifar._unpickle(pickle.dumps(Attack()))
    assert len(cifar._unpickle(contents["data_batch_1"])["data"]) == 4, "the control"


def test_without_data_or_network_the_cure_is_said(tmp_path: Path, files: cifar.Official) -> None:
    unreachable = replace(files, url="http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(DataError, match=r"has no cifar-10-python\.tar\.gz") as caught:
        cifar.load("cifar10", tmp_path / "nothing", unreachable)
    assert "train/CLASS" in caught.value.cure and "--data" in caught.value.cure
