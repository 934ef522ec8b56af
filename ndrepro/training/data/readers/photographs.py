"""A data set of photographs that stay on disk: what to read, with the digest that each file must have.

It has the face of ``Images`` as far as a session needs one. Every file was digested before the run (or remembered,
see ``digest_cache``), and is digested again whenever it is read: what was recorded is what was trained on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment import split_sizes
from ndrepro.training.data.crops import centre_crop
from ndrepro.training.data.readers.class_folders import LeftOut
from ndrepro.training.data.readers.decoding import open_image
from ndrepro.training.data.readers.images import SourceFile, first_rows, read_bytes
from provenance.formats.digest import FileDigest, tree_digest

_SAMPLE = 8  # test images whose pixels are digested, to tell decoders apart
_SAMPLE_SIDE = 224


@dataclass(frozen=True)
class PhotographSplit:
    """Files below ``top`` and labels int64 (N,), in the order of training's numbering."""

    top: Path
    files: tuple[SourceFile, ...]
    labels: np.ndarray

    def first(self, count: int | None) -> PhotographSplit:
        """The first ``count`` photographs, of every class in turn where they lie by class; all for ``None``.

        Raises DataError if there are fewer.
        """
        if count is None:
            return self
        split_sizes.first(count, len(self.files))
        rows = first_rows(self.labels, count, by_class=bool((np.diff(self.labels) >= 0).all()))
        return PhotographSplit(self.top, tuple(self.files[row] for row in rows), self.labels[rows])

    def read(self, index: int) -> Image.Image:
        """One photograph, RGB. Raises DataError where it is not what was digested, or no whole image."""
        file = self.files[index]
        path = self.top / file.name
        try:
            content = read_bytes(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})", "put it back and resume the run") from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DataError(f"{path}: not the file whose digest was recorded", "put it back and resume the run")
        return open_image(path, content)


@dataclass(frozen=True)
class Photographs:
    """A data set: both splits, the classes' names in the order of labels, and every file, also those of labels.

    ``canonical``, ``reader`` and ``left_out`` are as in ``Images``.
    """

    name: str
    train: PhotographSplit
    test: PhotographSplit
    classes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    canonical: bool | None
    reader: str
    left_out: LeftOut

    def first(self, train: int | None, test: int | None) -> Photographs:
        """The same data set with only the first photographs of each split."""
        return replace(self, train=self.train.first(train), test=self.test.first(test))

    def describe(self) -> dict[str, Any]:
        """The JSON that goes into ``dataset.json``. ``labelled_sha256`` is the same in whatever layout files lie."""
        return {
            "name": self.name,
            "reader": f"{self.reader}; Pillow {PIL.__version__}, libjpeg {features.version('jpg')}",
            "canonical": self.canonical,
            "classes": list(self.classes),
            "train_images": len(self.train.files),
            "test_images": len(self.test.files),
            "files": len(self.files),
            "bytes": sum(file.size for file in self.files),
            "tree_sha256": tree_digest((file.name, FileDigest(file.size, file.sha256)) for file in self.files),
            "labelled_sha256": {"train": self._labelled(self.train), "test": self._labelled(self.test)},
            "pixels_sha256": {"unavailable": "photographs are decoded when they are needed"},
            "sample_pixels_sha256": self._sample(),
            "left_out": self.left_out.to_json(),
        }

    def _labelled(self, split: PhotographSplit) -> str:
        rows = zip(split.files, split.labels.tolist(), strict=True)
        text = "".join(f"{self.classes[label]} {file.sha256}\n" for file, label in rows)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def _sample(self) -> str:
        """Of the middles of the first test images, decoded, resized and cropped: decoders and resizers differ."""
        digest = hashlib.sha256()
        for index in range(min(_SAMPLE, len(self.test.files))):
            digest.update(centre_crop(self.test.read(index), _SAMPLE_SIDE).data)
        return digest.hexdigest()
