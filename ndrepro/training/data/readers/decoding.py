"""Compressed images made into pixels, several at a time: Pillow decodes outside the interpreter's lock.

Threads change the time that it takes and nothing else: results come in the order of what was asked.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ndrepro.protocol.errors import DataError

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


def open_image(path: Path, content: bytes, channels: int = 3) -> Image.Image:
    """The whole image, decoded, RGB or grey. Raises DataError naming it if it is cut short or none at all."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB" if channels == 3 else "L")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"{path}: not a whole image ({error})", "replace the file and start again") from None


def decode(path: Path, content: bytes, channels: int, size: int) -> np.ndarray:
    """An image of that size as uint8 (C, H, W). Raises DataError naming it, also for another size."""
    pixels = np.asarray(open_image(path, content, channels))
    if pixels.shape[:2] != (size, size):
        raise DataError(
            f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, expected {size}x{size}",
            "bring every image to that size, or name the data set that these are",
        )
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)
