"""The operations of the studies' networks: convolutions, normalisations, pooling, products, whitening."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ndrepro.training.layers.arithmetic import Arithmetic
from ndrepro.training.layers.whitening import inverse_sqrt
from ndrepro.training.operators.case import Case, draw

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
_WHITENED_COLUMNS = 200  # more take seconds


def cases(dtype: torch.dtype, arithmetic: Arithmetic) -> Iterator[Case]:
    """Every case, made when it is asked for; ``arithmetic`` has convolution, square root and scaled product."""
    yield from convolutions(dtype, arithmetic)
    yield from pointwise(dtype, arithmetic)
    yield from images(dtype)
    yield from matrices(dtype, arithmetic)


def convolutions(dtype: torch.dtype, arithmetic: Arithmetic) -> Iterator[Case]:
    """Convolutions with bias: plain, strided, grouped, depthwise."""
    for shape in CONVOLUTIONS:
        n, channels, width, size, kernel, stride, padding, groups = shape

        def convolve(x: Tensor, w: Tensor, b: Tensor, rest: tuple[int, ...] = (stride, padding, 1, groups)) -> Tensor:
            return arithmetic.conv2d(x, w, b, *rest)

        inputs = (
            draw("x", n, channels, size, size, dtype=dtype),
            draw("w", width, channels // groups, kernel, kernel, dtype=dtype),
            draw("b", width, dtype=dtype),
        )
        yield Case("conv2d", str(shape), convolve, inputs)


def pointwise(dtype: torch.dtype, arithmetic: Arithmetic) -> Iterator[Case]:
    """Activations, the square root, a step of SGD, and the loss."""
    values = draw("values", 4097, dtype=dtype)
    yield Case("sqrt", "", lambda x: arithmetic.sqrt(x.abs()), (values,))
    yield Case("relu", "", torch.relu, (values,))
    yield Case("sigmoid", "", torch.sigmoid, (values,))
    step = (values, draw("g", 4097, dtype=dtype))
    yield Case("sgd", "", lambda w, g: w.detach().clone().mul_(0.9).add_(g).add_(w, alpha=-0.0371), step)
    for n, classes in [(16, 10), (128, 100)]:
        labels = torch.arange(n) % classes
        for reduction in ("mean", "sum"):

            def loss(x: Tensor, y: Tensor = labels, reduction: str = reduction) -> Tensor:
                return F.cross_entropy(x, y, reduction=reduction)

            yield Case(f"cross_entropy {reduction}", str((n, classes)), loss, (draw("l", n, classes, dtype=dtype),))


def images(dtype: torch.dtype) -> Iterator[Case]:
    """Normalisation and pooling of images, and the patches of deconvolution."""
    for shape in IMAGES:
        x, channels, words = draw("image", *shape, dtype=dtype), shape[1], str(shape)
        inputs = (x, draw("gain", channels, dtype=dtype), draw("shift", channels, dtype=dtype))
        means, variances = torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)

        def trained(x: Tensor, w: Tensor, b: Tensor, m: Tensor = means, v: Tensor = variances) -> Tensor:
            return F.batch_norm(x, m, v, w, b, True)

        def evaluated(x: Tensor, w: Tensor, b: Tensor, m: Tensor = means, v: Tensor = variances) -> Tensor:
            return F.batch_norm(x, m, v, w, b)  # with the averages that training has just moved

        yield Case("batch_norm", words, trained, inputs)
        yield Case("batch_norm evaluated", words, evaluated, inputs)
        yield Case("adaptive_avg_pool2d", words, lambda x: F.adaptive_avg_pool2d(x, (1, 1)), (x,))
        yield Case("avg_pool2d", words, lambda x: F.avg_pool2d(x, x.shape[-2:]), (x,))
        yield Case("max_pool2d", words, lambda x: F.max_pool2d(x, 3, 2, 1), (x,))
        yield Case("local_response_norm", words, lambda x: F.local_response_norm(x, 9, 0.001, 0.75, 1.0), (x,))
        yield Case("unfold", words, lambda x: F.unfold(x, 3, 1, 1, 3), (x,))


def matrices(dtype: torch.dtype, arithmetic: Arithmetic) -> Iterator[Case]:
    """Products and reductions of matrices, the covariance and its inverse square root."""
    for rows, columns in MATRICES:
        words = str((rows, columns))
        x, square = draw("m", 1, rows, columns, dtype=dtype), draw("s", 1, columns, columns, dtype=dtype)
        addend = torch.eye(columns).to(dtype).expand(1, -1, -1)

        def covariance(x: Tensor, addend: Tensor = addend) -> Tensor:
            return arithmetic.baddbmm(addend, x.transpose(1, 2), x, beta=1e-5, alpha=1.0 / x.shape[1])

        layer = (x, draw("weight", 10, columns, dtype=dtype), draw("bias", 10, dtype=dtype))
        yield Case("linear", words, F.linear, layer)
        yield Case("mean", words, lambda x: x.mean(1), (x,))
        yield Case("sum", words, lambda x: x.sum(1), (x,))
        yield Case("matmul", words, torch.matmul, (x, square))
        yield Case("matrix_norm", words, lambda a: torch.linalg.matrix_norm(a, keepdim=True), (square,))
        yield Case("baddbmm", words, covariance, (x,))
        if columns < _WHITENED_COLUMNS and dtype != torch.bfloat16:  # whitening is never computed in bfloat16
            matrix = covariance(x.detach()).requires_grad_()
            yield Case("inverse_sqrt", str(columns), lambda c: inverse_sqrt(c, 5, arithmetic), (matrix,))
