"""The only branches on torch's version, and the only reaches below its public interface; each says why."""

from __future__ import annotations

import torch


def set_deterministic_algorithms(wanted: bool) -> None:
    """``torch.use_deterministic_algorithms``, without what newer versions load for it.

    From 2.10 on the public function also sets a flag of the compiler, and imports the whole compiler to do so: two
    processor seconds in every run that compiles nothing.
    """
    torch._C._set_deterministic_algorithms(wanted, warn_only=False)


def convolve_by_products(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> torch.Tensor:
    """A convolution without groups or dilation, always as im2col and one matrix product an image.

    ``torch.nn.functional.conv2d`` chooses by batch size and processor, and torch before 2.2 has no switch for that.
    This is one of the kernels that it chooses from, under the same name in every version.
    """
    result: torch.Tensor = torch.ops.aten.thnn_conv2d(x, weight, weight.shape[2:], bias, stride, padding)
    return result


def memory_of(tensor: torch.Tensor) -> int:
    """Where the memory begins of which a tensor is a view: equal for tensors that share it.

    From 2.0 on a tensor's plain ``storage`` warns that it will go; its successor is not in 1.13.
    """
    storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
    return int(storage.data_ptr())
