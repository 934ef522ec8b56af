"""Digests of the states of the random generators that the program uses; reading a state does not change it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing


def random_states() -> dict[str, str]:
    """SHA-256 of the state of each generator whose module is loaded: Python's, numpy's global one, torch's.

    Of one that cannot be read ``unavailable`` and why.
    """
    python: typing.Any
    numpy: typing.Any
    torch: typing.Any
    python, numpy, torch = (sys.modules.get(name) for name in ("random", "numpy.random", "torch"))
    asked: dict[str, typing.Callable[[], list[bytes]]] = {}
    # a module of the program's own may have one of these names
    if hasattr(python, "getstate"):
        asked["python"] = lambda: [repr(python.getstate()).encode()]
    if hasattr(numpy, "get_state"):
        asked["numpy"] = lambda: _of_numpy(*numpy.get_state())
    if hasattr(torch, "get_rng_state"):
        asked["torch"] = lambda: [_octets(torch.get_rng_state())]
        if torch.cuda.is_initialized():
            for index in range(torch.cuda.device_count()):
                asked[f"cuda:{index}"] = _of_gpu(torch, index)
    return {name: _digest(question) for name, question in asked.items()}


def _of_numpy(name: str, keys: typing.Any, *rest: object) -> list[bytes]:
    return [keys.tobytes(), repr((name, rest)).encode()]


def _of_gpu(torch: typing.Any, index: int) -> typing.Callable[[], list[bytes]]:
    return lambda: [_octets(torch.cuda.get_rng_state(index))]


def _octets(state: typing.Any) -> bytes:
    """The bytes of a contiguous tensor in the CPU's memory."""
    import ctypes

    return ctypes.string_at(state.data_ptr(), state.numel() * state.element_size())


def _digest(question: typing.Callable[[], list[bytes]]) -> str:
    try:
        pieces = question()
        # what the program has loaded already: an import would look into its own folder
        hashlib = sys.modules.get("hashlib") or sys.modules.get("_sha2") or sys.modules.get("_sha256")
        if hashlib is None:
            hashlib = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
        return str(hashlib.sha256(b"".join(pieces)).hexdigest())
    except Exception as error:
        return f"unavailable: {type(error).__name__}"
