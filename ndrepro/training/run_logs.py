"""What a run writes while it trains: trail, metrics, state digests, timing; opened afresh, or cut back to a checkpoint.

On a GPU, losses and hashes of a few steps are kept on the device and written together, so that recording does not
wait for the device at every step; ``flush`` writes what is kept.
"""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores, Timing
from ndrepro.protocol.training_state import Place
from ndrepro.training.checkpoint import digest_state, state_tensors
from ndrepro.training.compute.fingerprint import fingerprints_of, tensor_names
from ndrepro.training.optimizer import SGD
from provenance.formats.metrics_log import ScalarLog
from provenance.formats.trail import TrailWriter

# steps whose records wait on a GPU before they are written
_KEEP_ON_DEVICE = 16


class Unrecorded:
    """The face of Recording where another process writes: rank 0's logs are the run's."""

    trail_seconds = 0.0

    def step(self, step: int, loss: torch.Tensor) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def epoch(self, scores: Scores, timing: Timing) -> None:
        """Nothing."""

    def state(self, place: Place, optimizer: SGD) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Recording(Unrecorded):
    """The run's four logs, started at ``place`` or, where ``resumed``, cut back to it and continued.

    ``trail_seconds`` is the time that the trail has taken in this process.
    """

    def __init__(self, folder: RunFolder, net: nn.Module, place: Place, *, resumed: bool) -> None:
        tensors = state_tensors(net)
        self._net = net
        self._fingerprints = fingerprints_of(tensors)
        self._device = next(iter(tensors.values())).device
        self._limit = 1 if self._device.type == "cpu" else _KEEP_ON_DEVICE
        self._kept: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.trail_seconds = 0.0
        self._trail = TrailWriter(folder.trail, tensor_names(tensors), keep=place.step + 1 if resumed else 0)
        # an attempt that left no checkpoint may have left rows: the run starts over, and they do not stay
        rows = place.epoch if resumed else 0
        self._metrics = ScalarLog(folder.metrics, keep_rows=rows)
        self._timing = ScalarLog(folder.timing, keep_rows=rows)
        # a run that an earlier release started has none, and gets none: they would lack the first
        records_states = folder.states.exists() or not resumed
        self._states = ScalarLog(folder.states, keep_rows=rows + resumed) if records_states else None
        if not resumed:
            self.step(place.step, torch.zeros((), device=self._device))

    def step(self, step: int, loss: torch.Tensor) -> None:
        """Record the state after ``step`` steps and the step's loss, a scalar tensor on the device."""
        start = time.perf_counter()
        self._kept.append((step, loss.detach().to(torch.float64), self._fingerprints.compute()))
        if len(self._kept) >= self._limit:
            self.flush()
        self.trail_seconds += time.perf_counter() - start

    def flush(self) -> None:
        """Write the records that wait on the device."""
        if not self._kept:
            return
        steps = np.array([step for step, _, _ in self._kept], dtype=np.uint64)[:, None]
        losses = torch.stack([loss for _, loss, _ in self._kept]).cpu().numpy().view(np.uint64)[:, None]
        hashes = torch.stack([hashes for _, _, hashes in self._kept]).cpu().numpy().view(np.uint64)
        self._trail.append(np.concatenate([steps, losses, hashes], axis=1))
        self._kept.clear()

    def epoch(self, scores: Scores, timing: Timing) -> None:
        """Append one epoch's results and its clock."""
        self._metrics.append(asdict(scores))
        self._timing.append(asdict(timing))

    def state(self, place: Place, optimizer: SGD) -> None:
        """Append the digests of the state at the start of an epoch, ``place``."""
        if self._states is not None:
            self._states.append(digest_state(place, self._net, optimizer).to_row())

    def close(self) -> None:
        """Write what waits and close the files."""
        self.flush()
        self._trail.close()
        self._metrics.close()
        self._timing.close()
        if self._states is not None:
            self._states.close()
