"""Official CIFAR files are read from the archive or unpacked, after their digests; damage is named; nothing is run.

The real archive cannot be had offline, so the files here are made in its layout, with digests of their own.
"""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
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


def pack(path: Path, mode: str, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


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
    pack(path, "w:gz", {f"cifar-10-batches-py/{name}": content for name, content in contents.items()})
    return path


@pytest.fixture
def files(archive: Path, contents: dict[str, bytes]) -> cifar.OfficialBatches:
    """torchvision's facts of CIFAR-10, with the digests of the files made here."""
    facts = cifar.official("cifar10")

    def ours(listed: Mapping[str, str]) -> dict[str, str]:
        return {name: f"md5:{hashlib.md5(contents[name]).hexdigest()}" for name in listed}

    file = replace(facts.file, md5=hashlib.md5(archive.read_bytes()).hexdigest())
    names_digest = ours({facts.names: ""})[facts.names]
    return replace(facts, file=file, train=ours(facts.train), test=ours(facts.test), names_digest=names_digest)


def test_the_facts_are_those_of_the_official_files() -> None:
    assert cifar.official("cifar10").file.md5 == "c58f30108f718f92721af3b95e74349a"
    assert cifar.official("cifar100").label_key == "fine_labels"
    assert cifar.official("cifar100").file.name == "cifar-100-python.tar.gz"
    assert cifar.official("cifar10").digests["test_batch"] == "md5:40351d587109b95175f43aff81a1287e"


def test_archive_folder_and_unpacked_files_give_the_same_images(archive: Path, files: cifar.OfficialBatches) -> None:
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


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "again.tgz"), ("w:xz", "x.tar.xz"), ("w", "x.tar")])
def test_an_archive_packed_anew_is_official_by_what_is_in_it(
    archive: Path, files: cifar.OfficialBatches, contents: dict[str, bytes], mode: str, name: str
) -> None:
    other = archive.with_name(name)
    pack(other, mode, {f"cifar-10-batches-py/{member}": content for member, content in contents.items()})
    official, again = cifar.load("cifar10", archive, files), cifar.load("cifar10", other, files)
    assert again.canonical is True
    assert official.official_by == "md5 of the published files, from torchvision"
    assert again.official_by == "digests of the uncompressed content" and again.files[0].name == name
    assert again.describe()["content_sha256"] == official.describe()["content_sha256"]
    spoilt = {**contents, "data_batch_2": contents["data_batch_1"]}
    pack(other, mode, {f"cifar-10-batches-py/{member}": content for member, content in spoilt.items()})
    with pytest.raises(DataError, match=f"{name}: md5"):
        cifar.load("cifar10", other, files)


@pytest.mark.parametrize(("name", "label_bytes"), [("cifar10", 1), ("cifar100", 2)])
def test_the_binary_version_is_the_same_images(
    tmp_path: Path, files: cifar.OfficialBatches, contents: dict[str, bytes], name: str, label_bytes: int
) -> None:
    facts = cifar.BINARY[name]
    rows, binary = (
        [],
        {facts.names: "".join(f"class{number}\n" for number in range(100 if label_bytes > 1 else 10)).encode()},
    )
    for number, member in enumerate((*facts.train, *facts.test)):
        batch = pickle.loads(contents["test_batch" if member in facts.test else f"data_batch_{number + 1}"])
        labels = np.array(batch["labels"], np.uint8)
        coarse = [np.full_like(labels, 77)] * (label_bytes - 1)
        rows.append(np.column_stack([*coarse, labels, batch["data"]]))
        binary[member] = rows[-1].tobytes()
    digests = {member: f"sha1:{hashlib.sha1(content).hexdigest()}" for member, content in binary.items()}
    train, test = ({member: digests[member] for member in listed} for listed in (facts.train, facts.test))
    version = replace(facts, train=train, test=test)
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    packed.mkdir()
    pack(packed / facts.file.name, "w:gz", {f"{facts.folder}/{member}": content for member, content in binary.items()})
    with tarfile.open(packed / facts.file.name) as tar:
        tar.extractall(unpacked, filter="data")
    places = (packed, packed / facts.file.name, unpacked)
    for images in (cifar.load(name, root, replace(files, name=name), version) for root in places):
        assert images.canonical is True and images.official_by == "digests of the uncompressed content"
        assert images.train.labels.tolist() == np.concatenate(rows[:-1])[:, label_bytes - 1].tolist()
        assert (images.test.images.reshape(-1, 3072) == rows[-1][:, label_bytes:]).all()
        assert images.classes[3] == "class3"
    (unpacked / facts.folder / next(iter(facts.test))).write_bytes(b"")
    with pytest.raises(DataError, match="sha1"):
        cifar.load(name, unpacked, replace(files, name=name), version)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickled({"other": 1}), pickled({"label_names": ["one"]})])
def test_damaged_class_names_are_named(archive: Path, files: cifar.OfficialBatches, content: bytes) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(archive.parent, filter="data")
    (archive.parent / "cifar-10-batches-py" / "batches.meta").write_bytes(content)
    with pytest.raises(DataError, match=r"batches\.meta: md5"):
        cifar.load("cifar10", archive.parent, files)
    with pytest.raises(DataError, match=r"batches\.meta: (damaged|1 class names)"):
        cifar.load("cifar10", archive.parent, replace(files, names_digest=""))


def test_a_damaged_archive_is_named(archive: Path, files: cifar.OfficialBatches) -> None:
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: md5"):
        cifar.load("cifar10", archive, files)


def test_a_damaged_batch_is_named(archive: Path, files: cifar.OfficialBatches) -> None:
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


def test_without_data_or_network_the_cure_is_said(tmp_path: Path, files: cifar.OfficialBatches) -> None:
    unreachable = replace(files, file=replace(files.file, urls=("http://127.0.0.1:9/cifar-10-python.tar.gz",)))
    with pytest.raises(DataError, match=r"has no cifar-10-python\.tar\.gz") as caught:
        cifar.load("cifar10", tmp_path / "nothing", unreachable)
    assert "train/CLASS" in caught.value.cure and "--data" in caught.value.cure


def test_a_member_beyond_any_published_size_is_not_unpacked(archive: Path, files: cifar.OfficialBatches) -> None:
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = 1 << 40
        tar.addfile(member, None)
    named = replace(files, file=replace(files.file, md5=hashlib.md5(archive.read_bytes()).hexdigest()))
    with pytest.raises(DataError, match=r"data_batch_1 has 1099511627776 bytes, more than any published file"):
        cifar.load("cifar10", archive.parent, named)
