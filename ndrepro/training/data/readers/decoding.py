"""Compressed images made into pixels, several at a time: Pillow decodes outside the interpreter's lock.

Pixels are taken as they are stored: EXIF orientation, ICC profiles and gamma are not applied, as torchvision's loaders
do not. Palettes, CMYK and YCbCr become RGB; a 16-bit channel gives its higher byte. What 8 bits cannot hold without a
choice that is the user's (floating point, transparency, several frames) is refused by name.

Threads change the time that it takes and nothing else: results come in the order of what was asked.
"""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ndrepro.protocol.errors import DataError

# by content, whatever a file is called; none of them starts another program, as EPS would
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_EIGHT_BIT_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"))
# but for stuffed zeros and restarts, which belong to coded data
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_MOST_THREADS = 16
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_threads(work: Callable[[_In], _Out], items: Iterable[_In], ahead: int = 64) -> Iterator[_Out]:
    """``work`` of every item, in order, done by as many threads as the process may use cores.

    At most ``ahead`` results wait to be taken. What ``work`` raises is raised here, in its place.
    """
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:
        waiting: deque[Future[_Out]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def open_image(path: Path, content: bytes, channels: int = 3, size: int | None = None) -> Image.Image:
    """The whole image, decoded to 8 bits, RGB (3 channels) or grey (1); ``size`` is the side that it must have.

    Raises DataError naming ``path``: truncated or no image at all, of another size or of more pixels than Pillow's
    limit, of a mode that has no place in 8 bits, animated, or with transparent pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_header(path, image, size)
            return _opaque(path, _eight_bit(path, image)).convert("RGB" if channels == 3 else "L")
    except DataError:
        raise
    except Exception as error:
        raise _not_whole(path, error) from None


def decode(path: Path, content: bytes, channels: int, size: int) -> np.ndarray:
    """An image of that size as uint8 (C, H, W). Raises DataError naming it, also for another size."""
    pixels = np.asarray(open_image(path, content, channels, size))
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)


def check_whole(path: Path, content: bytes) -> None:
    """Raises DataError for an image that ``open_image`` would refuse, without decoding a JPEG that has its end."""
    if not _is_whole_jpeg(content):
        open_image(path, content)
        return
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            _check_header(path, image, None)
    except DataError:
        raise
    except Exception as error:
        raise _not_whole(path, error) from None


def _not_whole(path: Path, error: Exception) -> DataError:
    """The error for a file in which a decoder met ``error``: of any class, since they raise what their parsing does."""
    named = str(error) or type(error).__name__
    reason = "in no format that is read" if isinstance(error, UnidentifiedImageError) else named
    return DataError(f"{path}: not a whole image ({reason})", "replace the file and start again")


def _check_header(path: Path, image: Image.Image, size: int | None) -> None:
    width, height = image.size
    if size is not None and (width, height) != (size, size):
        raise DataError(
            f"{path}: {width}x{height} pixels, expected {size}x{size}",
            "bring every image to that size, or name the data set that these are",
        )
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise DataError(f"{path}: {width}x{height} pixels, more than {Image.MAX_IMAGE_PIXELS}", "make it smaller")
    # the further pictures of an MPO are a camera's own; a JPEG reader sees the first one only
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{path}: {image.n_frames} frames", "keep one frame as an image of its own")  # type: ignore[attr-defined]


def _eight_bit(path: Path, image: Image.Image) -> Image.Image:
    """The image in a mode of 8 bits a channel: of 16-bit grey the higher byte, as Pillow itself takes it of colours."""
    if image.mode in _EIGHT_BIT_MODES:
        return image
    # only PNG says that 16 bits span black to white; a TIFF may hold 12 of them, or counts of any range
    if image.mode.startswith("I;16") and image.format == "PNG" and "transparency" not in image.info:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    raise DataError(
        f"{path}: {image.format} with pixels of mode {image.mode}, which have no agreed meaning in 8-bit RGB or grey",
        "convert it to 8 bits a channel, or to a 16-bit PNG",
    )


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    """The image without its alpha channel, if that hides nothing: colours below transparent pixels are arbitrary."""
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    if coloured.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path}: transparent pixels", "flatten it onto a background of your choice")
    return coloured.convert("RGB")


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether marker follows marker from a JPEG's start through at least one scan of coded data to its end.

    The thumbnail in a camera's header has a start, a scan and an end of its own, which must not be taken for those of
    the image. Source: ITU-T T.81, annex B.
    """
    place, scans = 2, 0
    while content[:2] == b"\xff\xd8" and (marker := _JPEG_MARKER.search(content, place)):
        code = marker[1][0]
        if code == _END_OF_IMAGE:
            return scans > 0
        scans += code == _START_OF_SCAN
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return False
