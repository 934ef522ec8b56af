"""Says where within a layer a computation has got to, to whoever replays a step to find an operation.

A layer that computes in several stages calls ``stage_done`` at the end of each. While nobody watches, which is always
but in a replay (``ndrepro.training.replay.operation_recorder``), that is one comparison with None: no tensor is
touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Watcher = Callable[[str, "tuple[Tensor, ...]"], None]

_watcher: Watcher | None = None


def stage_done(name: str, *results: Tensor) -> None:
    """The operations since the last stage of this layer, or since its start, were stage ``name`` and gave these."""
    if _watcher is not None:
        _watcher(name, results)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """While open, every stage is reported to ``watcher``."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before
