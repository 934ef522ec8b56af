"""SVHN's two MATLAB files give the images that torchvision reads; damage and files that do not match are named."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import svhn
from ndrepro.training.data.readers.published import PublishedFile


def write(path: Path, count: int, **changed: np.ndarray) -> PublishedFile:
    generator = np.random.RandomState(count)
    variables = {
        "X": generator.randint(0, 256, (32, 32, 3, count)).astype(np.uint8),
        "y": (np.arange(count) % 10 + 1).astype(np.uint8)[:, None],
        **changed,
    }
    savemat(path, variables, do_compression=True)
    return PublishedFile(path.name, ("http://127.0.0.1:9/x",), hashlib.md5(path.read_bytes()).hexdigest())


@pytest.fixture
def files(tmp_path: Path) -> svhn.OfficialMatFiles:
    return svhn.OfficialMatFiles(write(tmp_path / "train_32x32.mat", 13), write(tmp_path / "test_32x32.mat", 4))


def test_the_facts_are_those_of_the_official_files() -> None:
    facts = svhn.official()
    assert (facts.train.name, facts.train.md5) == ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373")
    assert (facts.test.name, facts.test.md5) == ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3")


def test_torchvision_reads_the_same_images(
    tmp_path: Path, files: svhn.OfficialMatFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import SVHN

    images = svhn.load(tmp_path, files)
    assert images.canonical is True and images.train.labels.tolist() == [*range(1, 10), 0, 1, 2, 3]
    for split, file in ((images.train, files.train), (images.test, files.test)):
        name = file.name.split("_")[0]
        monkeypatch.setitem(SVHN.split_list, name, ["", file.name, file.md5])
        theirs = SVHN(str(tmp_path), split=name)
        assert (split.images == theirs.data).all() and (split.labels == theirs.labels).all()


def test_a_damaged_file_is_named(tmp_path: Path, files: svhn.OfficialMatFiles) -> None:
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"test_32x32\.mat: md5"):
        svhn.load(tmp_path, files)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"y": np.zeros((12, 1), np.uint8)}, "12 labels for 13 images"),
        ({"X": np.zeros((32, 3, 13), np.uint8)}, "no array 'X' of 4 dimensions"),
        ({"X": np.zeros((32, 32, 3, 13))}, "no array 'X' of 4 dimensions with numbers"),
        ({"y": np.full((13, 1), 1j)}, "no array 'y' of 2 dimensions with numbers"),
        ({"X": np.zeros((28, 28, 3, 13), np.uint8)}, "images of 3x28x28, svhn has 3x32x32"),
    ],
)
def test_files_that_do_not_match_are_refused(
    tmp_path: Path, files: svhn.OfficialMatFiles, changed: dict[str, np.ndarray], said: str
) -> None:
    wrong = svhn.OfficialMatFiles(write(tmp_path / "train_32x32.mat", 13, **changed), files.test)
    with pytest.raises(DataError, match=rf"train_32x32\.mat: {said}"):
        svhn.load(tmp_path, wrong)


def test_without_data_or_network_the_cure_is_said(tmp_path: Path, files: svhn.OfficialMatFiles) -> None:
    with pytest.raises(DataError, match=r"has no train_32x32\.mat") as caught:
        svhn.load(tmp_path / "nothing", files)
    assert "--data" in caught.value.cure
    with pytest.raises(DataError, match="a file; svhn has two"):
        svhn.load(tmp_path / "train_32x32.mat", files)
