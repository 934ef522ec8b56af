"""Digests of the states of the random generators that the program uses; reading a state does not change it."""

from __future__ import annotations

import sys
import typing


def random_states() -> dict[str, str]:
    """SHA-256 of the state of each generator whose module is loaded: Python's, numpy's global one, torch's."""
    found: dict[str, str] = {}
    python: typing.Any
    numpy: typing.Any
    torch: typing.Any
    python, numpy, torch = (sys.modules.get(name) for name in ("random", "numpy.random", "torch"))
    if hasattr(python, "getstate"):
        found["python"] = _digest(repr(python.getstate()).encode())
    if hasattr(numpy, "get_state"):
        name, keys, *rest = numpy.get_state()
        found["numpy"] = _digest(keys.tobytes(), repr((name, rest)).encode())
    if hasattr(torch, "get_rng_state"):
        found["torch"] = _digest(_octets(torch.get_rng_state()))
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            for index in range(torch.cuda.device_count()):
                found[f"cuda:{index}"] = _digest(_octets(torch.cuda.get_rng_state(index)))
    return found


def _octets(state: typing.Any) -> bytes:
    """The bytes of a contiguous tensor in the CPU's memory."""
    import ctypes

    return ctypes.string_at(state.data_ptr(), state.numel() * state.element_size())


def _digest(*pieces: bytes) -> str:
    # what the program has loaded already: an import would look into its own folder
    hashlib = sys.modules.get("hashlib") or sys.modules.get("_sha2") or sys.modules.get("_sha256")
    if hashlib is None:
        hashlib = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    return str(hashlib.sha256(b"".join(pieces)).hexdigest())
