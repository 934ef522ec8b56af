"""The network as it is computed: in float32, TF32 or bfloat16, as it stands or compiled.

* fp32, tf32: a flag of the process (``determinism.apply``); TF32 rounds the factors of matrix products to ten bits of
  mantissa and sums in float32.
* bf16: ``torch.autocast`` around the forward pass. Parameters, their gradients, the optimizer, the loss, and every
  statistic, root and folded weight of the deconvolution layers stay float32; convolutions and products are bfloat16.
* compile: ``torch.compile``, whole networks with breaks where a layer asks for numbers from outside.

Evaluation computes as training does. What a machine cannot do is refused before the first step, never replaced.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ndrepro.protocol.errors import DeviceError, NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute import torch_compat

Forward = Callable[[Tensor], Tensor]


def forward_of(net: nn.Module, experiment: Experiment, device: torch.device) -> Forward:
    """What takes images (N, C, S, S) to scores float32 (N, classes), by the experiment's precision and compiler.

    Without either it is ``net`` itself. What is not available here was refused with the device (``check``).
    """
    compute: Forward = torch.compile(net) if experiment.compile else net
    if experiment.precision != "bf16":
        return compute

    def in_bfloat16(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return compute(images).float()

    return in_bfloat16


def check(experiment: Experiment, device: torch.device) -> None:
    """Raises DeviceError for a precision that the device has not, NdreproError where nothing can be compiled."""
    if experiment.precision == "tf32" and device.type != "cuda":
        raise DeviceError("precision=tf32 on the CPU: TF32 is a mode of NVIDIA GPUs", "choose precision=fp32")
    if experiment.precision in ("tf32", "bf16") and device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise DeviceError(
                f"precision={experiment.precision}: {torch.cuda.get_device_name(device)} has compute capability "
                f"{major}.{minor}, expected at least 8.0 (Ampere)",
                "choose precision=fp32",
            )
    if experiment.compile:
        _check_compiler(device)


def allows_tf32(experiment: Experiment) -> bool:
    """Whether matrix products and convolutions on a GPU may be in TF32."""
    asked = experiment.precision
    return asked == "tf32" or (asked == "auto" and experiment.determinism == "free")


def _check_compiler(device: torch.device) -> None:
    if not torch_compat.can_compile():
        raise NdreproError(
            f"compile=true: torch {torch.__version__} has no torch.compile, which came with 2.0",
            "choose a younger environment, or leave compile out",
        )
    compiler = os.environ.get("CXX", "g++") if device.type == "cpu" else os.environ.get("CC", "gcc")
    if shutil.which(compiler) is None:
        raise NdreproError(
            f"compile=true: there is no {compiler}, with which torch.compile makes its kernels",
            "install a C++ compiler, name one in CXX, or leave compile out; the image that `make image` builds has "
            "none: train outside of it",
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise NdreproError("compile=true: triton, which makes kernels for GPUs, is not installed", "leave compile out")
