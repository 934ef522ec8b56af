"""The few operations that a determinism level may compute in a way of its own, as one value to hand over.

A layer that takes part holds an ``Arithmetic`` and calls its operations; ``TORCH`` is what every layer starts with.
``ndrepro.training.layers.canonical_arithmetic`` has the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Arithmetic:
    """Each takes what torch's function of that name takes."""

    conv2d: Callable[..., Tensor] = F.conv2d
    baddbmm: Callable[..., Tensor] = torch.baddbmm
    sqrt: Callable[[Tensor], Tensor] = torch.sqrt


TORCH = Arithmetic()
