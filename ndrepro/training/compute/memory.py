"""The C library's allocator, set for training: memory that a tensor gave back serves the next one.

glibc maps a large block anew for each tensor and unmaps it at once, so that the kernel clears every page again: on a
virtual machine a fifth of a step's processor time (docs/findings/performance.md). Where a block lies moves no bit.
"""

from __future__ import annotations

import ctypes
import os

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed() -> None:
    """Keep freed blocks in the process instead of giving them back; its resident memory is then its peak, some per
    cent above what it was. Nothing is done where the user has set the allocator by variables, or it is not glibc's.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_TOP_PAD, 64 << 20)
