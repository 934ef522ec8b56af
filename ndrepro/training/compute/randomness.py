"""Named random streams: every random number of a run comes from here, drawn on the CPU.

A stream is a numpy RandomState, whose sequence is frozen for good (NEP 19), seeded by the first 128 bits of
sha256("seed/stream/part"), where part is the epoch (order, augment, dropout) or a tensor's name (init). So initial
weights, order of the data and augmentation are the same on every device and version of torch and numpy, each source
can be varied alone, and no state has to be saved: any epoch's draws can be made again from its number.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ndrepro.protocol.experiment.experiment import Experiment


def stream(experiment: Experiment, name: str, part: int | str) -> np.random.RandomState:
    """The generator of one part of a named stream."""
    text = f"{experiment.seed_of(name)}/{name}/{part}"
    words = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u4")
    return np.random.RandomState(words)


def epoch_order(experiment: Experiment, epoch: int, count: int) -> np.ndarray:
    """The order in which ``count`` training images are seen in an epoch, int64 (count,)."""
    return stream(experiment, "order", epoch).permutation(count).astype(np.int64)


def epoch_jitter(experiment: Experiment, epoch: int, count: int) -> np.ndarray:
    """Per place in the order: factors of contrast, saturation, brightness in 1 +- jitter; float32 (count, 3)."""
    generator = stream(experiment, "augment", f"{epoch}/jitter")
    low, high = 1 - experiment.jitter, 1 + experiment.jitter
    return generator.uniform(low, high, size=(count, 3)).astype(np.float32)


def epoch_crops(experiment: Experiment, epoch: int, count: int, room: int) -> np.ndarray:
    """Per place in the order: crop's row and column in 0..room, and flip 0 or 1; int64 (count, 3)."""
    generator = stream(experiment, "augment", epoch)
    crops = generator.randint(0, room + 1, size=(count, 2))
    flips = generator.randint(0, 2, size=(count, 1))
    return np.concatenate([crops, flips], axis=1).astype(np.int64)
