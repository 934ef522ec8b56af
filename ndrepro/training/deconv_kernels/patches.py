"""Patches of images as the rows of one matrix, by one strided copy, and the adjoint of that.

A patch has C k k numbers. ``gather`` lays them out feature first: a feature's values over all patches are contiguous,
which is what the products that follow read, and no transposed copy is made of what ``unfold`` gives. In which order the
patches of the batch follow each other makes no difference to a mean or a covariance, and is chosen for speed.
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

_FEWEST_IMAGES, _WIDEST = 8, 16


@dataclass(frozen=True)
class PatchGrid:
    """Where patches are in an image, as ``torch.nn.functional.unfold`` has it; all in pixels."""

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

    @property
    def disjoint(self) -> bool:
        """Whether no pixel is in two patches."""
        return all(
            stride > dilation * (kernel - 1)
            for stride, dilation, kernel in zip(self.stride, self.dilation, self.kernel, strict=True)
        )


def batch_last(images: Tensor) -> bool:
    """Whether patches of ``images`` (N, C, H, W) are laid out with N innermost.

    Rows of a small image are too short to be copied quickly, and one number of every image makes a long one: measured
    on a CPU, up to eight times as fast at 4x4 pixels, and slower from 32x32 on.
    """
    return images.device.type == "cpu" and images.shape[0] >= _FEWEST_IMAGES and images.shape[3] <= _WIDEST


def gather(x: Tensor, grid: PatchGrid) -> Tensor:
    """Images (N, C, H, W) -> patches (C, k, k, N, H', W'), contiguous, always in memory of their own; (C, k, k, H', W',
    N) where ``batch_last``.
    """
    top, left = grid.padding
    last = batch_last(x)
    rows, columns = (1, 2) if last else (2, 3)
    if last:
        x = _images_last(x)
    if top or left:
        x = F.pad(x, (0, 0, left, left, top, top) if last else (left, left, top, top))
    views = _windows(_windows(x, rows, 0, grid), columns, 1, grid)
    view = views.permute(0, 4, 5, 1, 2, 3) if last else views.permute(1, 4, 5, 0, 2, 3)
    return view.clone(memory_format=torch.contiguous_format)


def _windows(x: Tensor, dim: int, axis: int, grid: PatchGrid) -> Tensor:
    """A view of ``x`` with the windows along ``dim`` in its place, and what is in a window as a new last dimension."""
    extent = grid.dilation[axis] * (grid.kernel[axis] - 1) + 1
    return x.unfold(dim, extent, grid.stride[axis])[..., :: grid.dilation[axis]]


def add_back(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    """The adjoint of ``gather``: add every patch to its place in ``images`` (N, C, H, W), in place.

    ``patches`` (C k k, positions of all images) are laid out as ``gather`` lays them out for such images.
    """
    counts = grid.counts(images.shape[2], images.shape[3])
    shape = (images.shape[1], *grid.kernel)
    if batch_last(images):
        _add_images_last(images, patches.view(*shape, *counts, len(images)), grid)
        return
    patches = patches.view(*shape, len(images), *counts)
    if grid.tiles:
        _add_tiles(images, patches, grid)
    elif images.device.type != "cpu":
        _add_folded(images, patches, grid)
    else:
        for i, j, down, across, rows, columns in _taps(images.shape, counts, grid):
            images[:, :, rows, columns].add_(patches[:, i, j, :, down, across].transpose(0, 1))


def _images_last(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (C, H, W, N), contiguous: one transposition of a matrix."""
    return x.reshape(len(x), -1).t().contiguous().view(*x.shape[1:], len(x))


def _add_images_last(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    """As ``add_back``, of patches (C, k, k, H', W', N)."""
    whole = patches.new_zeros(*images.shape[1:], len(images))
    for i, j, down, across, rows, columns in _taps(images.shape, (patches.shape[3], patches.shape[4]), grid):
        place, part = whole[:, rows, columns], patches[:, i, j, down, across]
        if grid.disjoint:
            place.copy_(part)
        else:
            place.add_(part)
    images += whole.view(-1, len(images)).t().contiguous().view(images.shape)


def _add_tiles(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    channels, high, wide, count, down, across = patches.shape
    whole = patches.permute(3, 0, 4, 1, 5, 2).reshape(count, channels, down * high, across * wide)
    top, left = grid.padding
    inside = whole[:, :, top : top + images.shape[2], left : left + images.shape[3]]
    images[:, :, : inside.shape[2], : inside.shape[3]].add_(inside)


def _add_folded(images: Tensor, patches: Tensor, grid: PatchGrid) -> None:
    """On a GPU every slice would be a launch: one copy, and one kernel that sums."""
    channels, high, wide, count, down, across = patches.shape
    columns = patches.permute(3, 0, 1, 2, 4, 5).reshape(count, channels * high * wide, down * across)
    size = (images.shape[2], images.shape[3])
    images += F.fold(columns, size, grid.kernel, grid.dilation, grid.padding, grid.stride)


def _taps(shape: torch.Size, counts: Pair, grid: PatchGrid) -> Iterator[tuple[int, int, slice, slice, slice, slice]]:
    """For every place (i, j) in a patch that meets images of ``shape`` (N, C, H, W): which patches, down and across,
    have a pixel there, and the rows and columns of those pixels.
    """
    for i in range(grid.kernel[0]):
        rows = _overlap(shape[2], counts[0], grid.stride[0], i * grid.dilation[0] - grid.padding[0])
        for j in range(grid.kernel[1]):
            columns = _overlap(shape[3], counts[1], grid.stride[1], j * grid.dilation[1] - grid.padding[1])
            if rows is not None and columns is not None:
                yield i, j, rows[0], columns[0], rows[1], columns[1]


def _overlap(size: int, count: int, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Patches o in 0..count whose pixel o stride + offset is in 0..size, and those pixels; ``None`` for none."""
    first = max(0, -(offset // stride))
    end = min(count, (size - 1 - offset) // stride + 1)
    if end <= first:
        return None
    return slice(first, end), slice(first * stride + offset, (end - 1) * stride + offset + 1, stride)
