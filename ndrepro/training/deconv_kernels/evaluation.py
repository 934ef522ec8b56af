"""The folded weight of a layer in evaluation, kept while weight, bias and running statistics are as they were.

Every batch of an evaluation multiplies by the same W D, so it is computed for the first. Whether something changed is
asked of torch's version counters, which every operation on a tensor moves, and of the memory that the tensors are in.
Changes through ``Tensor.data`` move no counter and are not noticed, as autograd does not notice them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Folded = tuple[Tensor, Tensor]


class FoldedCache:
    """The folded weight and bias of one layer, or nothing."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget; frees the memory."""
        self._state: tuple[tuple[int, int], ...] = ()
        # memory of a tensor that is held is given to no other
        self._sources: tuple[Tensor, ...] = ()
        self._folded: Folded | None = None

    def get(self, sources: tuple[Tensor, ...], fold: Callable[[], Folded]) -> Folded:
        """``fold()`` of the ``sources``, or what it was if none of them has changed since."""
        state = tuple((source.data_ptr(), source._version) for source in sources)
        if self._folded is None or state != self._state:
            self._folded = fold()
            self._state, self._sources = state, tuple(source.detach() for source in sources)
        return self._folded
