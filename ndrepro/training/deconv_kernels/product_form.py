r"""The truncated inverse square root by fused matrix products, and its adjoint.

All iterates of the coupled Newton-Schulz iteration (``layers.newton_schulz``) are polynomials of A, hence symmetric,
and commute. With M = Z Y the iteration needs no Y, and every step is three products of the form beta C + alpha A B,
one kernel each:

    M_1 = A / s,  s = ||A||_F,  Z_1 = I,   T_r = 1.5 I - 0.5 M_r

    Z_{r+1} = Z_r T_r = 1.5 Z_r - 0.5 Z_r M_r
    V_r     = M_r T_r = 1.5 M_r - 0.5 M_r M_r
    M_{r+1} = V_r T_r = 1.5 V_r - 0.5 V_r M_r          D = Z_{n+1} / sqrt(s)

The first step needs no Z, the last no M. D as a function of symmetric A has a self-adjoint derivative (that of a
polynomial is H -> sum of A^i H A^j, and A^j H A^i stands beside it), so its adjoint is the derivative along the
symmetrised gradient:

    dZ_{r+1} = 1.5 dZ_r - 0.5 (dZ_r M_r + Z_r dM_r)      and likewise dV_r, dM_{r+1}

and, with h = dZ_{n+1} along G, the norm's own derivative gives

    adjoint(G) = (h - (<G, Z_{n+1}> / 2 + <h, M_1>) M_1) / s^1.5

dZ_2 = -0.5 dM_1, so e = -2 dZ is carried, which starts as dM_1 itself. Stacks of matrices (S, F, F) are treated each by
itself, in their own dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels.matrix_products import inner, product, product_plus, transposed


def inverse_sqrt(covariance: Tensor, norm: Tensor, identity: Tensor, n_iter: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """D (S, F, F) of ``covariance`` (S, F, F) with Frobenius ``norm`` (S, 1, 1), and what ``adjoint`` needs."""
    m = covariance / norm
    z = torch.lerp(m, identity, 1.5)  # T_1 = 1.5 I - 0.5 M_1
    zs, ms, vs = [z], [m], []
    for _ in range(n_iter - 1):
        v = _times_t(m, m)
        m = _times_t(v, m)
        z = _times_t(z, m)
        zs.append(z)
        ms.append(m)
        vs.append(v)
    return z * norm.rsqrt(), (norm, *zs, *ms, *vs)


def adjoint(left: Tensor, right: Tensor, saved: tuple[Tensor, ...], n_iter: int) -> Tensor:
    """The gradient (S, F, F) with respect to the covariance, symmetric to rounding.

    The gradient with respect to D is ``left``^T ``right``, of (S, R, F) both; ``saved`` is from ``inverse_sqrt``.
    """
    norm, zs, ms, vs = saved[0], saved[1 : n_iter + 1], saved[n_iter + 1 : 2 * n_iter + 1], saved[2 * n_iter + 1 :]
    gradient = product(transposed(left), right)
    gradient = gradient + transposed(gradient)  # twice the symmetric part
    dm, e = gradient, gradient
    for z, m, v, following in zip(zs[:-1], ms[:-1], vs, ms[1:], strict=True):
        dv = product_plus(_times_t(dm, m), m, dm, alpha=-0.5)
        dm = product_plus(_times_t(dv, m), v, dm, alpha=-0.5)
        e = product_plus(_times_t(e, following), z, dm)
    share = inner(gradient, zs[-1]).sub_(inner(e, ms[0]))
    return torch.addcmul(e, share, ms[0]).mul_(-0.25 * norm**-1.5)


def _times_t(x: Tensor, m: Tensor) -> Tensor:
    """X T = 1.5 X - 0.5 X M."""
    return product_plus(x, x, m, beta=1.5, alpha=-0.5)
