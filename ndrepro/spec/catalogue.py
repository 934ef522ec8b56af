"""The names that an experiment is made of, and the facts about them that both halves need.

The training half holds the builders and loaders (``ndrepro.training.models``, ``ndrepro.training.data``) under the
same names; a test keeps the two lists equal. Here are only facts: the command line can offer the nearest name and
refuse a wrong one without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = {
    "bn": "batch normalisation, the network as its paper has it",
    "nd": "network deconvolution in exactly the layers that the released code deconvolves",
    "nd_full": "every convolution deconvolved and no batch norm left, as the paper describes it",
    "none": "no normalisation at all",
}

ARCHITECTURES = (
    "vgg11",
    "vgg16",
    "vgg19",
    "resnet18",
    "resnet18d",
    "resnet101",
    "preact18",
    "preact101",
    "densenet121",
    "densenet201",
    "resnext29",
    "mobilenetv2",
    "dpn92",
    "pnasnet18",
    "senet18",
    "efficientnet",
    "lenet",
)


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before it is opened.

    ``mean`` and ``std`` are those of the study's recipe, per channel of pixels scaled to 0..1.
    ``crop_padding`` (pixels, each side) and ``flip`` are the augmentation of the recipe.
    """

    title: str
    num_classes: int
    channels: int
    size: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool


DATASETS = {
    "digits": DatasetFacts(
        title="handwritten digits (UCI, in scikit-learn), 8x8 enlarged to 32x32",
        num_classes=10,
        channels=3,
        size=32,
        train_images=1437,
        test_images=360,
        mean=(0.3054, 0.3054, 0.3054),
        std=(0.3228, 0.3228, 0.3228),
        crop_padding=2,
        flip=False,  # a mirrored 2 is no digit
    ),
    "cifar10": DatasetFacts(
        title="CIFAR-10",
        num_classes=10,
        channels=3,
        size=32,
        train_images=50_000,
        test_images=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        crop_padding=4,
        flip=True,
    ),
    "cifar100": DatasetFacts(
        title="CIFAR-100",
        num_classes=100,
        channels=3,
        size=32,
        train_images=50_000,
        test_images=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2009, 0.1984, 0.2023),
        crop_padding=4,
        flip=True,
    ),
}
