"""Which form of the inverse square root a layer uses: by its shape and the kind of device, never by timing.

* On a CPU large matrices go by their eigenvalues: their cost, some nine F^3, is below that of the thirty products of
  the iteration and its derivative, once the products are too large to be free.
* Stacks of smaller ones (the groups of a grouped convolution) go by the form with the fewest products there.
* Everything else goes by products: one small matrix, and all on a GPU, where eigenvalues are slow and the number of
  kernels counts.
* Many steps (first layers) amplify rounding: those are computed in float64. Their matrices are small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ndrepro.training.deconv_kernels import product_form, spectral_form, stacked_form

# from so many features on a matrix is large: its root goes by eigenvalues, and its data may be whitened (``kernels``)
SPECTRAL_FEATURES = 192
PRECISE_STEPS = 8


@dataclass(frozen=True)
class InverseRoot:
    """``forward`` (covariance, norm, identity, n_iter) -> D and what ``adjoint`` needs; ``adjoint`` (left, right, that,
    n_iter) -> the covariance's gradient, for the gradient left^T right of D; ``precise``: in float64 whatever comes.
    """

    forward: Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, tuple[Tensor, ...]]]
    adjoint: Callable[[Tensor, Tensor, tuple[Tensor, ...], int], Tensor]
    precise: bool

    def dtype(self, own: torch.dtype) -> torch.dtype:
        """The dtype to compute in, for a layer of dtype ``own``."""
        return torch.float64 if self.precise else own


def root_for(device_type: str, groups: int, features: int, n_iter: int) -> InverseRoot:
    """The form for ``groups`` matrices of ``features`` squared."""
    precise = n_iter > PRECISE_STEPS
    if device_type == "cpu" and n_iter > 1 and (features >= SPECTRAL_FEATURES or (precise and groups == 1)):
        return InverseRoot(spectral_form.inverse_sqrt, spectral_form.adjoint, precise)
    if device_type == "cpu" and groups > 1:
        return InverseRoot(stacked_form.inverse_sqrt, stacked_form.adjoint, precise)
    return InverseRoot(product_form.inverse_sqrt, product_form.adjoint, precise)
