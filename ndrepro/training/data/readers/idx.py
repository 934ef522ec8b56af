"""MNIST, Fashion-MNIST and EMNIST Balanced: grey images of 28x28 in IDX files (LeCun, Cortes and Burges 1998).

``root`` may be an image folder, or hold the official files, where torchvision puts them (``MNIST/raw``) or directly:
four ``.gz`` files; for EMNIST the one ``gzip.zip`` that has all its splits. Files that somebody has unpacked are read
too, but no digest of those was ever published, so ``canonical`` is then not known. What is missing is downloaded from
the addresses that torchvision knows. Images of EMNIST lie on their side, rows and columns exchanged, as the files
have them and torchvision reads them.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.training.data import published
from ndrepro.training.data.published import PublishedFile
from ndrepro.training.data.readers import folder
from ndrepro.training.data.readers.images import Images, SourceFile, split_of

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class Official:
    """The official files of one data set.

    ``files`` are images and labels of the training split, then of the test split. ``archive`` is a zip that holds
    them in its folder "gzip", where they are published so. ``folder`` is where torchvision keeps them.
    """

    name: str
    folder: str
    files: tuple[PublishedFile, ...]
    archive: PublishedFile | None
    classes: tuple[str, ...]


def official(name: str) -> Official:
    """The official files as torchvision knows them."""
    from torchvision.datasets import EMNIST, MNIST, FashionMNIST

    if name == "emnist_balanced":
        parts = [f"{split}-{kind}" for split in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
        inside = tuple(PublishedFile(f"emnist-balanced-{part}-ubyte.gz", (), "") for part in parts)
        archive = PublishedFile("gzip.zip", (EMNIST.url,), EMNIST.md5)
        return Official(name, "EMNIST/raw", inside, archive, tuple(EMNIST.classes_split_dict["balanced"]))
    kind = {"mnist": MNIST, "fashion_mnist": FashionMNIST}[name]
    files = tuple(
        PublishedFile(file, tuple(f"{url}{file}" for url in kind.mirrors), md5) for file, md5 in kind.resources
    )
    return Official(name, f"{kind.__name__}/raw", files, None, tuple(kind.classes))


def load(name: str, root: Path, files: Official | None = None) -> Images:
    """The data set from wherever ``root`` has it. Raises DataError naming the file and the cure."""
    if folder.is_image_folder(root):
        return folder.load(name, root)
    files = files or official(name)
    if files.archive is not None:
        archive = published.find(root, files.archive.name, (files.folder,))
        if archive is not None or not _unpacked(root, files):
            archive = archive or published.download(name, root / files.folder, files.archive)
            return _from_zip(files, files.archive, archive)
    return _from_files(files, root)


def _from_zip(files: Official, file: PublishedFile, path: Path) -> Images:
    archive, source = published.open_zip(path, file)
    arrays = []
    for member in (f"gzip/{each.name}" for each in files.files):
        where = path / member  # a name for messages only
        try:
            arrays.append(_parse(where, _gunzip(where, archive.read(member))))
        except (KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: {error}", "copy or download it afresh") from None
    return _assemble(files, path, arrays, (source,), True, f"{file.name}, official")


def _from_files(files: Official, root: Path) -> Images:
    if root.is_file():
        raise DataError(
            f"{root}: a file; {files.name} has several", f"name the folder that holds {files.files[0].name}"
        )
    arrays, sources, all_official = [], [], True
    for file in files.files:
        path = _find(root, files, file) or published.download(files.name, root / files.folder, file)
        packed = path.name == file.name
        content, source = published.read(path, path.relative_to(root).as_posix(), file.md5 if packed else "")
        arrays.append(_parse(path, _gunzip(path, content) if packed else content))
        sources.append(source)
        all_official = all_official and packed and bool(file.md5)
    reader = "IDX files, official" if all_official else "IDX files, unpacked"
    return _assemble(files, root, arrays, tuple(sources), True if all_official else None, reader)


def _unpacked(root: Path, files: Official) -> bool:
    return all(_find(root, files, file) is not None for file in files.files)


def _find(root: Path, files: Official, file: PublishedFile) -> Path | None:
    """The file as published, else unpacked."""
    below = (files.folder, f"{files.folder}/gzip")
    return published.find(root, file.name, below) or published.find(root, file.name[: -len(".gz")], below)


def _assemble(
    files: Official,
    where: Path,
    arrays: list[np.ndarray],
    sources: tuple[SourceFile, ...],
    canonical: bool | None,
    reader: str,
) -> Images:
    train = split_of(files.name, where, arrays[0][:, None], arrays[1].astype(np.int64))
    test = split_of(files.name, where, arrays[2][:, None], arrays[3].astype(np.int64))
    return Images(files.name, train, test, files.classes, sources, canonical, reader)


def _gunzip(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error})", "copy or download it afresh") from None


def _parse(path: Path, content: bytes) -> np.ndarray:
    """The array in an IDX file: two zero bytes, the type, the number of dimensions, each as four bytes, the data.

    Images (N, H, W) or labels (N,), whichever the name says, uint8.
    """
    dimensions = 3 if "idx3" in path.name else 1
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(f"{path}: no IDX file of {dimensions} dimensions", "copy or download it afresh")
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{path}: {len(content) - header} bytes of data, its header says {shape}: cut short or damaged",
            "copy or download it afresh",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
