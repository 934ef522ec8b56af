"""Tiny ImageNet (Stanford CS 231n, 2015): 200 classes of 64x64 JPEGs, as its zip or unpacked, moving no file.

    tiny-imagenet-200/wnids.txt                       the classes
    tiny-imagenet-200/train/WNID/images/*.JPEG        500 of each
    tiny-imagenet-200/val/images/*.JPEG               10,000, in no order
    tiny-imagenet-200/val/val_annotations.txt         file, class, and a box that is not used
    tiny-imagenet-200/test/                           without labels: not used

The validation images are the test split here. Classes are numbered in the sorted order of their WordNet identifiers,
images come in the sorted order of their names. ``root`` may be the zip, a folder that holds it, the unpacked folder
or the one that holds that, or an image folder (train/CLASS/*, test/CLASS/*).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers import folder, published
from ndrepro.training.data.readers.decoding import decode, in_threads
from ndrepro.training.data.readers.images import Images, SourceFile, Split, counted, read_source, split_of
from ndrepro.training.data.readers.published import PublishedFile

_NAME = "tiny_imagenet"
_FOLDER = "tiny-imagenet-200"
# torchvision does not have it; the digest is that of the file as many have recorded it
OFFICIAL = PublishedFile(
    f"{_FOLDER}.zip", (f"http://cs231n.stanford.edu/{_FOLDER}.zip",), "90528d7ca1a48142e341f4ef8d21d0de"
)
_AFRESH = "unpack tiny-imagenet-200.zip afresh"
_ANNOTATIONS = "val/val_annotations.txt"

Read = Callable[[str], bytes]  # a file of the data set by its name below the top folder


def load(root: Path, file: PublishedFile = OFFICIAL) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    for top in (root, root / _FOLDER):
        if (top / _ANNOTATIONS).is_file():
            return _from_unpacked(top)
    if folder.is_image_folder(root):
        return folder.load(_NAME, root)
    return _from_zip(published.find(root, file.name) or published.download(_NAME, root, file), file)


def _from_zip(path: Path, file: PublishedFile) -> Images:
    archive, source = published.open_zip(path, file)
    prefix = f"{_FOLDER}/"
    names = [name[len(prefix) :] for name in archive.namelist() if name.startswith(prefix)]
    contents = {name: archive.read(prefix + name) for name in names if not name.startswith("test/")}

    def read(name: str) -> bytes:
        if name not in contents:
            raise DataError(f"{path}: {prefix}{name} is not in it", "copy or download it afresh")
        return contents[name]

    train, test, classes = _splits(path / _FOLDER, list(contents), read)
    by = "md5 of the published file, as many have recorded it"
    return Images(_NAME, train, test, classes, (source,), True, f"{file.name}, official", official_by=by)


def _from_unpacked(top: Path) -> Images:
    sources: dict[str, SourceFile] = {}

    def read(name: str) -> bytes:
        content, sources[name] = read_source(top / name, name)
        return content

    names = [path.relative_to(top).as_posix() for path in top.glob("train/*/images/*.JPEG")]
    train, test, classes = _splits(top, names, read)
    files = tuple(sources[name] for name in sorted(sources))
    return Images(_NAME, train, test, classes, files, None, f"{_FOLDER}, unpacked")


def _splits(top: Path, names: Sequence[str], read: Read) -> tuple[Split, Split, tuple[str, ...]]:
    classes = tuple(sorted(read("wnids.txt").decode("utf-8").split()))
    expected = DATASETS[_NAME].num_classes
    if len(set(classes)) != expected:
        raise DataError(f"{top / 'wnids.txt'}: {len(set(classes))} classes, expected {expected}", _AFRESH)
    number = {name: label for label, name in enumerate(classes)}
    images = sorted(name for name in names if name.startswith("train/") and name.endswith(".JPEG"))
    strangers = sorted({name.split("/")[1] for name in images} ^ set(classes))
    if strangers:
        raise DataError(f"{top / 'train'}: class folders and wnids.txt differ in {', '.join(strangers[:5])}", _AFRESH)
    train = _read(top, images, [number[name.split("/")[1]] for name in images], read)
    listed = _annotations(top / _ANNOTATIONS, read(_ANNOTATIONS), number)
    test = _read(top, [f"val/images/{name}" for name in listed], list(listed.values()), read)
    return train, test, classes


def _annotations(path: Path, content: bytes, number: dict[str, int]) -> dict[str, int]:
    """File name -> label, in the sorted order of the names."""
    labels = {}
    for line, row in enumerate(content.decode("utf-8").splitlines(), 1):
        name, _, rest = row.partition("\t")
        label = rest.partition("\t")[0]
        if not name or label not in number:
            raise DataError(f"{path}: line {line}: {row[:60]!r}, expected FILE, a tab, one of the 200 classes", _AFRESH)
        labels[name] = number[label]
    return dict(sorted(labels.items()))


def _read(top: Path, names: Sequence[str], labels: Sequence[int], read: Read) -> Split:
    facts = DATASETS[_NAME]
    contents = (read(name) for name in names)
    decoded = in_threads(
        lambda item: decode(top / item[0], item[1], facts.channels, facts.size), zip(names, contents, strict=True)
    )
    images = np.empty((len(names), facts.channels, facts.size, facts.size), dtype=np.uint8)
    for index, pixels in enumerate(counted(decoded, len(names), names[0].partition("/")[0] if names else "")):
        images[index] = pixels
    return split_of(_NAME, top, images, np.array(labels, dtype=np.int64))
