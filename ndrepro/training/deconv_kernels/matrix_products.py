"""Products of stacks of matrices (S, M, K) and (S, K, N); a stack of one without the cost of a batched product."""

from __future__ import annotations

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, (S, M, N)."""
    if a.shape[0] == 1:
        return torch.mm(a[0], b[0]).unsqueeze(0)
    return torch.bmm(a, b)


def product_plus(addend: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """beta addend + alpha a b, one kernel; ``addend`` (S, M, N) or what broadcasts to it."""
    if a.shape[0] == 1:
        return torch.addmm(addend[0], a[0], b[0], beta=beta, alpha=alpha).unsqueeze(0)
    return torch.baddbmm(addend, a, b, beta=beta, alpha=alpha)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each pair of matrices, (S, 1, 1)."""
    count = a.shape[0]
    return torch.bmm(a.reshape(count, 1, -1), b.reshape(count, -1, 1))


def transposed(a: Tensor) -> Tensor:
    """Every matrix transposed, a view."""
    return a.transpose(-1, -2)
