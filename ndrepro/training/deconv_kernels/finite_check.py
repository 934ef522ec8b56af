"""Statistics that are not finite become an error that names the layer, at the step in which they arose.

A batch with a NaN or an infinity, or weights that have grown beyond all bounds before it, give a covariance whose norm
is not a positive number; every root of it would be NaN, and every parameter after the step. The norm is computed in
any case. On a CPU it is looked at at once. On a GPU a look would stop the device at every layer, so there the norms of
a step are collected and compared on the device, and the first that is wrong is noted there with its step; the host
asks when it waits for the device anyway (``raise_if_any``).

A graph of torch's compiler can do neither. It leaves the norms in the layer's ``TracedNorms``, from where ``end_step``
takes them, and computes on without those that are wrong (``statistics``). Of several layers in one such step the first
in the network's order of definition is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ndrepro.protocol.errors import NonFiniteStatistics

# norms that are kept at most before they are compared
_MOST_KEPT = 4096
_UNNUMBERED = 0
_CURE = "lower the learning rate, or look at the data: the first batch with such values is the one named"


@dataclass(eq=False)
class TracedNorms:
    """The norms (S, 1, 1) of one layer's covariances in a batch that a compiled graph computed; no graph reads them."""

    layer: str
    norms: Tensor | None = None


class FiniteCheck:
    """All layers of one network: their names, and what was seen of them. ``step`` is counted by ``end_step``."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._norms: list[Tensor] = []
        self._first: Tensor | None = None  # on the device: (step, index of the norm), or -1
        self._first_names: tuple[str, ...] = ()
        self._traced: list[TracedNorms] = []

    def traced(self, layer: str) -> TracedNorms:
        """Where compiled graphs leave the norms of a layer."""
        self._traced.append(TracedNorms(layer))
        return self._traced[-1]

    def observe(self, layer: str, norm: Tensor) -> None:
        """The norms (S, 1, 1) of a layer's covariances in this batch.

        Raises NonFiniteStatistics, on a CPU, where one is no positive finite number.
        """
        if norm.device.type != "cpu":
            self.collect(layer, norm)
        elif not (float(norm.amin()) > 0 and float(norm.amax()) < torch.inf):  # NaN is in both
            raise NonFiniteStatistics(*_told(layer))

    def collect(self, layer: str, norm: Tensor) -> None:
        """Keep the norms of a layer until the end of the step; nothing is read."""
        self._names.extend([layer] * norm.numel())
        self._norms.append(norm.flatten())
        if len(self._norms) >= _MOST_KEPT:  # a training loop that does not know of steps
            self.end_step(_UNNUMBERED)

    def end_step(self, step: int) -> None:
        """All layers were seen in the batch of ``step``; on a GPU nothing is read from it."""
        for traced in self._traced:
            norms, traced.norms = traced.norms, None
            if norms is not None:
                self.collect(traced.layer, norms)
        if not self._norms:
            return
        norms = torch.cat(self._norms)
        wrong = ~usable(norms)
        index = wrong.to(torch.int64).argmax()
        here = torch.stack([torch.full_like(index, step), index])
        here = torch.where(wrong.any(), here, torch.full_like(here, -1))
        self._first = here if self._first is None else torch.where(self._first[:1] < 0, here, self._first)
        self._first_names = tuple(self._names)
        self._names.clear()
        self._norms.clear()

    def raise_if_any(self) -> None:
        """Waits for the device. Raises NonFiniteStatistics with the first layer and step of any that were wrong."""
        self.end_step(_UNNUMBERED)  # what a training loop that does not know of steps has left
        if self._first is None:
            return
        step, index = self._first.tolist()
        self._first = None
        if step >= 0:
            problem, cure = _told(self._first_names[index])
            raise NonFiniteStatistics(problem if step == _UNNUMBERED else f"step {step}: {problem}", cure)


def usable(norm: Tensor) -> Tensor:
    """Where a norm is a positive finite number; NaN is neither."""
    return (norm > 0) & (norm < torch.inf)


def _told(layer: str) -> tuple[str, str]:
    return (
        f"layer {layer}: the covariance of its input is not finite or zero; the input has NaN, infinite or too large "
        "values, or is constant while eps=0",
        _CURE,
    )
