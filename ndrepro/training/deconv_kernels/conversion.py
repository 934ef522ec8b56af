"""``deconvolve`` as the Python interface has it: the layers of ``layers.convert``, computed by the fast kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers import convert
from ndrepro.training.layers.conversion import Conversion
from ndrepro.training.layers.convert import First, Override

KERNELS = ("fast", "reference")


def deconvolve(
    module: nn.Module,
    *,
    kernel: str = "fast",
    block: int = 64,
    linear_block: int | None = 512,
    eps: float = 1e-5,
    n_iter: int = 5,
    momentum: float = 0.1,
    sampling_stride: int = 3,
    first: First | None = First(),  # noqa: B008 - frozen
    keep: Sequence[str] = (),
    overrides: Mapping[str, Override] | None = None,
) -> Conversion:
    """Replace convolutions and linear layers of ``module`` by deconvolving ones, and take out batch norms, in place.

    ``kernel`` "fast" computes the layers by the kernels of this package, "reference" as their equations stand: the same
    function, equal to rounding. Fast layers have first derivatives only. The other arguments are those of
    ``ndrepro.training.layers.deconvolve``.

    Raises UsageError for a layer that has no deconvolved form, for a name that matches nothing and for another kernel;
    the module is then as it was. A fast layer raises NonFiniteStatistics for an input that has no finite covariance: on
    a CPU in training at once, on a GPU in the next evaluation.
    """
    if kernel not in KERNELS:
        raise UsageError(f"kernel={kernel!r}, expected {' or '.join(KERNELS)}")
    conversion = convert.deconvolve(
        module,
        block=block,
        linear_block=linear_block,
        eps=eps,
        n_iter=n_iter,
        momentum=momentum,
        sampling_stride=sampling_stride,
        first=first,
        keep=keep,
        overrides=overrides,
    )
    if kernel == "fast":
        use_fast_kernels(module)
    return conversion
