r"""The truncated inverse square root on the eigenvalues of the covariance, and its adjoint.

The iteration of ``product_form`` is a polynomial p of A / s. With A / s = U diag(m) U^T it is the scalar iteration

    z <- z t,   m <- m t^2,   t = 1.5 - 0.5 m              D = U diag(z) U^T / sqrt(s)

and its adjoint (Daleckii and Krein 1965; Higham 2008, theorem 3.11) is, with H = U^T sym(G) U (``h`` is twice that),

    adjoint(G) = U (Q / s) U^T,   Q = Delta o H / sqrt(s) - c diag(m),
    c = <H, diag(z)> / (2 sqrt(s)) + <Delta o H, diag(m)> / sqrt(s)

where Delta_ij = (z(m_i) - z(m_j)) / (m_i - m_j) are divided differences of the *truncated* map z. They are built by
the product rule along the iteration, without a division, so that equal eigenvalues need no care. With a, b the values
of m at i and j before a step, and Dm, Dz the divided differences of m and z so far,

    Dz <- Dz t(b) - Dm z(a) / 2,      Dm <- Dm (9 - 6 (a + b) + a^2 + a b + b^2) / 4

Stacks of matrices (S, F, F) are treated one by one, in their own dtype, so that each stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ndrepro.training.compute import torch_compat
from ndrepro.training.deconv_kernels.matrix_products import into, symmetric_product, transposed

# from so many features on one thread solves faster than several; smaller matrices come here too, of first layers
_LARGE = 192


def inverse_sqrt(covariance: Tensor, norm: Tensor, identity: Tensor, n_iter: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """D (S, F, F) of ``covariance`` (S, F, F) with Frobenius ``norm`` (S, 1, 1), and what ``adjoint`` needs.

    ``identity`` is not used: products need it.

    Raises torch's LinAlgError where the eigenvalues do not converge.
    """
    spectra = [_eigen(each) for each in covariance.unbind()]
    m = _stack(values for values, _ in spectra) / norm[:, 0]
    vectors = [each for _, each in spectra]
    z, _ = _scalar_iteration(m, n_iter)
    scaled = z / norm[:, 0].sqrt()
    root = _stack(symmetric_product(u * each, u) for u, each in zip(vectors, scaled.unbind(), strict=True))
    return root, (norm, m, *vectors)


def adjoint(left: Tensor, right: Tensor, saved: tuple[Tensor, ...], n_iter: int) -> Tensor:
    """The gradient (S, F, F) with respect to the covariance, symmetric to rounding.

    The gradient with respect to D is ``left``^T ``right``, of (S, R, F) both; ``saved`` is from ``inverse_sqrt``.
    """
    norm, m, *vectors = saved
    return _stack(
        _adjoint_of_one(*each, n_iter)
        for each in zip(left.unbind(), right.unbind(), norm[:, 0].unbind(), m.unbind(), vectors, strict=True)
    )


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (F,) and vectors (F, F) of a symmetric matrix, of a large one with one thread.

    The solver divides its work into thousands of short pieces. To wake a thread that sleeps for each takes longer than
    to compute it alone, and one that does not sleep keeps a core from whatever else runs.
    """
    threads = 1 if torch_compat.is_compiling() or len(matrix) < _LARGE else torch.get_num_threads()
    if threads == 1:
        return torch.linalg.eigh(matrix)
    torch.set_num_threads(1)
    try:
        return torch.linalg.eigh(matrix)
    finally:
        torch.set_num_threads(threads)


def _adjoint_of_one(left: Tensor, right: Tensor, s: Tensor, m: Tensor, vectors: Tensor, n_iter: int) -> Tensor:
    """The adjoint (F, F) for one matrix: ``left`` and ``right`` (R, F), its norm ``s`` (1,), ``m`` (F,)."""
    h = _in_eigenbasis(left, right, vectors)
    z, iterates = _scalar_iteration(m, n_iter)
    q = _divided_differences(iterates).mul_(h).mul_(0.5 / s.sqrt())
    share = 0.25 * torch.dot(h.diagonal(), z) / s.sqrt() + torch.dot(q.diagonal(), m)
    q.diagonal().sub_(share * m)
    return symmetric_product(torch.mm(vectors, q.div_(s)), vectors)


def _stack(each: Iterable[Tensor]) -> Tensor:
    """Equal tensors as one with a first dimension; one of them alone is not copied."""
    first, *more = each
    return torch.stack([first, *more]) if more else first.unsqueeze(0)


def _in_eigenbasis(left: Tensor, right: Tensor, vectors: Tensor) -> Tensor:
    """U^T (G + G^T) U, symmetric, of G = left^T right; in the cheaper order."""
    if left.shape[0] < vectors.shape[0]:
        h = torch.mm(transposed(torch.mm(left, vectors)), torch.mm(right, vectors))
        return h + h.t()
    gradient = torch.mm(left.t(), right)
    return symmetric_product(vectors.t(), torch.mm(vectors.t(), gradient + gradient.t()))


def _scalar_iteration(m: Tensor, n_iter: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """z after ``n_iter`` steps from ``m`` (F,), and (m, z) before every step."""
    z = torch.ones_like(m)
    iterates = []
    for _ in range(n_iter):
        iterates.append((m, z))
        t = 1.5 - 0.5 * m
        z, m = z * t, m * t * t
    return z, iterates


def _divided_differences(iterates: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Delta (F, F) of the map from the first m to the last z."""
    m = iterates[0][0]
    dz = m.new_full((len(m), len(m)), -0.5)
    dm = _step_differences(m)
    for step, (m, z) in enumerate(iterates[1:], start=2):
        dz.mul_(1.5 - 0.5 * m)
        into(dz, torch.addcmul, dz, dm, z.unsqueeze(1), value=-0.5)  # addcmul_ is rounded twice by torch's compiler
        if step < len(iterates):
            dm.mul_(_step_differences(m))
    return dz


def _step_differences(m: Tensor) -> Tensor:
    """(9 - 6 (a + b) + a^2 + a b + b^2) / 4 for every pair of ``m`` (F,)."""
    alone = 1.125 - 1.5 * m + 0.25 * m * m
    return torch.addcmul(alone.unsqueeze(1) + alone, m.unsqueeze(1), m, value=0.25)
