"""The interface of what a deconvolution layer may hand its computation over to: ``ndrepro.training.deconv_kernels``."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class LayerKernel(Protocol):
    """Computes a layer whose parameters, buffers and settings stay the layer's."""

    def measured(self, layer: Any, x: Tensor) -> Tensor:
        """The output for a training batch whose statistics are used, and move the running averages."""

    def folded(self, layer: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` for the convolution of a training batch, and the weight and bias that its statistics give."""

    def running(self, layer: Any, x: Tensor) -> Tensor:
        """The output with the running averages."""
