"""Patches of images as the rows of one matrix, by one strided copy, and the adjoint of that.

A patch has C k k numbers. ``gather`` lays them out as (C, k, k, N, H', W'): a feature's values over all patches are
contiguous, which is what the products that follow read, and no transposed copy is made of what ``unfold`` gives.
``add_back`` adds a gradient of that layout to the images' gradient: k k additions of slices, or a single one where
patches tile the image (stride equal to the kernel, the usual case: 3x3 patches at every third pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class PatchGrid:
    """Where patches lie in an image, as ``torch.nn.functional.unfold`` has it; all in pixels."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def counts(self, height: int, width: int) -> Pair:
        """How many patches an image has, down and across."""
        down, across = (
            (size + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis] + 1
            for axis, size in enumerate((height, width))
        )
        return down, across

    @property
    def tiles(self) -> bool:
        """Whether every pixel between the first patch and the last is in exactly one patch."""
        return self.dilation == (1, 1) and self.kernel == self.stride


def gather(x: Tensor, grid: PatchGrid) -> Tensor:
    """Images (N, C, H, W) -> patches (C, k, k, N, H', W'), contiguous, always in memory of their own."""
    down, across = grid.counts(x.shape[2], x.shape[3])
    if any(grid.padding):
        x = F.pad(x, (grid.padding[1], grid.padding[1], grid.padding[0], grid.padding[0]))
    image, channel, row, column = x.stride()
    return x.as_strided(
        (x.shape[1], *grid.kernel, x.shape[0], down, across),
        (
            channel,
            row * grid.dilation[0],
            column * grid.dilation[1],
            image,
            row * grid.stride[0],
            column * grid.stride[1],
        ),
        x.storage_offset(),
    ).clone(memory_format=torch.contiguous_format)


def add_back(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    """Add every patch (C, k, k, N, H', W') to its place in ``images`` (N, C, H, W), in place; padding is dropped."""
    down, across = patches.shape[4:]
    if images.device.type != "cpu":
        _add_folded(images, patches, grid)
    elif grid.tiles:
        _add_tiles(images, patches, grid)
    else:
        for tap, pixels in _taps(images.shape, (down, across), grid):
            images[pixels] += patches[tap].transpose(0, 1)


def _add_tiles(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    channels, high, wide, count, down, across = patches.shape
    whole = patches.permute(3, 0, 4, 1, 5, 2).reshape(count, channels, down * high, across * wide)
    top, left = grid.padding
    inside = whole[:, :, top : top + images.shape[2], left : left + images.shape[3]]
    images[:, :, : inside.shape[2], : inside.shape[3]] += inside


def _add_folded(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    """On a GPU every slice would be a launch: one copy, and one kernel that sums."""
    channels, high, wide, count, down, across = patches.shape
    columns = patches.permute(3, 0, 1, 2, 4, 5).reshape(count, channels * high * wide, down * across)
    size = (images.shape[2], images.shape[3])
    images += F.fold(columns, size, grid.kernel, grid.dilation, grid.padding, grid.stride)


def _taps(shape: tuple[int, ...], counts: Pair, grid: PatchGrid) -> Iterator[tuple[tuple[slice | int, ...], ...]]:
    """For every place in a patch that meets the image: which patches have a pixel there, and those pixels."""
    everything = slice(None)
    for i in range(grid.kernel[0]):
        rows = _overlap(shape[2], counts[0], grid.stride[0], i * grid.dilation[0] - grid.padding[0])
        for j in range(grid.kernel[1]):
            columns = _overlap(shape[3], counts[1], grid.stride[1], j * grid.dilation[1] - grid.padding[1])
            if rows is not None and columns is not None:
                tap = (everything, i, j, everything, rows[0], columns[0])
                yield tap, (everything, everything, rows[1], columns[1])


def _overlap(size: int, count: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Patches o in 0..count whose pixel o stride + offset lies in 0..size, and those pixels; ``None`` for none."""
    first = max(0, -(offset // stride))
    end = min(count, (size - 1 - offset) // stride + 1)
    if end <= first:
        return None
    return slice(first, end), slice(first * stride + offset, (end - 1) * stride + offset + 1, stride)
