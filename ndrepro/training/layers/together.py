"""What a layer that looks at a whole batch needs of the other processes, where a batch is shared out to several.

Such a layer holds ``together``: ``None`` while its process has the whole batch, else whoever can sum over all
processes (``ndrepro.training.process_group``). A sum taken for the statistics of all must send its gradient back to
all: with s = sum of x_r over the processes r, and each process's loss L_q a function of s, the gradient of the total
loss with respect to x_r is the sum of dL_q/ds over all q. So ``total`` sums in both directions.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Together(Protocol):
    """The other processes, as a layer sees them.

    ``before``: images of the present batch in processes of a lower rank; ``images``: of the whole batch.
    """

    @property
    def before(self) -> int:
        """Images of the batch in processes of a lower rank."""

    @property
    def images(self) -> int:
        """Images of the whole batch."""

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over all processes, differentiable; every process gets the same bits."""
