"""The fast kernels of one network's layers: attached by ``use_fast_kernels``, chosen by shape and device.

``layers.deconv`` keeps parameters, buffers, names and settings; a layer with a kernel hands its input over to it:

1. in training, while it is live: statistics and folded weight in one node (``folded_weight``), or the patches whitened
   where that is less work (``whitened_data``); the running averages move;
2. frozen, or in evaluation with gradients: the running averages, folded by plain operations, as the reference;
3. in evaluation without gradients: the folded weight that is kept (``evaluation``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ndrepro.training.compute import torch_compat
from ndrepro.training.compute.torch_compat import full_precision
from ndrepro.training.deconv_kernels.evaluation import FoldedCache
from ndrepro.training.deconv_kernels.finite_check import FiniteCheck
from ndrepro.training.deconv_kernels.folded_weight import FoldedWeight
from ndrepro.training.deconv_kernels.patches import PatchGrid
from ndrepro.training.deconv_kernels.roots import SPECTRAL_FEATURES, root_for
from ndrepro.training.deconv_kernels.sampling import ConvolutionRows, LinearRows
from ndrepro.training.deconv_kernels.statistics import WhiteningPlan
from ndrepro.training.deconv_kernels.whitened_data import WhitenedConvolution
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.stages import stage_done


def use_fast_kernels(net: nn.Module) -> FiniteCheck:
    """Attach a fast kernel to every deconvolution layer of ``net``; parameters, buffers and names stay as they are."""
    check = FiniteCheck()
    for name, layer in net.named_modules():
        if isinstance(layer, (Deconv2d, Delinear)):
            layer.kernel = FastKernel(layer, name, check)
    return check


def finite_check_of(net: nn.Module) -> FiniteCheck | None:
    """The check that the kernels of ``net`` share; ``None`` where it has none."""
    kernels = (getattr(layer, "kernel", None) for layer in net.modules())
    return next((kernel.check for kernel in kernels if isinstance(kernel, FastKernel)), None)


class FastKernel:
    """Computes one layer."""

    def __init__(self, layer: Deconv2d | Delinear, name: str, check: FiniteCheck) -> None:
        self.name = f"{name} ({type(layer).__name__})"
        self.check = check
        self._traced = check.traced(self.name)
        self._cache = FoldedCache()
        self._rows = ConvolutionRows.of(layer) if isinstance(layer, Deconv2d) else LinearRows.of(layer)
        self._grid = None
        if isinstance(layer, Deconv2d):
            self._grid = PatchGrid(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

    def measured(self, layer: Deconv2d | Delinear, x: Tensor) -> Tensor:
        """The output of a live layer for a batch ``x``; its running averages move.

        Raises NonFiniteStatistics, on a CPU, for a batch that gives no finite covariance.
        """
        if isinstance(layer, Deconv2d) and self._whitens_data(layer, x):
            self._cache.clear()
            y, *measured = WhitenedConvolution.apply(x, layer.weight, layer.bias, self._plan(layer, x), self._grid)
            self._follow(layer, *measured)
            stage_done("whitened convolution", y)
            return y
        x, kernel, bias = self.folded(layer, x)
        stage_done("weight transform", kernel, bias)
        return layer.applied(x, kernel, bias)

    def folded(self, layer: Deconv2d | Delinear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` for the convolution, and the weight and bias that the statistics of this batch give."""
        self._cache.clear()
        with full_precision(x.device.type):
            same, kernel, bias, *measured = FoldedWeight.apply(x, layer.weight, layer.bias, self._plan(layer, x))
            self._follow(layer, *measured)
        return same if x.requires_grad else x, kernel, bias

    def running(self, layer: Deconv2d | Delinear, x: Tensor) -> Tensor:
        """The output of a layer that takes its running averages.

        Raises NonFiniteStatistics, in evaluation on a GPU, for an earlier batch whose covariance was not finite.
        """
        if not layer.training and not torch_compat.is_compiling():
            self.check.raise_if_any()
        if torch.is_grad_enabled() or torch_compat.is_compiling() or layer.weight.is_inference():
            self._cache.clear()
            kernel, bias = layer.folded_running(x.device.type)
        else:
            sources = [layer.weight, layer.running_mean, layer.running_deconv]
            sources += [] if layer.bias is None else [layer.bias]
            kernel, bias = self._cache.get(tuple(sources), lambda: layer.folded_running(x.device.type))
        stage_done("weight transform", kernel, bias)
        return layer.applied(x, kernel, bias)

    def _plan(self, layer: Deconv2d | Delinear, x: Tensor) -> WhiteningPlan:
        root = root_for(x.device.type, self._rows.groups, self._rows.features, layer.n_iter)
        observe = None if torch_compat.is_compiling() else self._observe
        return WhiteningPlan(self._rows, root, layer.eps, layer.n_iter, layer.together, observe)

    def _observe(self, norm: Tensor) -> None:
        self.check.observe(self.name, norm)

    def _whitens_data(self, layer: Deconv2d, x: Tensor) -> bool:
        """Whether the convolution sees fewer positions than it has outputs: large blocks on a CPU, plain float."""
        assert self._grid is not None
        down, across = self._grid.counts(x.shape[2], x.shape[3])
        return (
            x.device.type == "cpu"
            and layer.groups == 1
            and layer.kernel_size != (1, 1)
            and layer.num_features >= SPECTRAL_FEATURES
            and len(x) * down * across < layer.out_channels
            and x.dtype == layer.weight.dtype
            and not torch_compat.autocasts(x.device.type)
        )

    def _follow(self, layer: Deconv2d | Delinear, mean: Tensor, deconv: Tensor, norm: Tensor) -> None:
        """Move the running averages towards the batch's; a compiled graph leaves ``norm`` to the check."""
        with torch.no_grad():
            layer.running_mean.lerp_(mean.view_as(layer.running_mean), layer.momentum)
            layer.running_deconv.lerp_(deconv.view_as(layer.running_deconv), layer.momentum)
        stage_done("running averages")
        if torch_compat.is_compiling():
            if isinstance(layer, Deconv2d) and layer.freeze:  # measured, but not used
                norm = torch.where(layer.step > layer.freeze_iter, torch.ones_like(norm), norm)
            self._traced.norms = norm
