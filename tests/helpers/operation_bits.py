"""Digests of the networks' operations, forward and backward, on fixed inputs: ``python operation_bits.py`` prints JSON.

Runs in any environment of the version matrix, under the level's variables; needs only numpy, torch and the inner
half. Names that begin with "torch " are those of torch itself for what ``ndrepro.training.layers.canonical_arithmetic``
computes in its own way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ndrepro.training.compute import torch_compat
from ndrepro.training.layers import canonical_arithmetic
from ndrepro.training.layers.arithmetic import TORCH, Arithmetic
from ndrepro.training.layers.canonical_arithmetic import CANONICAL
from ndrepro.training.layers.newton_schulz import inverse_sqrt

Operation = Callable[..., Tensor]
Case = tuple[str, Operation, tuple[Tensor, ...]]

# (batch, in, out, image, kernel, stride, padding, groups), as the networks of the studies have them
CONVOLUTIONS = [
    (16, 3, 64, 32, 3, 1, 1, 1),
    (16, 3, 64, 32, 7, 2, 3, 1),
    (16, 6, 16, 14, 5, 1, 0, 1),
    (16, 64, 64, 8, 3, 1, 1, 1),
    (17, 64, 128, 8, 3, 2, 1, 1),
    (17, 64, 128, 8, 1, 2, 0, 1),
    (16, 256, 512, 2, 3, 2, 1, 1),
    (3, 128, 128, 1, 3, 1, 1, 1),
    (16, 32, 32, 8, 3, 2, 1, 32),
    (16, 128, 128, 4, 3, 1, 1, 32),
]
# (rows, columns) of the matrices that are averaged, multiplied and whitened
MATRICES = [(9, 6), (100, 27), (400, 147), (784, 576), (1600, 75), (16, 84), (48, 400), (2400, 54)]
IMAGES = [(16, 64, 16, 16), (17, 6, 28, 28), (16, 512, 2, 2), (16, 512, 1, 1), (33, 128, 4, 4)]


def draw(name: str, *shape: int) -> Tensor:
    """Normal numbers, the same in every version of numpy, with a gradient to come."""
    seed = np.frombuffer(hashlib.sha256(f"{name}{shape}".encode()).digest()[:16], dtype="<u4")
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32)).requires_grad_()


def convolutions() -> Iterator[Case]:
    for shape in CONVOLUTIONS:
        n, channels, width, size, kernel, stride, padding, groups = shape
        inputs = (
            draw("x", n, channels, size, size),
            draw("w", width, channels // groups, kernel, kernel),
            draw("b", width),
        )

        def convolve(x: Tensor, w: Tensor, b: Tensor, rest: tuple[int, ...] = (stride, padding, 1, groups)) -> Tensor:
            return canonical_arithmetic.conv2d(x, w, b, *rest)

        yield f"conv2d {shape}", convolve, inputs


def pointwise() -> Iterator[Case]:
    values = draw("values", 4097)
    yield "torch sqrt", lambda x: torch.sqrt(x.abs()), (values,)
    yield "sqrt", lambda x: canonical_arithmetic.sqrt(x.abs()), (values,)
    yield "relu", torch.relu, (values,)
    yield "sigmoid", torch.sigmoid, (values,)
    yield "sgd", lambda w, g: w.detach().clone().mul_(0.9).add_(g).add_(w, alpha=-0.0371), (values, draw("g", 4097))
    for n, classes in [(16, 10), (128, 100)]:
        labels = torch.arange(n) % classes
        for reduction in ("mean", "sum"):
            name = f"cross_entropy {reduction} {n, classes}"
            yield name, lambda x, y=labels, r=reduction: F.cross_entropy(x, y, reduction=r), (draw("l", n, classes),)


def images() -> Iterator[Case]:
    for shape in IMAGES:
        x, channels = draw("image", *shape), shape[1]
        affine = (draw("gain", channels), draw("shift", channels))
        statistics = (torch.zeros(channels), torch.ones(channels))
        yield f"batch_norm {shape}", lambda x, w, b, s=statistics: F.batch_norm(x, *s, w, b, True), (x, *affine)
        # the averages that it has just moved
        yield f"batch_norm evaluated {shape}", lambda x, w, b, s=statistics: F.batch_norm(x, *s, w, b), (x, *affine)
        yield f"adaptive_avg_pool2d {shape}", lambda x: F.adaptive_avg_pool2d(x, (1, 1)), (x,)
        yield f"avg_pool2d {shape}", lambda x: F.avg_pool2d(x, x.shape[-2:]), (x,)
        yield f"max_pool2d {shape}", lambda x: F.max_pool2d(x, 3, 2, 1), (x,)
        yield f"local_response_norm {shape}", lambda x: F.local_response_norm(x, 9, 0.001, 0.75, 1.0), (x,)
        yield f"unfold {shape}", lambda x: F.unfold(x, 3, 1, 1, 3), (x,)


def matrices() -> Iterator[Case]:
    for rows, columns in MATRICES:
        x, square = draw("m", 1, rows, columns), draw("s", 1, columns, columns)
        weight, bias = draw("weight", 10, columns), draw("bias", 10)
        addend = torch.eye(columns).expand(1, -1, -1)
        yield f"linear {rows, columns}", F.linear, (x, weight, bias)
        yield f"mean {rows, columns}", lambda x: x.mean(1), (x,)
        yield f"sum {rows, columns}", lambda x: x.sum(1), (x,)
        yield f"matmul {rows, columns}", torch.matmul, (x, square)
        yield f"matrix_norm {rows, columns}", lambda a: torch.linalg.matrix_norm(a, keepdim=True), (square,)
        for own, arithmetic in (("", CANONICAL), ("torch ", TORCH)):
            yield f"{own}baddbmm {rows, columns}", partial(scaled_product, arithmetic, addend), (x,)
            if columns < 200:
                covariance = scaled_product(arithmetic, addend, x.detach()).requires_grad_()
                yield f"{own}inverse_sqrt {columns}", partial(whitening, arithmetic), (covariance,)


def scaled_product(arithmetic: Arithmetic, addend: Tensor, x: Tensor) -> Tensor:
    return arithmetic.baddbmm(addend, x.transpose(1, 2), x, beta=1e-5, alpha=1.0 / x.shape[1])


def whitening(arithmetic: Arithmetic, covariance: Tensor) -> Tensor:
    return inverse_sqrt(covariance, 5, arithmetic)


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    torch_compat.set_deterministic_algorithms(True)
    found = {}
    for cases in (convolutions(), pointwise(), images(), matrices()):
        for name, operation, inputs in cases:
            output = operation(*inputs)
            found[f"{name}: output"] = digest(output)
            if output.requires_grad:
                gradients = torch.autograd.grad(output, inputs, draw("incoming", *output.shape).detach())
                for index, gradient in enumerate(gradients):
                    found[f"{name}: gradient of input {index}"] = digest(gradient)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
