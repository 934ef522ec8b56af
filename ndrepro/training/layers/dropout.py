"""Dropout whose random numbers come from outside, so that masks are the same on every device and version."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ndrepro.training.layers.together import Together

_LEVELS = 1 << 16  # of the fraction: a mask takes two random bytes a number


class RandomBytes(Protocol):
    """Where masks come from: a numpy RandomState, whose sequence never changes (NEP 19)."""

    def bytes(self, length: int) -> bytes:
        """So many random bytes."""


class StreamDropout(nn.Module):
    """In training y = x * mask / (1 - p), each number kept with probability 1 - p (Srivastava et al. 2014); else y = x.

    ``p`` is held to a multiple of 2^-16. ``source`` must be set before every training batch: whoever trains does so,
    from the stream "dropout" (``ndrepro.training.dropout_streams``). Shapes are free, images along the first axis; with
    ``together`` set, the masks are drawn for the images of all processes. Raises RuntimeError without a source,
    ValueError for a ``p`` outside 0..1.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p={p}, expected a fraction from 0 to 1")
        self.p = p
        self.source: RandomBytes | None = None
        self.together: Together | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Input of any shape, output of the same shape."""
        if not self.training or self.p == 0:
            return x
        if self.source is None:
            raise RuntimeError("dropout without random numbers: set its source before the batch")
        dropped = round(self.p * _LEVELS)
        if dropped == _LEVELS:
            return torch.zeros_like(x)
        first, images = (0, len(x)) if self.together is None else (self.together.before, self.together.images)
        # of the whole batch, so that an image has its mask whichever process has the image
        drawn = np.frombuffer(self.source.bytes(2 * x[:1].numel() * images), dtype="<u2").reshape(images, *x.shape[1:])
        mask = torch.from_numpy(drawn[first : first + len(x)] >= dropped).to(x.device)
        return x * mask * (_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"p={self.p}"
