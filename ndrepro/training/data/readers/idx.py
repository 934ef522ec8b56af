"""MNIST, Fashion-MNIST and EMNIST Balanced: grey images of 28x28 in IDX files (LeCun, Cortes and Burges 1998).

``root`` may be an image folder, or hold the official files, where torchvision puts them (``MNIST/raw``) or directly:
four ``.gz`` files; for EMNIST the one ``gzip.zip`` that has all its splits. Files that somebody has unpacked or packed
anew are read too, and are official if what is in them is, where that is known (not of EMNIST). What is missing is
downloaded from the addresses that torchvision knows. Images of EMNIST are transposed, rows and columns exchanged, as
the files have them and torchvision reads them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import IDX_SHA256
from ndrepro.training.data.readers import folder, published
from ndrepro.training.data.readers.images import Images, SourceFile, damaged, gunzip, read_source, split_of
from ndrepro.training.data.readers.published import PublishedFile

_UNSIGNED_BYTE = 0x08
_MOST_BYTES = 16 + 112_800 * 28 * 28  # EMNIST Balanced's training images, the largest of these files


@dataclass(frozen=True)
class OfficialIdxFiles:
    """The official files of one data set.

    ``files`` are images and labels of the training split, then of the test split. ``archive`` is a zip that holds
    them in its folder "gzip", where they are published so. ``folder`` is where torchvision keeps them.
    """

    name: str
    folder: str
    files: tuple[PublishedFile, ...]
    archive: PublishedFile | None
    classes: tuple[str, ...]


def official(name: str) -> OfficialIdxFiles:
    """The official files as torchvision knows them."""
    from torchvision.datasets import EMNIST, MNIST, FashionMNIST

    if name == "emnist_balanced":
        parts = [f"{split}-{kind}" for split in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
        inside = tuple(PublishedFile(f"emnist-balanced-{part}-ubyte.gz", (), "") for part in parts)
        archive = PublishedFile("gzip.zip", (EMNIST.url,), EMNIST.md5)
        return OfficialIdxFiles(name, "EMNIST/raw", inside, archive, tuple(EMNIST.classes_split_dict["balanced"]))
    kind = {"mnist": MNIST, "fashion_mnist": FashionMNIST}[name]
    files = tuple(
        PublishedFile(file, tuple(f"{url}{file}" for url in kind.mirrors), md5, f"sha256:{content}")
        for (file, md5), content in zip(kind.resources, IDX_SHA256[name], strict=True)
    )
    return OfficialIdxFiles(name, f"{kind.__name__}/raw", files, None, tuple(kind.classes))


def load(name: str, root: Path, files: OfficialIdxFiles | None = None) -> Images:
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


def _from_zip(files: OfficialIdxFiles, file: PublishedFile, path: Path) -> Images:
    archive, source = published.open_zip(path, file)
    members, contents = [f"gzip/{each.name}" for each in files.files], []
    for member in members:
        try:
            contents.append(_gunzip(path / member, archive.read(member)))
        except (KeyError, zipfile.BadZipFile) as error:
            raise damaged(path, str(error)) from None
    paths = [path / member for member in members]  # names for messages only
    return _assemble(files, path, paths, contents, (source,), True, f"{file.name}, official", published.BY_FILE)


def _from_files(files: OfficialIdxFiles, root: Path) -> Images:
    if root.is_file():
        raise DataError(
            f"{root}: a file; {files.name} has several", f"name the folder that holds {files.files[0].name}"
        )
    paths, contents, sources, official_by = [], [], [], []
    for file in files.files:
        path = _find(root, files, file) or published.download(files.name, root / files.folder, file)
        content, source, by = _read(path, path.relative_to(root).as_posix(), file)
        paths.append(path)
        contents.append(content)
        sources.append(source)
        official_by.append(by)
    known = all(file.content for file in files.files)
    canonical = True if all(official_by) else False if known else None
    by = published.BY_CONTENT if published.BY_CONTENT in official_by else published.BY_FILE
    reader = "IDX files, official" if canonical else "IDX files, unpacked"
    return _assemble(files, root, paths, contents, tuple(sources), canonical, reader, by if canonical else "")


def _read(path: Path, name: str, file: PublishedFile) -> tuple[bytes, SourceFile, str]:
    """A file's content, uncompressed; the file; the digests that say it is official, "" where none does.

    Raises DataError for a compressed file of the official name that is official by neither digest.
    """
    content, source = read_source(path, name)
    if path.name != file.name:
        return content, source, published.BY_CONTENT if published.is_official(content, file.content) else ""
    if not file.md5:
        return _gunzip(path, content), source, ""
    if published.is_official(content, f"md5:{file.md5}"):
        return _gunzip(path, content), source, published.BY_FILE
    with suppress(DataError):
        unpacked = _gunzip(path, content)
        if published.is_official(unpacked, file.content):
            return unpacked, source, published.BY_CONTENT
    raise published.not_official(path, content, f"md5:{file.md5}")


def _unpacked(root: Path, files: OfficialIdxFiles) -> bool:
    return all(_find(root, files, file) is not None for file in files.files)


def _find(root: Path, files: OfficialIdxFiles, file: PublishedFile) -> Path | None:
    """The file as published, else unpacked."""
    below = (files.folder, f"{files.folder}/gzip")
    return published.find(root, file.name, below) or published.find(root, file.name[: -len(".gz")], below)


def _assemble(
    files: OfficialIdxFiles,
    where: Path,
    paths: Sequence[Path],
    contents: Sequence[bytes],
    sources: tuple[SourceFile, ...],
    canonical: bool | None,
    reader: str,
    official_by: str,
) -> Images:
    names = [file.name.removesuffix(".gz") for file in files.files]
    arrays = [_parse(path, content) for path, content in zip(paths, contents, strict=True)]
    unpacked = tuple(SourceFile.of(name, content) for name, content in zip(names, contents, strict=True))
    train = split_of(files.name, where, arrays[0][:, None], arrays[1].astype(np.int64))
    test = split_of(files.name, where, arrays[2][:, None], arrays[3].astype(np.int64))
    return Images(
        files.name, train, test, files.classes, sources, canonical, reader, official_by=official_by, contents=unpacked
    )


def _gunzip(path: Path, content: bytes) -> bytes:
    try:
        return gunzip(content, _MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, f"damaged ({error})") from None


def _parse(path: Path, content: bytes) -> np.ndarray:
    """The array in an IDX file: two zero bytes, the type, the number of dimensions, each as four bytes, the data.

    Images (N, H, W) or labels (N,), whichever the name says, uint8.
    """
    dimensions = 3 if "idx3" in path.name else 1
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise damaged(path, f"no IDX file of {dimensions} dimensions")
    shape = tuple(int(extent) for extent in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise damaged(path, f"{len(content) - header} bytes of data, its header says {shape}: truncated or damaged")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
