"""Images in folders: ``train/CLASS/`` and ``test/CLASS/``, all of one size.

Classes are numbered in the sorted order of their names, images come in the sorted order of their file names. Every
file is hashed and decoded from one read. Anything that is not what it should be is refused by name before a run
starts: a class missing from the test split, a truncated image, a wrong size. What is not read is counted
(``class_folders``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers.class_folders import (
    LeftOut,
    beside_splits,
    check_same_classes,
    class_names,
    images_below,
)
from ndrepro.training.data.readers.decoding import decode
from ndrepro.training.data.readers.images import Images, SourceFile, Split, counted, read_source


def is_image_folder(root: Path) -> bool:
    """Whether ``root`` has the two splits' folders."""
    return (root / "train").is_dir() and (root / "test").is_dir()


def load(name: str, root: Path) -> Images:
    """The data set ``name`` from an image folder. Raises DataError naming the folder or file."""
    facts = DATASETS[name]
    return replace(load_shaped(name, root, facts.num_classes, facts.channels, facts.size), canonical=False)


def load_shaped(name: str, root: Path, num_classes: int, channels: int, size: int) -> Images:
    """An image folder of so many classes, of square images of so many channels and pixels a side.

    Raises DataError naming the folder or file.
    """
    classes, beside_train = class_names(root, "train")
    if len(classes) != num_classes:
        raise DataError(
            f"{root / 'train'}: {len(classes)} class folders ({', '.join(classes[:12])}), {name} has {num_classes}",
            "put the images of each class into a folder train/CLASS, and no other folder there",
        )
    test_classes, beside_test = class_names(root, "test")
    check_same_classes(root / "test", test_classes, classes, "train")
    shape = (channels, size)
    train, train_files, among_train = _read_split(root, "train", classes, shape)
    test, test_files, among_test = _read_split(root, "test", classes, shape)
    left_out = beside_splits(root, ("train", "test")) + beside_train + among_train + beside_test + among_test
    return Images(name, train, test, classes, (*train_files, *test_files), None, "image folder", left_out)


def _read_split(
    root: Path, split: str, classes: Sequence[str], shape: tuple[int, int]
) -> tuple[Split, list[SourceFile], LeftOut]:
    names: list[str] = []
    labels: list[int] = []
    left_out = LeftOut()
    for label, class_name in enumerate(classes):
        images, others = images_below(root, f"{split}/{class_name}")
        if not images:
            raise DataError(f"{root / split / class_name}: no image", "put images there, e.g. PNG or JPEG files")
        names += images
        labels += [label] * len(images)
        left_out += others
    channels, size = shape
    pixels = np.empty((len(names), channels, size, size), dtype=np.uint8)
    files = []
    for index, name in enumerate(counted(names, len(names), split)):
        content, source = read_source(root / name, name)
        pixels[index] = decode(root / name, content, channels, size)
        files.append(source)
    return Split(pixels, np.array(labels, dtype=np.int64), by_class=True), files, left_out
