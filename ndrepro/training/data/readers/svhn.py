"""SVHN, cropped digits (Netzer et al. 2011): two official MATLAB files of 32x32 colour images, or an image folder.

The ten classes are the digits 0 to 9; the files call the zero 10. The images come in the files' own order. The
"extra" images are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import folder, published
from ndrepro.training.data.readers.images import Images, SourceFile, Split, damaged, split_of
from ndrepro.training.data.readers.matlab import read_mat
from ndrepro.training.data.readers.published import PublishedFile

_NAME = "svhn"


@dataclass(frozen=True)
class OfficialMatFiles:
    """The official files of the two splits."""

    train: PublishedFile
    test: PublishedFile


def official() -> OfficialMatFiles:
    """The official files as torchvision knows them."""
    from torchvision.datasets import SVHN

    def file(split: str) -> PublishedFile:
        url, name, md5 = SVHN.split_list[split]
        return PublishedFile(name, (url,), md5)

    return OfficialMatFiles(file("train"), file("test"))


def load(root: Path, files: OfficialMatFiles | None = None) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    if folder.is_image_folder(root):
        return folder.load(_NAME, root)
    files = files or official()
    if root.is_file():
        raise DataError(f"{root}: a file; {_NAME} has two", f"name the folder that holds {files.train.name}")
    (train, train_file), (test, test_file) = _split(root, files.train), _split(root, files.test)
    classes = tuple(str(digit) for digit in range(10))
    sources = (train_file, test_file)
    return Images(_NAME, train, test, classes, sources, True, "MATLAB files, official", official_by=published.BY_FILE)


def _split(root: Path, file: PublishedFile) -> tuple[Split, SourceFile]:
    path = published.find(root, file.name) or published.download(_NAME, root, file)
    content, source = published.read(path, file.name, f"md5:{file.md5}")
    variables = read_mat(path, content)
    images, labels = _array(path, variables, "X", 4, "u"), _array(path, variables, "y", 2, "uif")
    # (H, W, C, N), the first index fastest
    return split_of(_NAME, path, images.transpose(3, 2, 0, 1), labels.reshape(-1).astype(np.int64) % 10), source


def _array(path: Path, variables: dict[str, Any], name: str, dimensions: int, kinds: str) -> np.ndarray:
    """A variable with so many dimensions, of a type of one of the ``kinds`` (numpy's letters)."""
    found = variables.get(name)
    if not isinstance(found, np.ndarray) or found.ndim != dimensions or found.dtype.kind not in kinds:
        raise damaged(path, f"no array '{name}' of {dimensions} dimensions with numbers")
    return found
