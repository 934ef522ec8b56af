"""What every data set is read into: uint8 images and labels of two splits, and the digest of every file read.

``SourceFile`` digests are taken from the very bytes that were decoded, in the same read: what was hashed is what was
trained on. ``pixels_sha256`` is over the decoded arrays, since decoders of compressed images differ between versions.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers.class_folders import LeftOut
from provenance.formats.digest import FileDigest, tree_digest

Item = TypeVar("Item")
# the event of sys.audit for each image that is read
IMAGES_READ = "ndrepro.images_read"


@dataclass(frozen=True)
class SourceFile:
    """One file of the data: its name below the data folder, size in bytes, sha256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, content: bytes) -> SourceFile:
        """The file of that name and content."""
        return cls(name, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, H, W), or float32 on the same scale where they are noise, and labels int64 (N,).

    ``by_class`` is true where they lie class after class, as a reader of folders finds them.
    """

    images: np.ndarray
    labels: np.ndarray
    by_class: bool = False

    def first(self, count: int | None) -> Split:
        """The first ``count`` images, of every class in turn where they lie by class; all for ``None``.

        Their order stays. Raises DataError if there are fewer.
        """
        if count is None:
            return self
        split_sizes.first(count, len(self.labels))
        rows = first_rows(self.labels, count, self.by_class)
        return Split(self.images[rows], self.labels[rows], self.by_class)


@dataclass(frozen=True)
class Images:
    """A data set as read: both splits, the classes' names in the order of labels, the files, and how it was read.

    ``canonical`` is true where the files are the official ones by digest, false where they are not, ``None`` where
    no official digest is known; ``official_by`` says which digests say so; ``reader`` says which reader decoded them.
    ``contents`` are files as they were before somebody compressed or archived them, so that copies that were packed
    differently compare equal. ``left_out`` is what an image folder holds
    besides, ``None`` for readers that look at named files only.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    canonical: bool | None
    reader: str
    left_out: LeftOut | None = None
    official_by: str = ""
    contents: tuple[SourceFile, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The JSON that goes into ``dataset.json``."""
        entries = [(item.name, FileDigest(item.size, item.sha256)) for item in self.files]
        return {
            "name": self.name,
            "reader": self.reader,
            "canonical": self.canonical,
            "classes": list(self.classes),
            "train_images": len(self.train.labels),
            "test_images": len(self.test.labels),
            "files": len(self.files),
            "bytes": sum(item.size for item in self.files),
            "tree_sha256": tree_digest(entries),
            "pixels_sha256": {"train": _pixels(self.train), "test": _pixels(self.test)},
            **({"official_by": self.official_by} if self.official_by else {}),
            **({"content_sha256": {item.name: item.sha256 for item in self.contents}} if self.contents else {}),
            **({} if self.left_out is None else {"left_out": self.left_out.to_json()}),
        }

    def first(self, train: int | None, test: int | None) -> Images:
        """The same data set with only the first images of each split."""
        return replace(self, train=self.train.first(train), test=self.test.first(test))


def counted(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items as they come; before each, an audit event has ``what``, how many came, and ``total``.

    It costs nothing where no hook listens, as ``ndrepro.training.data.__main__`` does.
    """
    for done, item in enumerate(items):
        sys.audit(IMAGES_READ, what, done, total)
        yield item


def first_rows(labels: np.ndarray, count: int, by_class: bool) -> np.ndarray:
    """The first ``count`` places, ascending; with ``by_class`` (ascending labels) of every class in turn."""
    if not by_class:
        return np.arange(count)
    in_class = np.arange(len(labels)) - np.searchsorted(labels, labels, side="left")
    return np.sort(np.argsort(in_class, kind="stable")[:count])


def _pixels(split: Split) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels.astype("<i8")).data)
    return digest.hexdigest()


def split_of(name: str, where: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    """A split of the data set ``name``, read from ``where``, if images and labels are what the catalogue says.

    ``images`` (N, C, H, W), ``labels`` (N,) of any integer type. Raises DataError naming the file.
    """
    facts = DATASETS[name]
    if images.shape[1:] != (facts.channels, facts.size, facts.size):
        shape = "x".join(str(extent) for extent in images.shape[1:])
        raise DataError(
            f"{where}: images of {shape}, {name} has {facts.channels}x{facts.size}x{facts.size}",
            f"copy or download {name} afresh, or name the data set that these are",
        )
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(labels)} labels for {len(images)} images", "take both from the same release")
    if not len(labels):
        raise DataError(f"{where}: it holds no image", f"copy or download {name} afresh")
    wrong = labels[(labels < 0) | (labels >= facts.num_classes)]
    if len(wrong):
        raise DataError(
            f"{where}: a label {wrong[0]}, {name} has 0 to {facts.num_classes - 1}",
            f"use the label file that belongs to {name}",
        )
    return Split(np.ascontiguousarray(images), labels.astype(np.int64))


def damaged(path: Path, what: str) -> DataError:
    """The error for a published file that is not as it was published."""
    return DataError(f"{path}: {what}", "copy or download it afresh")


def read_bytes(path: Path) -> bytes:
    """A whole regular file. Raises OSError, and never waits for somebody to write into a FIFO."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def gunzip(content: bytes, most: int) -> bytes:
    """What is compressed in ``content``. Raises OSError, EOFError or zlib.error for damage, or more than ``most``.

    No more than that is ever in memory: some hundred kilobytes can stand for a gigabyte.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        unpacked = stream.read(most + 1)
    if len(unpacked) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes when unpacked")
    return unpacked


def read_source(path: Path, name: str) -> tuple[bytes, SourceFile]:
    """A whole file and its digest, from one read. Raises DataError naming it."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", "name the file, or the folder that holds it, with --data PATH"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it afresh") from None
    return content, SourceFile.of(name, content)
