r"""Batch normalisation over a batch of which every process has a part (Ioffe and Szegedy 2015, algorithm 1).

Mean and variance are those of the whole batch: m = sum x / n, v = sum (x - m)^2 / n, both sums over all processes,
taken one after the other so that no digits are lost. Gradients flow through them as in one process.
``torch.nn.SyncBatchNorm`` does the same on GPUs only; this one does it anywhere, out of plain operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ndrepro.training.layers.together import Together


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with statistics over all processes; parameters, buffers and evaluation are its own.

    Input and output (N, C, H, W). Needs ``together`` while it trains. Running variances are unbiased, as torch's.
    """

    together: Together | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), in the input's dtype."""
        if not self.training or self.together is None:
            return super().forward(input)
        x = input.to(self.weight.dtype)  # sums in the parameters' precision, whatever autocast has
        count = self.together.images * x.shape[2] * x.shape[3]
        mean = self.together.total(x.sum((0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = self.together.total(centred.square().sum((0, 2, 3))) / count
        self._follow(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return out.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards the batch's."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.mul_(1 - self.momentum).add_(mean * self.momentum)
        self.running_var.mul_(1 - self.momentum).add_(variance * self.momentum)


def globalised(layer: nn.BatchNorm2d) -> GlobalBatchNorm2d:
    """A global batch norm that holds the very parameters and buffers of ``layer``."""
    new = nn.utils.skip_init(GlobalBatchNorm2d, layer.num_features, eps=layer.eps, momentum=layer.momentum)
    new.weight, new.bias = layer.weight, layer.bias
    new.running_mean, new.running_var = layer.running_mean, layer.running_var
    new.num_batches_tracked = layer.num_batches_tracked
    return new.train(layer.training)
