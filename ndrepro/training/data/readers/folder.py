"""Images in folders: ``train/CLASS/*.{png,jpg,jpeg}`` and ``test/CLASS/*``, all of one size.

Classes are numbered in the sorted order of their names, images come in the sorted order of their file names. Every
file is hashed and decoded from one read. Anything that is not what it should be is refused by name before a run
starts: a class missing from the test split, a truncated image, a wrong size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers.decoding import decode
from ndrepro.training.data.readers.images import Images, SourceFile, Split, read_source

SUFFIXES = (".png", ".jpg", ".jpeg")


def is_image_folder(root: Path) -> bool:
    """Whether ``root`` has the two splits' folders."""
    return (root / "train").is_dir() and (root / "test").is_dir()


def load(name: str, root: Path) -> Images:
    """The data set ``name`` from an image folder. Raises DataError naming the folder or file."""
    classes = _classes(root / "train")
    facts = DATASETS[name]
    if len(classes) != facts.num_classes:
        raise DataError(
            f"{root / 'train'}: {len(classes)} class folders ({', '.join(classes[:12])}), "
            f"{name} has {facts.num_classes}",
            "put the images of each class into a folder train/CLASS, and nothing else there",
        )
    missing = [label for label in classes if not (root / "test" / label).is_dir()]
    extra = sorted(set(_classes(root / "test")) - set(classes))
    if missing or extra:
        raise DataError(
            f"{root / 'test'}: class folders missing: {', '.join(missing) or 'none'}; not in train: "
            f"{', '.join(extra) or 'none'}",
            "give train and test the same class folders",
        )
    train, train_files = _read_split(root, "train", classes, (facts.channels, facts.size))
    test, test_files = _read_split(root, "test", classes, (facts.channels, facts.size))
    return Images(name, train, test, classes, (*train_files, *test_files), False, "image folder")


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _read_split(
    root: Path, split: str, classes: tuple[str, ...], shape: tuple[int, int]
) -> tuple[Split, list[SourceFile]]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (root / split / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{root / split / name}: no image", f"images end in {', '.join(SUFFIXES)}")
        paths += found
        labels += [label] * len(found)
    channels, size = shape
    images = np.empty((len(paths), channels, size, size), dtype=np.uint8)
    files = []
    for index, path in enumerate(paths):
        content, source = read_source(path, path.relative_to(root).as_posix())
        images[index] = decode(path, content, channels, size)
        files.append(source)
    return Split(images, np.array(labels, dtype=np.int64), by_class=True), files
