"""The truncated iteration, its limit and its gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrepro.training.layers.whitening import inverse_sqrt

pytestmark = pytest.mark.numerics


def covariance(size: int, seed: int, batch: tuple[int, ...] = (), condition: float = 30.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(*batch, size, size, generator=generator, dtype=torch.float64))
    values = torch.linspace(1.0, condition, size, dtype=torch.float64)
    return basis * values @ basis.transpose(-1, -2)


def by_the_definition(matrix: torch.Tensor, n_iter: int) -> torch.Tensor:
    """All three products of every step, as the equations stand."""
    norm = matrix.norm()
    identity = torch.eye(len(matrix), dtype=matrix.dtype)
    y, z = matrix / norm, identity
    for _ in range(n_iter):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    return z / norm.sqrt()


@pytest.mark.parametrize("n_iter", [1, 2, 5, 15])
def test_the_shortened_steps_equal_the_definition(n_iter: int) -> None:
    matrix = covariance(7, seed=1, condition=1e9)  # far from converged even after 15 steps
    assert torch.allclose(inverse_sqrt(matrix, n_iter), by_the_definition(matrix, n_iter), atol=1e-14, rtol=0)
    assert not torch.allclose(inverse_sqrt(matrix, n_iter), by_the_definition(matrix, n_iter + 1), atol=1e-6)


@settings(max_examples=25, derandomize=True)
@given(size=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_many_steps_reach_the_inverse_root(size: int, seed: int) -> None:
    matrix = covariance(size, seed)
    root = inverse_sqrt(matrix, 30)
    assert torch.allclose(root @ matrix @ root, torch.eye(size, dtype=torch.float64), atol=1e-9)


def test_few_steps_do_not_and_that_is_the_method() -> None:
    matrix = covariance(8, seed=0, condition=1e4)
    root = inverse_sqrt(matrix, 5)
    assert not torch.allclose(root @ matrix @ root, torch.eye(8, dtype=torch.float64), atol=0.1)


def test_every_matrix_of_a_batch_is_treated_by_itself() -> None:
    batch = covariance(5, seed=3, batch=(2, 3)) * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)[:, None, None]
    together = inverse_sqrt(batch, 5)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(together[i, j], inverse_sqrt(batch[i, j], 5), atol=1e-15, rtol=1e-13)


def test_the_gradient_is_that_of_the_steps() -> None:
    matrix = covariance(4, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: inverse_sqrt(a, 4), (matrix,))
