"""The groups of an experiment's settings: keys with a dot, such as ``deconv.block``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ndrepro.protocol.experiment.setting import LARGEST_INTEGER, Meaning

PIXELS = ("none", "shuffled", "random", "gaussian")


def _stream(what: str) -> Meaning:
    return Meaning(f"Seed of {what}; none takes the value of seed.", least=0, most=LARGEST_INTEGER)


@dataclass(frozen=True)
class Seeds:
    """A seed for a single random stream; ``None`` takes the experiment's seed."""

    init: Annotated[int | None, _stream("the first weights")] = None
    order: Annotated[int | None, _stream("the order of training images")] = None
    augment: Annotated[int | None, _stream("crops, flips and jitter")] = None
    dropout: Annotated[int | None, _stream("dropout")] = None
    corrupt: Annotated[int | None, _stream("corrupted labels and pixels")] = None
    split: Annotated[int | None, _stream("the choice of validation images")] = None


@dataclass(frozen=True)
class Deconvolution:
    """Settings of the deconvolution layers (Ye et al. 2020, section 3)."""

    block: Annotated[
        int, Meaning("Channels that a convolution whitens together.", "channels", least=1, aliases=("block_size",))
    ] = 64
    linear_block: Annotated[
        int | None,
        Meaning("Features that a linear layer whitens together; none is the released code's.", "features", least=1),
    ] = None
    eps: Annotated[float, Meaning("Added to the diagonal of each covariance.", least=0, aliases=("epsilon",))] = 1e-5
    n_iter: Annotated[
        int, Meaning("Newton-Schulz steps towards the inverse square root.", "steps", least=1, aliases=("iterations",))
    ] = 5
    momentum: Annotated[float, Meaning("Weight of the current batch in the running statistics.")] = 0.1
    sampling_stride: Annotated[
        int, Meaning("Distance between the positions that enter the covariance.", "pixels", least=1)
    ] = 3


@dataclass(frozen=True)
class Corruption:
    """What is done to the data on purpose (Zhang et al. 2017, section 2.1), drawn from the stream "corrupt".

    Only training images are changed, unless ``test_pixels`` has the test images changed in the same way.
    """

    labels: Annotated[
        float,
        Meaning(
            "Part of the training labels, drawn at random, that become random classes.", "fraction", least=0, most=1
        ),
    ] = 0.0
    pixels: Annotated[
        str,
        Meaning(
            "shuffled: one permutation of the pixels for all images; random: one for each image; gaussian: noise with "
            "the mean and variance of each channel.",
            choices=PIXELS,
        ),
    ] = "none"
    test_pixels: Annotated[bool, Meaning("Corrupt the pixels of test images too.")] = False
