"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): the official archive, its unpacked files, or a folder of images.

``root`` may be the archive, a folder that holds it, a folder that holds its unpacked files, or an image folder; where
it holds none of them the archive is downloaded into it by torchvision. The data were published in several versions
with the same images in the same order; the one for Python and the binary one are read. Batches are checked against
published digests before anything in them is read, so that an archive packed anew is official as well.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers import folder, published
from ndrepro.training.data.readers.images import Images, Split, damaged, split_of

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class OfficialBatches:
    """One published version of a data set: the archive, and within it one file a batch, each with its digest.

    ``names`` is the file of class names, ``names_digest`` its digest. Batches for Python are pickled, with labels
    under ``label_key``; binary ones (no ``label_key``) have ``label_bytes`` before each image, of which the last is
    the label.
    """

    name: str
    file: published.PublishedFile
    folder: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    names: str
    names_key: str = ""
    names_digest: str = ""
    label_key: str = ""
    label_bytes: int = 1

    @property
    def digests(self) -> dict[str, str]:
        """The digest of every file that is read, "" where none was published."""
        return {**self.train, **self.test, self.names: self.names_digest}


def official(name: str) -> OfficialBatches:
    """The version for Python as torchvision knows it."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    return OfficialBatches(
        name=name,
        file=published.PublishedFile(kind.filename, (kind.url,), kind.tgz_md5),
        folder=kind.base_folder,
        train={file: f"md5:{md5}" for file, md5 in kind.train_list},
        test={file: f"md5:{md5}" for file, md5 in kind.test_list},
        names=kind.meta["filename"],
        names_key=kind.meta["key"],
        names_digest=f"md5:{kind.meta['md5']}",
        label_key="labels" if name == "cifar10" else "fine_labels",
    )


# The digests are those that Apache MXNet publishes with its own reader (gluon.data.vision).
BINARY = {
    "cifar10": OfficialBatches(
        name="cifar10",
        file=published.PublishedFile("cifar-10-binary.tar.gz", (), ""),
        folder="cifar-10-batches-bin",
        train={
            "data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
            "data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
            "data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
            "data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
            "data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
        },
        test={"test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c"},
        names="batches.meta.txt",
    ),
    "cifar100": OfficialBatches(
        name="cifar100",
        file=published.PublishedFile("cifar-100-binary.tar.gz", (), ""),
        folder="cifar-100-binary",
        train={"train.bin": "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e"},
        test={"test.bin": "sha1:8fb6623e830365ff53cf14adec797474f5478006"},
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


def load(name: str, root: Path, files: OfficialBatches | None = None, binary: OfficialBatches | None = None) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    if folder.is_image_folder(root):
        return folder.load(name, root)
    versions = (files or official(name), binary or BINARY[name])
    for version in versions:
        if (root / version.folder).is_dir():
            return _from_unpacked(version, root)
    if root.is_file():
        return _from_archive(versions["binary" in root.name], root)
    for version in versions:
        if (archive := published.find(root, version.file.name)) is not None:
            return _from_archive(version, archive)
    return _from_archive(versions[0], published.download(name, root, versions[0].file))


def _from_archive(version: OfficialBatches, path: Path) -> Images:
    return _assemble(version, published.from_archive(path, version.file, version.folder, version.digests))


def _from_unpacked(version: OfficialBatches, root: Path) -> Images:
    by = published.BY_CONTENT if version.file.md5 == "" else published.BY_FILE
    return _assemble(version, published.from_folder(root, version.folder, version.digests, by))


def _assemble(version: OfficialBatches, files: published.OfficialFiles) -> Images:
    where, contents = files.where, files.contents
    train = _split(version, where, [contents[name] for name in version.train])
    test = _split(version, where, [contents[name] for name in version.test])
    classes = _damage(where / version.names, lambda: _class_names(version, contents[version.names]))
    if len(classes) != DATASETS[version.name].num_classes:
        raise damaged(where / version.names, f"{len(classes)} class names")
    unpacked, by = files.unpacked(version.folder), files.official_by
    return Images(
        version.name, train, test, classes, files.sources, True, files.reader, official_by=by, contents=unpacked
    )


def _split(version: OfficialBatches, where: Path, contents: list[bytes]) -> Split:
    batches = _damage(where, lambda: [_batch(version, content) for content in contents])
    images = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, _SIDE, _SIDE)
    return split_of(version.name, where, images, np.concatenate([labels for _, labels in batches]))


def _batch(version: OfficialBatches, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (N, 3072) and labels int64 (N,) of one file."""
    if version.label_key:
        batch = _unpickle(content)
        return batch["data"].reshape(-1, _PIXELS), np.asarray(batch[version.label_key], dtype=np.int64)
    rows = np.frombuffer(content, np.uint8).reshape(-1, version.label_bytes + _PIXELS)
    return rows[:, version.label_bytes :], rows[:, version.label_bytes - 1].astype(np.int64)


def _class_names(version: OfficialBatches, content: bytes) -> tuple[str, ...]:
    return tuple(_unpickle(content)[version.names_key] if version.names_key else content.decode("utf-8").split())


def _damage(path: Path, parse: Callable[[], Any]) -> Any:
    """What ``parse`` returns. Raises DataError naming ``path`` for whatever parsing runs into."""
    try:
        return parse()
    except DataError:
        raise
    except Exception as error:
        raise damaged(path, f"damaged ({error or type(error).__name__})") from None


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
