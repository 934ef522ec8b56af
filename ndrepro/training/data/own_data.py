"""A data set of one's own: a folder of images, or arrays in one ``.npz`` file; what it holds is read from it.

* a folder ``train/CLASS/…``, ``test/CLASS/…`` as ``folder`` reads it; grey where every image is
* a file ``.npz`` with the arrays of ``ARRAYS``: uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3
  channels, and whole-number labels (N,) or (N, 1) from 0 on. Objects are never unpickled.

Images are square and of one size. Every class has training images.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.own import OWN_DATASET, OwnImages
from ndrepro.training.data.readers import folder
from ndrepro.training.data.readers.class_folders import class_names, images_below
from ndrepro.training.data.readers.images import Images, Split, read_source

# training images and labels, test images and labels, as Keras, MedMNIST and scikit-learn's examples call them
ARRAYS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
)
# a file may be compressed, and no further
_LEAST_BYTES, _MOST_TIMES = 1 << 28, 100
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")


def load(root: Path) -> Images:
    """The data set in ``root``. Raises DataError naming the file or array, and what was expected."""
    if folder.is_image_folder(root):
        return _from_folder(root)
    if root.is_file() and zipfile.is_zipfile(root):
        return _from_arrays(root)
    raise DataError(
        f"{root}: neither a folder with train/CLASS/ and test/CLASS/, nor a file .npz",
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
    sizes, grey = set(), True
    for split in ("train", "test"):
        for name in classes if (root / split).is_dir() else ():
            if (root / split / name).is_dir():
                for path in images_below(root, f"{split}/{name}")[0]:
                    size, mode = _header(root / path)
                    sizes.add(size)
                    grey = grey and mode in _GREY
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:4])
        raise DataError(f"{root}: images of {shown}, expected square ones of one size", "resize them")
    side = next(iter(sizes))[0] if sizes else 1
    return folder.load_shaped(OWN_DATASET, root, len(classes), 1 if grey else 3, side)


def _header(path: Path) -> tuple[tuple[int, int], str]:
    content, _ = read_source(path, path.name)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size, image.mode
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no image that can be read ({error})", "replace or remove the file") from None


def _from_arrays(path: Path) -> Images:
    content, source = read_source(path, path.name)
    try:
        names, arrays = _arrays(path, content)
    except DataError:
        raise
    except Exception as error:  # the readers of zip files and of arrays raise a dozen kinds for damaged ones
        why = str(error) or type(error).__name__
        raise DataError(f"{path}: arrays that cannot be read ({why})", "write it anew with numpy.savez") from None
    train, test = (_split(path, arrays, names[first], names[first + 1]) for first in (0, 2))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"{path}: training images {_shape(train)}, test images {_shape(test)}", "make them alike")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    missing = sorted(set(range(classes)) - set(train.labels.tolist()))
    if missing:
        raise DataError(
            f"{path}: no training image of class {missing[0]}", f"labels are 0 to {classes - 1} without gaps"
        )
    return Images(OWN_DATASET, train, test, tuple(map(str, range(classes))), (source,), None, "npz arrays")


def _arrays(path: Path, content: bytes) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The names and arrays of the four that are wanted; others are not unpacked, whatever they would take."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    names = next((each for each in ARRAYS if set(each) <= sizes.keys()), None)
    if names is None:
        raise DataError(
            f"{path}: arrays {', '.join(sorted(sizes)[:20]) or 'none'}",
            "it needs " + ", or ".join(", ".join(each) for each in ARRAYS),
        )
    most = max(_LEAST_BYTES, _MOST_TIMES * len(content))
    if (size := sum(sizes[name] for name in names)) > most:
        raise DataError(f"{path}: {size:,} bytes when unpacked, expected at most {most:,}", "store it with numpy.savez")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in names}
    if odd := next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None):
        raise DataError(f"{path}: {odd} is no array", "write it anew with numpy.savez")
    return names, arrays


def _split(path: Path, arrays: Mapping[str, np.ndarray], images_name: str, labels_name: str) -> Split:
    images, labels = arrays[images_name], arrays[labels_name]
    where = f"{path}: {images_name}"
    if images.dtype != np.uint8:
        raise DataError(f"{where} is {images.dtype}, expected uint8", "store pixels as whole numbers from 0 to 255")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3] or not images.size:
        raise DataError(
            f"{where} has shape {arrays[images_name].shape}",
            "expected square images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        raise DataError(
            f"{path}: {labels_name} is {labels.dtype} of shape {arrays[labels_name].shape}",
            f"expected {len(images)} whole numbers from 0 on, one for each image of {images_name}",
        )
    if int(labels.max()) >= len(images):
        raise DataError(f"{path}: {labels_name} has a label {int(labels.max())}", "number classes from 0 without gaps")
    return Split(np.ascontiguousarray(images), labels.astype(np.int64))


def _shape(split: Split) -> str:
    return "x".join(str(extent) for extent in split.images.shape[1:])
