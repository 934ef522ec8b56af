"""One operation on fixed inputs: the same numbers in every version of numpy and torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """An operation, its shapes in words, what computes it and on which inputs.

    ``function`` takes the inputs and returns a tensor, or several where no gradient is asked for; those of the inputs
    that require a gradient get one.
    """

    operation: str
    shape: str
    function: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The operation with its shapes."""
        return f"{self.operation} {self.shape}".rstrip()

    def outputs(self) -> Iterator[tuple[str, Tensor]]:
        """Every output, "output" first, then "gradient of input 0" and so on, for a fixed incoming gradient."""
        result = self.function(*self.inputs)
        outputs = result if isinstance(result, tuple) else (result,)
        for index, output in enumerate(outputs):
            yield f"output {index}" if index else "output", output
        if outputs[0].requires_grad:
            incoming = draw("incoming", *outputs[0].shape, dtype=outputs[0].dtype).detach()
            wanted = [index for index, each in enumerate(self.inputs) if each.requires_grad]
            gradients = torch.autograd.grad(outputs[0], [self.inputs[index] for index in wanted], incoming)
            for index, gradient in zip(wanted, gradients, strict=True):
                yield f"gradient of input {index}", gradient


def draw(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of that shape, rounded to float32 and then to ``dtype``; it requires a gradient."""
    seed = np.frombuffer(hashlib.sha256(f"{name}{shape}".encode()).digest()[:16], dtype="<u4")
    numbers = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(numbers).to(dtype).requires_grad_()
