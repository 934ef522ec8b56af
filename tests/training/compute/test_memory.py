"""Freed memory stays with the training process, and only there where nobody has chosen otherwise."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

SIZE = 256 << 20
# resident bytes that stay after a block of SIZE bytes was written and freed
MEASURE = f"""
import ctypes, os, sys
from ndrepro.training.compute import memory
if sys.argv[1] == "keep":
    memory.keep_freed()
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before = resident()
block = libc.malloc({SIZE})
ctypes.memset(block, 1, {SIZE})
libc.free(block)
print(resident() - before)
"""


def _kept(mode: str, **variables: str) -> int:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, mode], env=inherited | variables, check=True, capture_output=True, text=True
    )
    return int(child.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
class TestKeepFreed:
    def test_a_freed_block_stays_resident(self):
        assert _kept("keep") > SIZE * 0.9

    def test_without_it_the_block_goes_back(self):
        assert _kept("leave") < SIZE * 0.1

    @pytest.mark.parametrize(
        "chosen",
        [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}],
        ids=lambda chosen: next(iter(chosen)),
    )
    def test_the_users_own_settings_are_left(self, chosen):
        assert _kept("keep", **chosen) < SIZE * 0.1
