"""The only branches on torch's version, and the only reaches below its public interface; each says why."""

from __future__ import annotations

import torch


def set_deterministic_algorithms(wanted: bool) -> None:
    """``torch.use_deterministic_algorithms``, without what newer versions load for it.

    From 2.10 on the public function also sets a flag of the compiler, and imports the whole compiler to do so: two
    processor seconds in every run that compiles nothing.
    """
    torch._C._set_deterministic_algorithms(wanted, warn_only=False)
