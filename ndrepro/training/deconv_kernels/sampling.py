"""Which rows of its input a layer whitens, and how its weight is cut into the same rows.

Rows are kept feature first, (S, F, M): S separate covariances, F features, M rows. ``ConvolutionRows`` and
``LinearRows`` have one face; each is the frozen arithmetic of a layer's settings, made when the kernel is attached.
What they select is what ``Deconv2d._rows`` and ``Delinear`` select (``layers.deconv``), in another order of memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels import pixels
from ndrepro.training.deconv_kernels.patches import PatchGrid, add_back, gather
from ndrepro.training.layers.deconv import Deconv2d, Delinear


@dataclass(frozen=True)
class ConvolutionRows:
    """Rows of ``Deconv2d``: patches, or for a 1x1 kernel every ``pixel_step``-th pixel of the batch."""

    groups: int
    features: int
    blocks: int
    grid: PatchGrid
    pixel_step: int | None

    @classmethod
    def of(cls, layer: Deconv2d) -> ConvolutionRows:
        """Those of one layer."""
        pixelwise = layer.kernel_size == (1, 1)
        return cls(
            groups=layer.groups,
            features=layer.num_features,
            blocks=1 if layer.groups > 1 else layer.in_channels // layer.block,
            grid=PatchGrid(layer.kernel_size, layer.sampling_stride, layer.padding, layer.dilation),
            pixel_step=layer.sampling_stride[0] * layer.sampling_stride[1] if pixelwise else None,
        )

    def sample(self, x: Tensor, before: int) -> Tensor:
        """Images (N, C, H, W) -> rows (S, F, M) in memory of their own; ``before``: images in lower ranks."""
        if self.pixel_step is None:
            return gather(x, self.grid).view(self.groups, self.features, -1)
        return pixels.sample(x, self.pixel_step, before).view(self.groups, self.features, -1)

    def add_back(self, images: Tensor, rows: Tensor, before: int) -> None:
        """The adjoint of ``sample``: add ``rows`` (S, F, M) to ``images`` (N, C, H, W), in place."""
        if self.pixel_step is None:
            add_back(images, rows, self.grid)
        else:
            pixels.add_back(images, rows.view(images.shape[1], -1), self.pixel_step, before)

    def count_of_all(self, x: Tensor, rows: Tensor, images: int) -> int:
        """How many rows all processes with ``images`` images together have."""
        if self.pixel_step is None:
            return rows.shape[2] // len(x) * images
        return -(-images * x.shape[2] * x.shape[3] // self.pixel_step) * self.blocks

    def weight_rows(self, weight: Tensor) -> Tensor:
        """A weight (O, C / groups, k, k) as (S, R, F), its columns cut as the patches' are."""
        if self.groups > 1 or self.blocks == 1:
            return weight.reshape(self.groups, -1, self.features)
        interleaved = weight.reshape(len(weight), self.features, self.blocks)
        return interleaved.transpose(1, 2).reshape(1, -1, self.features)

    def as_weight(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of ``weight_rows``."""
        if self.groups == 1 and self.blocks > 1:
            rows = rows.view(shape[0], self.blocks, self.features).transpose(1, 2)
        return rows.reshape(shape)


@dataclass(frozen=True)
class LinearRows:
    """Rows of ``Delinear``: its input viewed as (-1, block); ``blocks`` of them in one input."""

    features: int
    blocks: int
    groups: int = 1

    @classmethod
    def of(cls, layer: Delinear) -> LinearRows:
        """Those of one layer."""
        return cls(layer.block, layer.in_features // layer.block)

    def sample(self, x: Tensor, before: int) -> Tensor:
        """(..., in_features) -> rows (1, block, M) in memory of their own."""
        columns = x.reshape(-1, self.features).t()
        return columns.clone(memory_format=torch.contiguous_format).unsqueeze(0)

    def add_back(self, inputs: Tensor, rows: Tensor, before: int) -> None:
        """The adjoint of ``sample``, in place; ``inputs`` is contiguous."""
        inputs.view(-1, self.features).add_(rows[0].t())

    def count_of_all(self, x: Tensor, rows: Tensor, images: int) -> int:
        """How many rows all processes with ``images`` images together have."""
        return rows.shape[2] // len(x) * images

    def weight_rows(self, weight: Tensor) -> Tensor:
        """A weight (out, in) as (1, R, block)."""
        return weight.reshape(1, -1, self.features)

    def as_weight(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of ``weight_rows``."""
        return rows.reshape(shape)


Rows = ConvolutionRows | LinearRows
