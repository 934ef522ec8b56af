"""Which layers a network really calls, in order, and how many of each kind it has.

Names promise more than networks keep: a net that is said to be deconvolved may keep fifty batch norms, and a
layer that is registered may never be called. So the census is taken while one evaluation batch of zeros
passes through, and goes into every manifest. Taking it leaves parameters, buffers, the mode of every module
and the random state as they were.

``census``            one ``Row`` for every call of a layer, in the order of the calls
``summary``           counts over the layers that the network registers, called or not
``network_document``  both, and every tensor's shape
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ndrepro.training.layers.deconv import Deconv2d, Delinear

Extent = int | tuple[int, ...]  # of a kernel, a stride: the same in both directions, or each


@dataclass(frozen=True)
class Row:
    """One call of one layer. What a layer does not have is ``None``; ``parameters`` counts numbers.

    ``layer`` is the kind in lower case. ``sampling_stride`` is counted in input pixels (the convolution's
    stride included).
    """

    call: int
    layer: str
    in_channels_or_features: int | None
    out_channels_or_features: int | None
    kernel: Extent | None
    stride: Extent | None
    padding: Extent | str | None
    groups: int | None
    bias: bool | None
    block: int | None
    n_iter: int | None
    freeze: bool | None
    sampling_stride: Extent | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class NetworkSummary:
    """What a network registers. ``trainable_parameters`` and ``buffers`` count numbers, not tensors."""

    trainable_parameters: int
    deconv2d_layers: int
    conv2d_layers: int
    batchnorm2d_layers: int
    delinear_layers: int
    linear_layers: int
    buffers: int


def census(net: nn.Module, input_shape: Sequence[int]) -> tuple[Row, ...]:
    """Every layer that one batch of ``input_shape`` (N, C, H, W) calls, in the order of the calls.

    A layer is a module with parameters or buffers of its own, or a pooling module. One that is called twice
    is listed twice.
    """
    rows: list[Row] = []
    like = next(net.parameters(), torch.empty(0))

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        rows.append(_row(len(rows), layer, _shape(inputs), _shape(output)))

    with _untouched(net, like), torch.no_grad():
        handles = [layer.register_forward_hook(record) for layer in net.modules() if _is_layer(layer)]
        try:
            net(torch.zeros(tuple(input_shape), dtype=like.dtype, device=like.device))
        finally:
            for handle in handles:
                handle.remove()
    return tuple(rows)


def summary(net: nn.Module) -> NetworkSummary:
    """How many layers of each kind ``net`` registers, and how many numbers it learns and keeps."""
    kinds = [type(layer) for layer in net.modules()]
    return NetworkSummary(
        trainable_parameters=sum(each.numel() for each in net.parameters() if each.requires_grad),
        deconv2d_layers=sum(issubclass(kind, Deconv2d) for kind in kinds),
        conv2d_layers=sum(issubclass(kind, nn.Conv2d) for kind in kinds),
        batchnorm2d_layers=sum(issubclass(kind, (nn.BatchNorm2d, nn.SyncBatchNorm)) for kind in kinds),
        delinear_layers=sum(issubclass(kind, Delinear) for kind in kinds),
        linear_layers=sum(issubclass(kind, nn.Linear) for kind in kinds),
        buffers=sum(each.numel() for each in net.buffers()),
    )


def network_document(net: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """What ``model.json`` says of a network: its counts, every call of a layer, the shape of every tensor."""
    rows = [asdict(row) for row in census(net, input_shape)]
    tensors = {name: list(tensor.shape) for name, tensor in net.state_dict(keep_vars=True).items()}
    return {"summary": asdict(summary(net)), "layers": rows, "tensors": tensors}


_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def _is_layer(module: nn.Module) -> bool:
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return bool(own) or isinstance(module, _POOLING)


@contextmanager
def _untouched(net: nn.Module, like: Tensor) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode and the random state as before outside."""
    modes = [(module, module.training) for module in net.modules()]
    with torch.random.fork_rng(devices=[like.device] if like.is_cuda else []):
        net.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def _row(call: int, layer: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Row:
    def own(*names: str) -> Any:
        values = (getattr(layer, name) for name in names if hasattr(layer, name))
        return next((_plain(value) for value in values), None)

    return Row(
        call=call,
        layer=type(layer).__name__.lower(),
        in_channels_or_features=own("in_channels", "in_features", "num_features"),
        out_channels_or_features=own("out_channels", "out_features"),
        kernel=own("kernel_size"),
        stride=own("stride"),
        padding=own("padding"),
        groups=own("groups"),
        bias=layer.bias is not None if hasattr(layer, "bias") else None,
        block=own("block"),
        n_iter=own("n_iter"),
        freeze=own("freeze"),
        sampling_stride=_one_if_equal(own("sampling_stride")),
        input_shape=input_shape,
        output_shape=output_shape,
        parameters=sum(each.numel() for each in layer.parameters(recurse=False)),
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (tuple, list)) else value


def _one_if_equal(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of the first tensor in what a layer was given or gave."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return tuple(value.shape) if isinstance(value, Tensor) else ()
