"""Every ``step``-th pixel of a batch as the columns of one matrix, and the adjoint of that: rows of 1x1 convolutions.

The pixels of all images are numbered image by image; with ``before`` images in processes of a lower rank, the first
that is taken is the one whose number in the whole batch is a multiple of ``step``. Images whose number of pixels is no
multiple of ``step`` start at different pixels, but every ``period``-th at the same: so on a CPU the pixels are copied
in ``period`` strided pieces, up to ten times as fast as by index. On a GPU, where every piece is a launch, they are
taken by index unless there is one piece (images of one pixel). In which order the columns lie makes no difference to a
mean or a covariance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_Piece = tuple[slice, slice, int, int]


def sample(x: Tensor, step: int, before: int) -> Tensor:
    """Images (N, C, H, W) -> (C, M), contiguous, in memory of their own."""
    channels, places = x.shape[1], x.flatten(2)
    pieces = list(_pieces(len(x), places.shape[2], step, before))
    if _by_index(x, pieces):
        image, pixel = _indices(x, step, before)
        return places.transpose(0, 1)[:, image, pixel]
    columns = x.new_empty(channels, sum(count * each for _, _, count, each in pieces))
    for part, (images, pixels, _, _) in zip(_parts(columns, pieces), pieces, strict=True):
        part.copy_(places[images, :, pixels].transpose(0, 1))
    return columns


def add_back(images: Tensor, columns: Tensor, step: int, before: int) -> None:
    """The adjoint of ``sample``: add ``columns`` (C, M) to ``images`` (N, C, H, W), in place."""
    places = images.view(*images.shape[:2], -1)  # refuses a layout that would be copied
    pieces = list(_pieces(len(images), places.shape[2], step, before))
    if _by_index(images, pieces):
        image, pixel = _indices(images, step, before)
        places.transpose(0, 1)[:, image, pixel] += columns
        return
    for part, (chosen, pixels, _, _) in zip(_parts(columns, pieces), pieces, strict=True):
        places[chosen, :, pixels].add_(part.transpose(0, 1))


def _by_index(x: Tensor, pieces: list[_Piece]) -> bool:
    return x.device.type != "cpu" and len(pieces) > 1


def _pieces(images: int, size: int, step: int, before: int) -> Iterator[_Piece]:
    """Images that begin at the same pixel, their pixels, how many images, and how many pixels of each."""
    period = step // math.gcd(size, step)
    for first in range(min(period, images)):
        start = -(before + first) * size % step
        if start < size:
            yield (
                slice(first, None, period),
                slice(start, None, step),
                -(-(images - first) // period),
                (-(-(size - start) // step)),
            )


def _parts(columns: Tensor, pieces: list[_Piece]) -> Iterator[Tensor]:
    """The columns of each piece, a view (C, images, pixels)."""
    lengths = [count * each for _, _, count, each in pieces]
    for part, (_, _, count, each) in zip(columns.split(lengths, 1), pieces, strict=True):
        yield part.unflatten(1, (count, each))


def _indices(x: Tensor, step: int, before: int) -> tuple[Tensor, Tensor]:
    """Image and place in it of every pixel that is taken, int64 (M,)."""
    size = x.shape[2] * x.shape[3]
    start = -before * size % step
    place = torch.arange(start, max(start, len(x) * size), step, device=x.device)
    image = torch.div(place, size, rounding_mode="floor")
    return image, place - image * size
