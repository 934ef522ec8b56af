"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the official archive, its unpacked files, or a folder of images.

``root`` may be the archive, a folder that holds it, a folder that holds its unpacked files, or an image folder; where
it holds none of them the archive is downloaded into it by torchvision. Official files are checked against the digests
that torchvision knows before anything in them is read.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.training.data import published
from ndrepro.training.data.readers import folder
from ndrepro.training.data.readers.images import Images, SourceFile, Split

_SIDE = 32


@dataclass(frozen=True)
class Official:
    """The official files of one data set: the archive, and within it one file a batch, each with its md5.

    md5 is what the distributor published; it guards against damage, and ``dataset.json`` records sha256 beside it.
    """

    name: str
    url: str
    archive: str
    archive_md5: str
    folder: str
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    label_key: str
    names: tuple[str, str]  # the file of class names, and the key in it

    @property
    def file(self) -> published.PublishedFile:
        """The archive."""
        return published.PublishedFile(self.archive, (self.url,), self.archive_md5)


def official(name: str) -> Official:
    """The official files as torchvision knows them."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    return Official(
        name=name,
        url=kind.url,
        archive=kind.filename,
        archive_md5=kind.tgz_md5,
        folder=kind.base_folder,
        train=tuple((file, md5) for file, md5 in kind.train_list),
        test=tuple((file, md5) for file, md5 in kind.test_list),
        label_key="labels" if name == "cifar10" else "fine_labels",
        names=(kind.meta["filename"], kind.meta["key"]),
    )


def load(name: str, root: Path, files: Official | None = None) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    if folder.is_image_folder(root):
        return folder.load(name, root)
    files = files or official(name)
    if (root / files.folder).is_dir():
        return _from_unpacked(files, root)
    archive = published.find(root, files.archive) or published.download(name, root, files.file)
    return _from_archive(files, archive)


def _from_archive(files: Official, archive: Path) -> Images:
    members = [f"{files.folder}/{name}" for name, _ in (*files.train, *files.test, files.names)]
    contents, source = published.read_tar(archive, files.file, members)

    def read(member: str) -> bytes:
        return contents[f"{files.folder}/{member}"]

    return _assemble(files, read, (source,), f"{files.archive}, official")


def _from_unpacked(files: Official, root: Path) -> Images:
    sources: list[SourceFile] = []
    expected = dict(files.train + files.test)

    def read(member: str) -> bytes:
        path = root / files.folder / member
        content, source = published.read(path, f"{files.folder}/{member}", expected.get(member, ""))
        sources.append(source)
        return content

    images = _assemble(files, read, (), f"{files.folder}, official")
    return Images(images.name, images.train, images.test, images.classes, tuple(sources), True, images.reader)


def _assemble(files: Official, read: Callable[[str], bytes], sources: tuple[SourceFile, ...], reader: str) -> Images:
    train = _batches([read(member) for member, _ in files.train], files.label_key)
    test = _batches([read(member) for member, _ in files.test], files.label_key)
    member, key = files.names
    classes = tuple(_unpickle(read(member))[key])
    return Images(files.name, train, test, classes, sources, True, reader)


def _batches(contents: list[bytes], label_key: str) -> Split:
    batches = [_unpickle(content) for content in contents]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, _SIDE, _SIDE)
    labels = np.concatenate([np.asarray(batch[label_key], dtype=np.int64) for batch in batches])
    return Split(images, labels)


class _ArraysOnly(pickle.Unpickler):
    """Reads plain containers and numpy arrays; anything else in the file is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        """The few callables that an array needs, under the names of any numpy."""
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype"):
            return {"_reconstruct": np.zeros(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}[name]
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise DataError(f"a data file asks for {module}.{name}: it is no CIFAR batch", "download the archive afresh")


def _unpickle(content: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    return loaded
