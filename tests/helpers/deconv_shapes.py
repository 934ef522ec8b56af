"""The shapes of every deconvolution layer of the study's networks, each once, read from the networks themselves."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ndrepro.training import models
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.census import census
from ndrepro.training.layers.deconv import Deconv2d, Delinear

STUDIED = (
    "vgg16", "resnet18d", "resnet18", "preact18", "densenet121", "resnext29", "mobilenetv2", "dpn92", "pnasnet18",
    "senet18", "efficientnet",
)  # fmt: skip


@dataclass(frozen=True)
class LayerShape:
    """A layer and the side of the images that it gets; ``linear`` has one pixel and no kernel."""

    in_size: int
    out_size: int
    kernel: int
    stride: int
    padding: int
    groups: int
    block: int
    n_iter: int
    side: int
    linear: bool = False

    def layer(self) -> Deconv2d | Delinear:
        """Such a layer, in float32, with PyTorch's own start."""
        if self.linear:
            return Delinear(self.in_size, self.out_size, n_iter=self.n_iter, block=self.block)
        return Deconv2d(
            self.in_size, self.out_size, self.kernel, self.stride, self.padding, groups=self.groups,
            n_iter=self.n_iter, block=self.block,
        )  # fmt: skip

    def batch(self, count: int) -> Tensor:
        """What a layer behind a ReLU gets, float64: some channels brighter than others, few values of zero."""
        shape = (count, self.in_size) if self.linear else (count, self.in_size, self.side, self.side)
        generator = torch.Generator().manual_seed(1)
        level = torch.randn(1, *shape[1:2], *[1] * (len(shape) - 2), generator=generator, dtype=torch.float64)
        return torch.relu(torch.randn(shape, generator=generator, dtype=torch.float64) + 0.3 * level) + 0.5


@cache
def studied_shapes() -> tuple[LayerShape, ...]:
    """Every one once, in the order in which they are met."""
    found: dict[LayerShape, None] = {}
    for arch in STUDIED:
        net = models.build(arch, "nd", 10)
        for row in census(net, (2, 3, 32, 32)):
            if row.layer in ("deconv2d", "delinear"):
                found[_shape(row)] = None
    return tuple(found)


def _shape(row: object) -> LayerShape:
    get = row.__getattribute__
    linear = get("layer") == "delinear"
    first = (lambda value: value[0]) if not linear else (lambda value: 1)
    return LayerShape(
        in_size=get("in_channels_or_features"),
        out_size=get("out_channels_or_features"),
        kernel=first(get("kernel")),
        stride=first(get("stride")),
        padding=first(get("padding")),
        groups=get("groups") or 1,
        block=get("block"),
        n_iter=get("n_iter"),
        side=1 if linear else get("input_shape")[2],
        linear=linear,
    )


def trained_twice(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, gradients and buffers of the second of two training steps on ``x``, the output's gradient being drawn."""
    layer(x)
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y.backward(upstream.to(y.dtype))
    gradients = {f"gradient of {name}": each.grad for name, each in layer.named_parameters()}
    return {"output": y.detach(), "gradient of input": x.grad, **gradients, **dict(layer.named_buffers())}


def with_fast_kernel(layer: nn.Module) -> nn.Module:
    """A copy of ``layer`` with the same parameters and a fast kernel."""
    twin = copy.deepcopy(layer)
    use_fast_kernels(nn.Sequential(twin))
    return twin


def relative(found: Tensor, exact: Tensor) -> float:
    """The norm of the difference over the norm of ``exact``."""
    return float((found.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-300))
