"""The only branches on torch's version, and the only reaches below its public interface; each says why."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_ONE_AUTOCAST = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 4)


def set_deterministic_algorithms(wanted: bool, *, compiling: bool = False) -> None:
    """``torch.use_deterministic_algorithms``, without what newer versions load for it.

    From 2.10 on the public function also sets a flag of the compiler, and imports the whole compiler to do so: two
    processor seconds in every run that compiles nothing.
    """
    if compiling:
        torch.use_deterministic_algorithms(wanted)
        return
    torch._C._set_deterministic_algorithms(wanted, warn_only=False)


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """Inside, autocast is off; nothing at all where it is off already.

    The question for a device other than CUDA has had three names: until 2.3 one for each device.
    """
    return torch.autocast(device_type, enabled=False) if autocasts(device_type) else nullcontext()


def autocasts(device_type: str) -> bool:
    """Whether autocast is on for a kind of device."""
    return bool(torch.is_autocast_enabled()) if device_type == "cuda" else _cpu_autocast_is_on()


def _cpu_autocast_is_on() -> bool:
    if _ONE_AUTOCAST:
        return bool(torch.is_autocast_enabled("cpu"))
    return bool(torch.is_autocast_cpu_enabled())


def reduces_in_bfloat16() -> bool | dict[str, str]:
    """Whether products of bfloat16 matrices on a GPU may be summed in bfloat16; torch before 2.0 has no such flag."""
    try:
        return bool(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction)
    except (AttributeError, AssertionError):  # how 1.13 says that it has not
        return {"unavailable": "this torch does not say"}


def can_compile() -> bool:
    """``torch.compile`` came with 2.0."""
    return hasattr(torch, "compile")


def is_compiling() -> bool:
    """Whether torch.compile is tracing the caller; the question came with 2.1, and its answer without a compiler."""
    compiler = getattr(torch, "compiler", None)
    return bool(compiler is not None and hasattr(compiler, "is_compiling") and compiler.is_compiling())


def convolve_by_products(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
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
