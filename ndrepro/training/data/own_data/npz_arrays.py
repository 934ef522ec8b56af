"""Images and labels in the arrays of one ``.npz`` file, as ``numpy.savez`` writes it; objects are never unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.own import OWN_DATASET
from ndrepro.training.data.own_data.limits import expect_unpacked
from ndrepro.training.data.readers.class_folders import LeftOut
from ndrepro.training.data.readers.images import Images, Split, read_source

# training images and labels, test images and labels, as Keras, MedMNIST and scikit-learn's examples call them
ARRAYS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "y_train", "X_test", "y_test"),
)


def load(path: Path) -> Images:
    """The data set in a file ``.npz``. Raises DataError naming the file or array, and what was expected."""
    content, source = read_source(path, path.name)
    try:
        names, arrays, others = _arrays(path, content)
    except DataError:
        raise
    except Exception as error:  # the readers of zip files and of arrays raise a dozen kinds for damaged ones
        why = str(error) or type(error).__name__
        raise DataError(f"{path}: arrays that cannot be read ({why})", "write it anew with numpy.savez") from None
    train, test = (_split(path, arrays, names[first], names[first + 1]) for first in (0, 2))
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    expect_matching(path, train, test, classes)
    unused = LeftOut(tuple((name, "array that is not used") for name in others))
    return Images(OWN_DATASET, train, test, tuple(map(str, range(classes))), (source,), None, "npz arrays", unused)


def _arrays(path: Path, content: bytes) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """The names and arrays of the four that are wanted, and the names of the others, which are not unpacked, whatever
    they would take.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        if len(sizes) < len(archive.infolist()):  # of which readers take the first or the last
            raise DataError(f"{path}: an array is in it twice", "write it anew with numpy.savez")
    sets = [each for each in ARRAYS if set(each) <= sizes.keys()]
    if len(sets) > 1:
        both = " and ".join(f"{each[0]}, {each[2]}" for each in sets)
        raise DataError(f"{path}: several data sets, {both}: which is meant is not known", "keep one in the file")
    if not sets:
        raise DataError(
            f"{path}: arrays {', '.join(sorted(sizes)[:20]) or 'none'}",
            "it needs " + ", or ".join(", ".join(each) for each in ARRAYS),
        )
    names = sets[0]
    expect_unpacked(path, sum(sizes[name] for name in names), len(content), "store it with numpy.savez")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in names}
    if odd := next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None):
        raise DataError(f"{path}: {odd} is no array", "write it anew with numpy.savez")
    return names, arrays, sorted(sizes.keys() - set(names))


def _split(path: Path, arrays: Mapping[str, np.ndarray], images_name: str, labels_name: str) -> Split:
    images, labels = channels_first(f"{path}: {images_name}", arrays[images_name]), arrays[labels_name]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        raise DataError(
            f"{path}: {labels_name} is {labels.dtype} of shape {arrays[labels_name].shape}",
            f"expected {len(images)} whole numbers from 0 on, one for each image of {images_name}",
        )
    if int(labels.max()) >= len(images):
        raise DataError(f"{path}: {labels_name} has a label {int(labels.max())}", "number classes from 0 without gaps")
    return Split(images, labels.astype(np.int64))


def channels_first(where: str, array: np.ndarray) -> np.ndarray:
    """Square uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W). Raises DataError for others."""
    images = array
    if images.dtype != np.uint8:
        raise DataError(f"{where} is {images.dtype}, expected uint8", "store pixels as whole numbers from 0 to 255")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3] or not images.size:
        raise DataError(
            f"{where} has shape {array.shape}",
            "expected square images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels",
        )
    return np.ascontiguousarray(images)


def expect_matching(path: Path, train: Split, test: Split, classes: int) -> None:
    """Raises DataError where the splits' images differ in shape, or a class has no training image."""
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(f"{path}: training images {_shape(train)}, test images {_shape(test)}", "make them alike")
    missing = sorted(set(range(classes)) - set(train.labels.tolist()))
    if missing:
        raise DataError(
            f"{path}: no training image of class {missing[0]}", f"labels are 0 to {classes - 1} without gaps"
        )


def _shape(split: Split) -> str:
    return "x".join(str(extent) for extent in split.images.shape[1:])
