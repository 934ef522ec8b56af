"""The crops of ImageNet's recipe: one of random size and shape for training, the middle for evaluation.

Random numbers are drawn by whoever calls; what is done with them is written out here as torchvision's
RandomResizedCrop does it (Szegedy et al., Going Deeper with Convolutions, 2015, section 6): an area of 8 to 100 % of
the image, an aspect ratio of 3/4 to 4/3, ten attempts, else the largest crop in the middle that is not too long.
Pixels are made by Pillow, bilinear with antialiasing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

ATTEMPTS = 10
DRAWS = 4 * ATTEMPTS + 1  # numbers in [0, 1) that one training crop takes
_SCALE = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_RESIZE = 256 / 224  # the shorter side before the middle is cropped, relative to the crop


class Crop(NamedTuple):
    """A rectangle of an image, in pixels, and whether it is mirrored."""

    left: int
    top: int
    width: int
    height: int
    flip: bool


def random_crop(width: int, height: int, draws: Sequence[float]) -> Crop:
    """The training crop of an image of that size. ``draws`` are ``DRAWS`` numbers in [0, 1)."""
    flip = draws[-1] < 0.5
    for attempt in range(ATTEMPTS):
        area_draw, ratio_draw, row_draw, column_draw = draws[4 * attempt : 4 * attempt + 4]
        area = width * height * (_SCALE[0] + area_draw * (_SCALE[1] - _SCALE[0]))
        ratio = math.exp(math.log(_RATIO[0]) + ratio_draw * (math.log(_RATIO[1]) - math.log(_RATIO[0])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return Crop(int(column_draw * (width - wide + 1)), int(row_draw * (height - high + 1)), wide, high, flip)
    wide, high = width, height
    if width / height < _RATIO[0]:
        high = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        wide = round(height * _RATIO[1])
    return Crop((width - wide) // 2, (height - high) // 2, wide, high, flip)


def training_crop(image: Image.Image, size: int, draws: Sequence[float]) -> np.ndarray:
    """A random part of an RGB image, resized: uint8 (3, size, size)."""
    crop = random_crop(*image.size, draws)
    box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
    # crop, then resize: resizing a box of the whole would look at pixels outside of it
    pixels = _planes(image.crop(box).resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels[:, :, ::-1]) if crop.flip else pixels


def centre_crop(image: Image.Image, size: int) -> np.ndarray:
    """The middle of an RGB image whose shorter side was made 256/224 of ``size``: uint8 (3, size, size)."""
    short = round(size * _RESIZE)
    width, height = image.size
    wide, high = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    return _planes(resized.crop((left, top, left + size, top + size)))


def _planes(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
