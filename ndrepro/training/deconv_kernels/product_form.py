r"""The truncated inverse square root by fused matrix products, and its adjoint.

All iterates of the coupled Newton-Schulz iteration (``layers.whitening``) are polynomials of A, hence symmetric,
and commute. With M = Z Y the iteration needs no Y, and every product has the form beta C + alpha A B, one kernel:

    M_1 = A / s,  s = ||A||_F,  Z_1 = I,   T_r = 1.5 I - 0.5 M_r

    Z_{r+1} = Z_r T_r,   V_r = M_r T_r,   M_{r+1} = V_r T_r          D = Z_{n+1} / sqrt(s)

Z_r and M_r are multiplied by the same T_r, so they are below each other in memory and are one matrix of 2 F rows: a
step is two products (``_Iterates``). The first step needs no Z, the last no M. D as a function of symmetric A has a
self-adjoint derivative (that of a polynomial is H -> sum of A^i H A^j, and A^j H A^i stands beside it), so its adjoint
is the derivative along the symmetrised gradient:

    dZ_{r+1} = 1.5 dZ_r - 0.5 (Z_r dM_r + dZ_r M_r)      and likewise dV_r, dM_{r+1}

where the bracket is one product, [Z_r dZ_r] [dM_r M_r]^T, of matrices that are beside each other. With h = dZ_{n+1}
along G, the norm's own derivative gives

    adjoint(G) = (h - (<G, Z_{n+1}> / 2 + <h, M_1>) M_1) / s^1.5

Stacks of matrices (S, F, F) are treated each by itself, in their own dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels.matrix_products import inner, into, product_plus, transposed


class _Iterates:
    """V_r, Z_{r+1} and M_{r+1} of the ``step`` r, each a view (S, F, K) of ``memory`` (S, 3 F, K).

    Z is in the middle. V and M change sides with every step: a product of the rows that hold M and Z gives V and Z of
    the next step in the same order, and that step's M has its place on the other side of Z.
    """

    def __init__(self, memory: Tensor, step: int) -> None:
        size = memory.shape[1] // 3
        first, self.z, last = memory.split(size, 1)
        v_is_first = step % 2 == 1
        self.v, self.m = (first, last) if v_is_first else (last, first)
        self.v_and_z = memory[:, : 2 * size] if v_is_first else memory[:, size:]
        self.m_and_z = memory[:, size:] if v_is_first else memory[:, : 2 * size]


def inverse_sqrt(covariance: Tensor, norm: Tensor, identity: Tensor, n_iter: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """D (S, F, F) of ``covariance`` (S, F, F) with Frobenius ``norm`` (S, 1, 1), and what ``adjoint`` needs."""
    first = covariance / norm
    if n_iter == 1:
        last = torch.lerp(first, identity, 1.5)  # T_1 = 1.5 I - 0.5 M_1
        return last * norm.rsqrt(), (norm, first, last)
    last, memory = _iterated(first, identity, n_iter)
    return last * norm.rsqrt(), (norm, first, last, memory)


def adjoint(left: Tensor, right: Tensor, saved: tuple[Tensor, ...], n_iter: int) -> Tensor:
    """The gradient (S, F, F) with respect to the covariance, symmetric to rounding.

    The gradient with respect to D is ``left``^T ``right``, of (S, R, F) both; ``saved`` is from ``inverse_sqrt``.
    """
    norm, first, last, *memory = saved
    half = product_plus(norm, transposed(left), right, beta=0.0, alpha=0.5)  # of beta 0 the addend has no part
    gradient = half + transposed(half)
    h = _derivative(gradient, first, memory[0]) if memory else -0.5 * gradient
    count = len(norm)
    share = product_plus(inner(h, first), gradient.view(count, 1, -1), last.view(count, -1, 1), alpha=0.5)
    return torch.addcmul(h, share, first, value=-1.0).mul_(norm**-1.5)


def _iterated(first: Tensor, identity: Tensor, n_iter: int) -> tuple[Tensor, Tensor]:
    """Z after ``n_iter`` steps, two or more, from M_1 ``first``; and the iterates before it (S, steps, 3 F, F)."""
    count, size, _ = first.shape
    memory = first.new_empty(count, n_iter - 1, 3 * size, size)
    now, *following = _steps(memory)
    into(now.z, torch.lerp, first, identity, 1.5)
    _times_t(first, first, out=now.v)
    _times_t(now.v, first, out=now.m)
    for after in following:
        _times_t(now.m_and_z, now.m, out=after.v_and_z)
        _times_t(after.v, now.m, out=after.m)
        now = after
    return _times_t(now.z, now.m), memory


def _derivative(direction: Tensor, first: Tensor, memory: Tensor) -> Tensor:
    """The derivative of what ``_iterated`` gives, along a symmetric ``direction`` of ``first``."""
    size = first.shape[2]
    memories = memory.new_empty(*memory.shape[:3], 3 * size)  # for every iterate X: [X dX X]
    memories.unflatten(3, (3, size))[..., 0::2, :].copy_(memory.unsqueeze(3))
    before, *following = zip(
        _steps(memories[..., size : 2 * size]), _steps(memories[..., : 2 * size]), _steps(memories[..., size:]),
        strict=True,
    )  # fmt: skip
    d, x_and_d, d_and_x = before
    into(d.z, torch.mul, direction, -0.5)
    product_plus(_times_t(direction, first), first, direction, alpha=-0.5, out=d.v)
    product_plus(_times_t(d.v, first), _steps(memory)[0].v, direction, alpha=-0.5, out=d.m)
    for d_after, x_and_d_after, d_and_x_after in following:
        right = transposed(d_and_x.m)
        _product_rule(d.m_and_z, x_and_d.m_and_z, right, out=d_after.v_and_z)
        _product_rule(d_after.v, x_and_d_after.v, right, out=d_after.m)
        d, x_and_d, d_and_x = d_after, x_and_d_after, d_and_x_after
    return _product_rule(d.z, x_and_d.z, transposed(d_and_x.m))


def _steps(memory: Tensor) -> list[_Iterates]:
    """The iterates of every step in ``memory`` (S, steps, 3 F, K)."""
    return [_Iterates(each, step) for step, each in enumerate(memory.unbind(1), start=1)]


def _times_t(x: Tensor, m: Tensor, out: Tensor | None = None) -> Tensor:
    """X T = 1.5 X - 0.5 X M."""
    return product_plus(x, x, m, beta=1.5, alpha=-0.5, out=out)


def _product_rule(dx: Tensor, x_and_dx: Tensor, dm_above_m: Tensor, out: Tensor | None = None) -> Tensor:
    """d(X T) = 1.5 dX - 0.5 (X dM + dX M)."""
    return product_plus(dx, x_and_dx, dm_above_m, beta=1.5, alpha=-0.5, out=out)
