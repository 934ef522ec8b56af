"""Products of stacks of matrices (S, M, K) and (S, K, N); a stack of one without the cost of a batched product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ndrepro.training.compute import torch_compat

# from so many features on the copied part saves more than two further products cost
_LARGE = 192


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, (S, M, N)."""
    if a.shape[0] == 1:
        return torch.mm(a[0], b[0]).unsqueeze(0)
    return torch.bmm(a, b)


def product_plus(
    addend: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """beta addend + alpha a b, one kernel; ``addend`` (S, M, N) or what broadcasts to it. ``out`` takes the result."""
    if a.shape[0] > 1:
        return into(out, torch.baddbmm, addend, a, b, beta=beta, alpha=alpha)
    place = None if out is None else out[0]
    return into(place, torch.addmm, addend[0], a[0], b[0], beta=beta, alpha=alpha).unsqueeze(0)


def into(out: Tensor | None, operation: Callable[..., Tensor], *args: Any, **settings: Any) -> Tensor:
    """The result of ``operation``, in ``out`` where there is one, whose rows may lie apart.

    torch's compiler knows such an ``out`` only as a copy.
    """
    if out is None:
        return operation(*args, **settings)
    if torch_compat.is_compiling():
        return out.copy_(operation(*args, **settings))
    return operation(*args, **settings, out=out)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each pair of matrices, (S, 1, 1)."""
    count = a.shape[0]
    return torch.bmm(a.reshape(count, 1, -1), b.reshape(count, -1, 1))


def transposed(a: Tensor) -> Tensor:
    """Every matrix transposed, a view."""
    return a.transpose(-1, -2)


def symmetric_product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T (F, F) of (F, K) both, which is known to be symmetric: of a large one a part is copied, not computed.

    The lower left quarter is computed and mirrored, and the two on the diagonal are products of this kind themselves:
    of 192 features and more three quarters of the arithmetic, of 384 and more five eighths.
    """
    size = len(a)
    if a.device.type != "cpu" or size < _LARGE:
        return torch.mm(a, b.t())
    half = size // 2
    whole = a.new_empty(size, size)
    whole[half:, :half] = torch.mm(a[half:], b[:half].t())
    whole[:half, half:] = whole[half:, :half].t()
    whole[:half, :half] = symmetric_product(a[:half], b[:half])
    whole[half:, half:] = symmetric_product(a[half:], b[half:])
    return whole
