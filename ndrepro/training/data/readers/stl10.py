"""STL-10 (Coates, Ng and Lee 2011), its labelled images of 96x96: the official archive, or unpacked, or a folder.

The archive is 2.6 GB, most of it images without labels, which are not used: it is read in one pass that keeps only
the labelled ones. Each image is in the files plane by plane, column by column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers import folder, published
from ndrepro.training.data.readers.images import Images, Split, damaged, split_of
from ndrepro.training.data.readers.published import PublishedFile

_NAME = "stl10"
_SIDE = 96
_CLASS_NAMES = "class_names.txt"


@dataclass(frozen=True)
class OfficialArchive:
    """The archive; the folder in it; images and labels of the training split, then of the test split; class names."""

    archive: PublishedFile
    folder: str
    files: tuple[PublishedFile, ...]


def official() -> OfficialArchive:
    """The official files as torchvision knows them."""
    from torchvision.datasets import STL10

    listed = [*STL10.train_list, *STL10.test_list]
    files = tuple(PublishedFile(name, (), md5) for name, md5 in listed if not name.startswith("unlabeled"))
    archive = PublishedFile(STL10.filename, (STL10.url,), STL10.tgz_md5)
    return OfficialArchive(archive, STL10.base_folder, (*files, PublishedFile(_CLASS_NAMES, (), "")))


def load(root: Path, files: OfficialArchive | None = None) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    if folder.is_image_folder(root):
        return folder.load(_NAME, root)
    files = files or official()
    digests = {file.name: file.md5 and f"md5:{file.md5}" for file in files.files}
    if (root / files.folder).is_dir():
        return _assemble(files, published.from_folder(root, files.folder, digests))
    path = published.find(root, files.archive.name) or published.download(_NAME, root, files.archive)
    return _assemble(files, published.from_archive(path, files.archive, files.folder, digests))


def _assemble(files: OfficialArchive, found: published.OfficialFiles) -> Images:
    where, contents = found.where, found.contents
    train_images, train_labels, test_images, test_labels, _ = (file.name for file in files.files)
    train = _split(where / train_images, contents[train_images], contents[train_labels])
    test = _split(where / test_images, contents[test_images], contents[test_labels])
    classes = tuple(contents[_CLASS_NAMES].decode("utf-8", "backslashreplace").split())
    if len(classes) != DATASETS[_NAME].num_classes:
        raise damaged(where / _CLASS_NAMES, f"{len(classes)} class names")
    unpacked, by = found.unpacked(files.folder), found.official_by
    return Images(_NAME, train, test, classes, found.sources, True, found.reader, official_by=by, contents=unpacked)


def _split(path: Path, pixels: bytes, labels: bytes) -> Split:
    """Images and labels; the files count classes from 1."""
    if len(pixels) % (3 * _SIDE * _SIDE):
        raise damaged(path, f"{len(pixels)} bytes, no whole number of images of 3x{_SIDE}x{_SIDE}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, _SIDE, _SIDE).transpose(0, 1, 3, 2)
    return split_of(_NAME, path, images, np.frombuffer(labels, np.uint8).astype(np.int64) - 1)
