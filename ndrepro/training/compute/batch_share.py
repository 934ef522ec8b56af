"""Which part of every batch a process computes, where several share the batches of one run.

A process takes a piece of consecutive rows, so that all pieces in the order of the ranks are the batch. Test batches
are dealt out whole, one after the other: the network does not look at a test batch as a whole, and sums over whole
batches are the same whichever process computed them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Process ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    def of(self, start: int, stop: int) -> slice:
        """This process's rows of a batch that has the rows ``start`` to ``stop``."""
        count = stop - start
        return slice(start + count * self.rank // self.size, start + count * (self.rank + 1) // self.size)

    def whole(self, batches: int) -> range:
        """The numbers of the test batches that this process computes."""
        return range(self.rank, batches, self.size)


WHOLE = Share()
