"""A data set of the user's own, in whichever form it is; what it holds is read from it.

* a folder ``train/CLASS/…``, ``test/CLASS/…`` as ``folder`` reads it
* a file ``.npz`` with the arrays of ``npz_arrays.ARRAYS``: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1
  or 3 channels, and whole-number labels (N,) or (N, 1) from 0 on
* a folder that ``datasets`` wrote (``saved_dataset``)

Images are square and of one size; files of images are grey where every one of them is. Every class has training images.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.own import OWN_DATASET, SAVED_DATASET, OwnImages
from ndrepro.training.data.own_data import npz_arrays
from ndrepro.training.data.own_data.limits import expect_unpacked
from ndrepro.training.data.own_data.saved_dataset import SavedDataset, SavedSplit, is_saved, read_saved
from ndrepro.training.data.readers import folder
from ndrepro.training.data.readers.class_folders import NOT_USED, LeftOut, beside_splits, class_names, images_below
from ndrepro.training.data.readers.decoding import FORMATS, decode, in_threads
from ndrepro.training.data.readers.images import Images, Split, counted, read_source

_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")


def load(root: Path) -> Images:
    """The data set in ``root``. Raises DataError naming the file, array or column, and what was expected."""
    if is_saved(root):
        return _from_saved(root)
    if folder.is_image_folder(root):
        return _from_folder(root)
    if root.is_file() and zipfile.is_zipfile(root):
        return npz_arrays.load(root)
    raise DataError(
        f"{root}: neither a folder with train/CLASS/ and test/CLASS/, nor a file .npz, nor a folder of save_to_disk",
        "name one with --data PATH; numpy.savez writes such a file",
    )


def images_of(data: Images) -> OwnImages:
    """What the data hold: counts, and mean and deviation of the training pixels to four decimals.

    They are made from whole numbers, so they are the same wherever they are computed.
    """
    means, deviations = [], []
    for channel in range(data.train.images.shape[1]):
        counts = np.bincount(data.train.images[:, channel].reshape(-1), minlength=256).tolist()
        number = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        means.append(total / number / 255)
        # of images of one colour: a deviation that can be divided by
        deviations.append(max(math.sqrt(squares * number - total * total) / number / 255, 0.01))
    return OwnImages(
        classes=len(data.classes),
        channels=data.train.images.shape[1],
        size=data.train.images.shape[-1],
        train_images=len(data.train.labels),
        test_images=len(data.test.labels),
        mean=",".join(f"{value:.4f}" for value in means),
        std=",".join(f"{value:.4f}" for value in deviations),
    )


def _from_folder(root: Path) -> Images:
    classes, _ = class_names(root, "train")
    paths = [
        root / path
        for split in ("train", "test")
        for name in classes
        if (root / split / name).is_dir()
        for path in images_below(root, f"{split}/{name}")[0]
    ]
    encoded = ((path, read_source(path, path.name)[0]) for path in counted(paths, len(paths), "sizes"))
    channels, side = _common(root, encoded)
    return folder.load_shaped(OWN_DATASET, root, len(classes), channels, side)


def _from_saved(root: Path) -> Images:
    saved = read_saved(root)
    stored = sum(item.size for split in (saved.train, saved.test) for item in split.files)
    if isinstance(saved.train.images, np.ndarray):
        shape = None
    else:
        count = len(saved.train.labels) + len(saved.test.labels)
        rows = (row for split in (saved.train, saved.test) for row in _rows(split))
        shape = _common(root, counted(rows, count, "sizes"))
        expect_unpacked(root, count * shape[0] * shape[1] ** 2, stored, "store images with less compression")
    train, test = (_decoded(split, shape) for split in (saved.train, saved.test))
    npz_arrays.expect_matching(root, train, test, len(saved.train.classes))
    files = (saved.listing, *saved.train.files, *saved.test.files)
    reader = "Hugging Face datasets, save_to_disk"
    return Images(OWN_DATASET, train, test, saved.train.classes, files, None, reader, _not_used(root, saved))


def _not_used(root: Path, saved: SavedDataset) -> LeftOut:
    """Splits and columns that are not used, and whatever the documents that are read do not list."""
    left_out = [(name, NOT_USED) for name in saved.unused]
    splits = (saved.train, saved.test)
    listed = {SAVED_DATASET, *saved.unused, *(split.folder.name for split in splits)}
    listed.update(item.name for split in splits for item in split.files)
    beside = beside_splits(root, ()).entries
    for split in splits:
        name = split.folder.name
        folders, others = class_names(root, name)
        left_out += [(f"{name}/{column}", "column that is not used") for column in split.unused]
        beside += (*((f"{name}/{folder}", "") for folder in folders), *others.entries)
    return LeftOut(
        (*left_out, *((name, "not listed by the saved data set") for name, _ in beside if name not in listed))
    )


def _decoded(split: SavedSplit, shape: tuple[int, int] | None) -> Split:
    """The split's pixels: of encoded images with ``shape``, channels and side, else of arrays as they are."""
    if shape is None or isinstance(split.images, np.ndarray):
        return Split(npz_arrays.channels_first(str(split.folder), np.asarray(split.images)), split.labels)
    channels, side = shape
    pixels = np.empty((len(split.labels), channels, side, side), dtype=np.uint8)
    decoded = in_threads(lambda row: decode(*row, channels, side), _rows(split))
    for index, image in enumerate(counted(decoded, len(pixels), split.folder.name)):
        pixels[index] = image
    return Split(pixels, split.labels)


def _rows(split: SavedSplit) -> Iterable[tuple[Path, bytes]]:
    """A name for messages and the encoded file of each image."""
    return ((split.folder / f"row {index}", bytes(content)) for index, content in enumerate(split.images))


def _common(root: Path, encoded: Iterable[tuple[Path, bytes]]) -> tuple[int, int]:
    """Channels and side that all images have: 1 where every one is grey. Raises DataError for several sizes."""
    sizes, grey = set(), True
    for path, content in encoded:
        size, mode = _header(path, content)
        sizes.add(size)
        grey = grey and mode in _GREY
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:4])
        raise DataError(f"{root}: images of {shown}, expected square ones of one size", "resize them")
    return 1 if grey else 3, next(iter(sizes))[0] if sizes else 1


def _header(path: Path, content: bytes) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size, image.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no image that can be read ({error})", "replace or remove the file") from None
