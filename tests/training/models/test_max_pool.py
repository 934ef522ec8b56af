"""Max pooling without a gradient gives the numbers of torch's own, by fewer operations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ndrepro.training.models.max_pool import MaxPool2d, max_pool2d


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0)])
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (3, 4)])
def test_the_numbers_are_those_of_torch(window: tuple[int, int, int], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    x[0, 0, 1, 2], x[1, 2, 0, 0], x[1, 1] = math.nan, math.inf, -math.inf
    expected = F.max_pool2d(x, *window)
    with torch.no_grad():
        for found in (max_pool2d(x, *window), MaxPool2d(*window)(x), MaxPool2d(*window)(x[0]).expand(2, -1, -1, -1)):
            torch.testing.assert_close(found[:1], expected[:1], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(max_pool2d(x, *window), expected, rtol=0, atol=0, equal_nan=True)
        assert not torch.equal(max_pool2d(-x, *window), expected), "the control"


def test_a_gradient_is_that_of_torch_with_equal_values_too() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    max_pool2d(x, 2, 2).sum().backward()
    assert x.grad is not None and x.grad[0, 0, ::2, ::2].eq(1).all() and x.grad.sum() == 4
