"""Validation images come out of the training images, and the test images then decide nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ndrepro.execution.studies.cost_model import Size
from ndrepro.protocol.errors import DataError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.training.data.readers.images import Images
from ndrepro.training.data.run_data import read_data

TEN = 10


def pictures(root: Path, split: str, seed: int) -> None:
    """Four pictures of each of ten classes."""
    draws = np.random.RandomState(seed)
    for label in range(TEN):
        (root / split / f"class{label}").mkdir(parents=True, exist_ok=True)
        for index in range(4):
            pixels = draws.randint(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"class{label}" / f"{index}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pictures(tmp_path / "data", "train", 1)
    pictures(tmp_path / "data", "test", 2)
    return tmp_path / "data"


def read(root: Path, folder: Path, **settings: str) -> Images:
    """What training starts from."""
    folder.mkdir(parents=True, exist_ok=True)
    experiment = Experiment.from_name("lenet_bn_1", settings)
    data = read_data(Request(experiment, str(root)), RunFolder(folder))
    assert isinstance(data, Images)
    return data


def as_rows(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_training_images_are_divided_and_both_parts_keep_their_order(root: Path, tmp_path: Path) -> None:
    whole, divided = read(root, tmp_path / "a"), read(root, tmp_path / "b", validation="0.25")
    assert len(divided.train.labels) == 30 and len(divided.test.labels) == 10
    kept, held = as_rows(divided.train.images), as_rows(divided.test.images)
    assert kept | held == as_rows(whole.train.images) and not kept & held
    assert (np.diff(divided.train.labels) >= 0).all()
    said = read_json(tmp_path / "b" / "dataset.json")
    assert (said["train_images"], said["validation_images"], said["test_images"]) == (30, 10, 0)


def test_other_test_images_change_nothing_and_without_validation_they_do(root: Path, tmp_path: Path) -> None:
    def parts(**settings: str) -> list[bytes]:
        data = read(root, tmp_path / "run", **settings)
        return [split.images.tobytes() + split.labels.tobytes() for split in (data.train, data.test)]

    searched, plain = parts(validation="0.25"), parts()
    pictures(root, "test", 3)
    assert parts(validation="0.25") == searched
    assert parts()[1] != plain[1], "the control"


def test_the_stream_split_alone_decides_which(root: Path, tmp_path: Path) -> None:
    def held(**settings: str) -> set[bytes]:
        return as_rows(read(root, tmp_path / "run", validation="0.25", **settings).test.images)

    first = held()
    assert held(**{"seed": "7", "seeds.split": "0"}) == first
    assert held(**{"seeds.split": "7"}) != first


def test_a_part_without_images_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"leaves 0 to validate on and 20 to train on"):
        read(root, tmp_path / "run", validation="0.01", train_images="20")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("lenet_bn_1", {"validation": "1"}, "below 1"),
        ("lenet_bn_1", {"validation": "0.1", "test_images": "10"}, "no test image is used"),
        ("resnet18_bn_1_imagenet", {"validation": "0.1"}, "file by file"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_run(name: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Experiment.from_name(name, settings)


def test_costs_count_the_images_that_are_trained_on_and_scored() -> None:
    size = Size.of(Experiment.from_name("lenet_bn_1", {"validation": "0.1"}))
    assert (size.train_images, size.test_images) == (45_000, 5_000)
