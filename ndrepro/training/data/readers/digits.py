"""Handwritten digits that ship inside scikit-learn (UCI, 1,797 images of 8x8, 17 grey levels), as 32x32 RGB.

The file is read, not the library: the child needs numpy alone. Enlarging is bilinear by a factor of four in whole
numbers (weights in eighths), so the pixels are the same wherever it runs. The first 1,437 images in the file's order
are the training split and the last 360 the test split.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DIGITS_SHA256
from ndrepro.training.data.readers.images import Images, Split, gunzip, read_source

FILE_NAME = "digits.csv.gz"
_TRAIN_IMAGES = 1437
_COUNT = 1797
_MOST_BYTES = _COUNT * (64 * 3 + 2)  # numbers of two digits, separators, the label


def load(root: Path) -> Images:
    """The digits from ``root``, the file or its folder. Raises DataError naming the file."""
    path = root / FILE_NAME if root.is_dir() else root
    content, source = read_source(path, FILE_NAME)
    try:
        rows = gunzip(content, _MOST_BYTES).splitlines()
        # a tenth of the time of numpy.loadtxt, in every process that trains on them
        table = np.array([[int(number) for number in row.split(b",")] for row in rows], dtype=np.int64)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise DataError(
            f"{path}: damaged ({error})", "install scikit-learn again, or point --data at its file"
        ) from None
    if table.shape != (_COUNT, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DataError(
            f"{path}: a table of shape {table.shape}, expected {(_COUNT, 65)} of 0..16 and a digit",
            "leave --data out, or point it at scikit-learn's digits.csv.gz",
        )
    images = _enlarge(table[:, :64].reshape(-1, 8, 8))
    labels = table[:, 64]
    return Images(
        name="digits",
        train=Split(images[:_TRAIN_IMAGES], labels[:_TRAIN_IMAGES]),
        test=Split(images[_TRAIN_IMAGES:], labels[_TRAIN_IMAGES:]),
        classes=tuple(str(digit) for digit in range(10)),
        files=(source,),
        canonical=source.sha256 == DIGITS_SHA256,
        reader="digits.csv.gz of scikit-learn",
    )


def _enlarge(grey: np.ndarray) -> np.ndarray:
    """(N, 8, 8) of 0..16 -> (N, 3, 32, 32) of 0..255, rounded half up."""
    enlarge = _interpolation(8, 4)
    # two passes of weights in eighths: 64 times too large; 255/16 brings 0..16 to 0..255
    eighths = enlarge @ grey @ enlarge.T
    levels = (eighths * 255 * 2 + 16 * 64) // (2 * 16 * 64)
    return np.repeat(levels[:, None].astype(np.uint8), 3, axis=1)


def _interpolation(size: int, factor: int) -> np.ndarray:
    """Bilinear weights in eighths, centres half a pixel in, edges repeated: int64 (size * factor, size)."""
    weights = np.zeros((size * factor, size), dtype=np.int64)
    for out in range(size * factor):
        # the centre of output pixel `out` in units of 1/(2 factor) input pixels, measured from input centre 0
        position = 2 * out + 1 - factor
        low, rest = divmod(position, 2 * factor)
        for index, weight in ((low, 2 * factor - rest), (low + 1, rest)):
            weights[out, min(max(index, 0), size - 1)] += weight
    return weights
