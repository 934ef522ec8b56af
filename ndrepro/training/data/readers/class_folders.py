"""Folders of images, one for each class: which of the files are images, and which are left out and why.

A file is an image if its suffix or its first bytes say so. Folders within a class folder belong to the class, as in
torchvision's ImageFolder. Everything else is counted, so that nothing disappears from a data set unnoticed: hidden
files and folders (``.DS_Store``, macOS' ``._1.png``), files of other kinds, files beside the class folders. What has
the suffix of an image and is no regular file (a FIFO, a link that leads nowhere) is an error.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import DataError
from provenance.capture.unavailable import printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
HIDDEN = "hidden (the name begins with a dot)"
NO_IMAGE = "no image by suffix or content"
NO_REGULAR_FILE = "no regular file"
OUTSIDE = "outside of the class folders"
NOT_USED = "split that is not used"
_EXAMPLES = 10
# ImageNet has 1.33 million; links to folders can make any number of a few files
_MOST_ENTRIES = 2_000_000
_HEAD_BYTES = 16


@dataclass(frozen=True)
class LeftOut:
    """Files and hidden folders of a data folder that are not read: the name of each with the reason."""

    entries: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``count``; ``reasons``, the count for each; ``examples``, the first names in sorted order."""
        reasons = Counter(reason for _, reason in self.entries)
        examples = sorted(name for name, _ in self.entries)[:_EXAMPLES]
        return {"count": len(self.entries), "reasons": dict(sorted(reasons.items())), "examples": examples}

    def summary(self) -> str:
        """One line with the counts and one name, "" for nothing."""
        if not self.entries:
            return ""
        record = printable(self.to_json())
        reasons = ", ".join(f"{count} {reason}" for reason, count in record["reasons"].items())
        return f"{record['count']} left out: {reasons}; e.g. {record['examples'][0]}"

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.entries + other.entries)


def class_names(root: Path, split: str) -> tuple[tuple[str, ...], LeftOut]:
    """The class folders in ``root / split``, sorted by name, and what else is beside them.

    Raises DataError for two names that are the same text in different Unicode normalisation forms.
    """
    names, others = [], []
    for entry in _entries(root / split):
        if entry.name.startswith("."):
            others.append((f"{split}/{entry.name}", HIDDEN))
        elif _is_folder(entry):
            names.append(entry.name)
        else:
            others.append((f"{split}/{entry.name}", OUTSIDE))
    twins = [name for name, count in Counter(map(_normal, names)).items() if count > 1]
    if twins:
        raise DataError(
            f"{root / split}: two class folders are called {twins[0]}, in different Unicode normalisation forms",
            "keep one of them",
        )
    return tuple(sorted(names)), LeftOut(tuple(others))


def beside_splits(root: Path, splits: Sequence[str]) -> LeftOut:
    """What is in ``root`` beside the folders of the splits. Raises DataError where it cannot be read."""
    names = (entry.name for entry in _entries(root))
    return LeftOut(tuple((name, HIDDEN if name.startswith(".") else OUTSIDE) for name in names if name not in splits))


def images_below(root: Path, folder: str) -> tuple[list[str], LeftOut]:
    """The images below ``root / folder``, by their names relative to ``root``, sorted; and what else is there.

    Raises DataError for a folder that cannot be read or holds a link to a folder above it, and for what has the
    suffix of an image and is no regular file.
    """
    images, others = [], []
    for count, (name, reason) in enumerate(_walk(root, folder, frozenset())):
        if count >= _MOST_ENTRIES:
            raise DataError(
                f"{root / folder}: more than {_MOST_ENTRIES:,} files, links to folders counted each time",
                "remove links to folders",
            )
        if reason:
            others.append((name, reason))
        else:
            images.append(name)
    return sorted(images), LeftOut(tuple(others))


def check_same_classes(folder: Path, classes: Sequence[str], expected: Sequence[str], other: str) -> None:
    """Raises DataError unless the class folders of two splits have the same names; ``other`` is the second's name."""
    missing, extra = sorted(set(expected) - set(classes)), sorted(set(classes) - set(expected))
    if not missing and not extra:
        return
    alike = set(map(_normal, missing)) & set(map(_normal, extra))
    note = f"; {min(alike)} is in both, in different Unicode normalisation forms" if alike else ""
    raise DataError(
        f"{folder}: class folders missing: {_list(missing)}; not in {other}: {_list(extra)}{note}",
        "give both splits the same class folders",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _walk(root: Path, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Name and reason to leave it out, "" for an image, of every file below; of a hidden folder the folder alone."""
    path = root / folder
    entries = _entries(path)
    status = path.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise DataError(f"{path}: a link to a folder above it", "remove the link")
    for entry in entries:
        name = f"{folder}/{entry.name}"
        if entry.name.startswith("."):
            yield name, HIDDEN
        elif _is_folder(entry):
            yield from _walk(root, name, above | {here})
        else:
            yield name, _why_no_image(entry)


def _why_no_image(entry: os.DirEntry[str]) -> str:
    named = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    if not entry.is_file():
        if named:
            raise DataError(f"{entry.path}: not a regular file, nor a link to one", "remove it, or put the image there")
        return NO_REGULAR_FILE
    return "" if named or _begins_like_image(entry.path) else NO_IMAGE


def _begins_like_image(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return bitmap or webp or head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link to itself
        raise _unreadable(entry.path, error) from None


def _unreadable(path: str | Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror})", "see to its rights, or copy it afresh")


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
