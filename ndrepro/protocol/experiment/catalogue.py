"""The names that an experiment is made of, and the facts about them that both halves need.

The training half holds the builders and loaders (``ndrepro.training.models``, ``ndrepro.training.data``) under the
same names; a test keeps the two lists equal. Here are only facts: the command line can offer the nearest name and
refuse a wrong one, or a network that cannot take a data set's images, without importing torch.

A network comes in one or two *designs*: "small", made for images of some tens of pixels, and "imagenet", torchvision's
own. The data set says which one is meant: ``resnet18_bn_90_imagenet`` is torchvision's ResNet-18, ``resnet18_bn_90``
the one for CIFAR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

METHODS = {
    "bn": "batch normalisation, the network as its paper has it",
    "nd": "network deconvolution in exactly the layers that the released code deconvolves",
    "nd_full": "every convolution deconvolved and no batch norm left, as the paper describes it",
    "none": "no batch normalisation at all",
    "bn_downsample": "batch normalisation in the two modules of small_inception that halve the image, and nowhere else",
}


@dataclass(frozen=True)
class Recipe:
    """Settings that a data set or a network brings with its name; ``None`` leaves the experiment's own default.

    Fields are keys of ``ndrepro.protocol.experiment.experiment.Experiment``.
    """

    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    augment: bool | None = None
    crop: int | None = None
    whiten: bool | None = None

    def settings(self) -> dict[str, Any]:
        """The settings that are not left to the default."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


_FREE = Recipe()


@dataclass(frozen=True)
class NetworkVariant:
    """One form of a network: the images that it takes, its methods, and what it brings to an experiment.

    ``smallest`` and ``largest`` are sides in pixels, both included (``None``: no limit). ``dropout`` is the fraction
    that its dropout layers drop unless an experiment says otherwise, ``None`` where it has none. ``frozen``: it has
    weights that are not trained, and not counted.
    """

    smallest: int = 1
    largest: int | None = None
    methods: tuple[str, ...] = ("bn", "nd", "nd_full", "none")
    dropout: float | None = None
    recipe: Recipe = _FREE
    frozen: bool = False


# Zhang et al. (2017), appendix A: centre crops of 28x28, each image whitened by itself, no weight decay and no
# augmentation unless said; the learning rate falls by 5 % an epoch. The batch size is not stated: 60 is derived by
# the EPFL reproduction from its figure 1 (50000 / B steps an epoch, 6 epochs in 5000 steps).
_ZHANG = Recipe(
    batch_size=60, learning_rate=0.01, weight_decay=0.0, schedule="exponential", augment=False, crop=28, whiten=True
)

DESIGNS: dict[str, Mapping[str, NetworkVariant]] = {
    "small": {
        "vgg11": NetworkVariant(32, 63),
        "vgg16": NetworkVariant(32, 63),
        "vgg19": NetworkVariant(32, 63),
        "resnet18": NetworkVariant(),
        "resnet18d": NetworkVariant(),
        "resnet101": NetworkVariant(),
        "preact18": NetworkVariant(),
        "preact101": NetworkVariant(),
        "densenet121": NetworkVariant(8),
        "densenet201": NetworkVariant(8),
        "resnext29": NetworkVariant(),
        "mobilenetv2": NetworkVariant(),
        "dpn92": NetworkVariant(),
        "pnasnet18": NetworkVariant(),
        "senet18": NetworkVariant(),
        "efficientnet": NetworkVariant(),
        "lenet": NetworkVariant(16),
        "small_inception": NetworkVariant(
            methods=("bn", "bn_downsample", "none", "nd", "nd_full"),
            dropout=0.0,
            recipe=replace(_ZHANG, learning_rate=0.1),
            frozen=True,  # its batch norm has weights that stay 1
        ),
        "small_alexnet": NetworkVariant(8, methods=("none", "nd", "nd_full"), dropout=0.0, recipe=_ZHANG),
        "mlp512": NetworkVariant(methods=("none", "nd", "nd_full"), dropout=0.0, recipe=_ZHANG),
    },
    "imagenet": {
        # the paper's table; the released commands name no rate for it, hence 0.1, under which it does not train
        "vgg11": NetworkVariant(32, dropout=0.5, recipe=Recipe(learning_rate=0.01)),
        "resnet18": NetworkVariant(32),
        "densenet121": NetworkVariant(32),
    },
}
ARCHITECTURES = tuple(DESIGNS["small"])


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a data set before it is opened.

    ``mean`` and ``std`` are those of the study's recipe, else those in common use, per channel of pixels scaled to
    0..1. ``crop_padding`` (pixels, each side) and ``flip`` are the augmentation of the recipe. ``design`` is the form
    in which networks are meant for its images; ``recipe`` what it changes of an experiment's defaults.
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
    design: str = "small"
    recipe: Recipe = _FREE


# title; classes, channels, side, training and test images; mean and deviation; padding, mirrored
DATASETS = {
    "digits": DatasetFacts(
        "handwritten digits (UCI, in scikit-learn), 8x8 enlarged to 32x32",
        *(10, 3, 32, 1437, 360),
        *((0.3054, 0.3054, 0.3054), (0.3228, 0.3228, 0.3228), 2, False),  # a mirrored 2 is no digit
    ),
    "cifar10": DatasetFacts(
        "CIFAR-10", *(10, 3, 32, 50_000, 10_000), *((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 4, True)
    ),
    "cifar100": DatasetFacts(
        "CIFAR-100", *(100, 3, 32, 50_000, 10_000), *((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023), 4, True)
    ),
    "mnist": DatasetFacts(
        "MNIST: handwritten digits, grey, 28x28", *(10, 1, 28, 60_000, 10_000), *((0.1307,), (0.3081,), 2, False)
    ),
    "fashion_mnist": DatasetFacts(
        "Fashion-MNIST: clothes, grey, 28x28", *(10, 1, 28, 60_000, 10_000), *((0.2860,), (0.3530,), 2, True)
    ),
    "emnist_balanced": DatasetFacts(
        "EMNIST Balanced: handwritten letters and digits, grey, 28x28",
        *(47, 1, 28, 112_800, 18_800),
        *((0.1751,), (0.3332,), 2, False),
    ),
    "svhn": DatasetFacts(
        "SVHN: house numbers, cropped digits, 32x32",
        *(10, 3, 32, 73_257, 26_032),
        *((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), 4, False),
    ),
    "stl10": DatasetFacts(
        "STL-10: its labelled images, 96x96",
        *(10, 3, 96, 5_000, 8_000),
        *((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713), 12, True),
    ),
    "tiny_imagenet": DatasetFacts(
        "Tiny ImageNet: 200 classes, 64x64; its validation images are the test split",
        *(200, 3, 64, 100_000, 10_000),
        *((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821), 8, True),
    ),
    "imagenet": DatasetFacts(
        "ImageNet (ILSVRC 2012): crops of 224x224; its validation images are the test split",
        *(1000, 3, 224, 1_281_167, 50_000),
        *((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        *(0, True),  # crops of random size and place instead of padding
        design="imagenet",
        recipe=Recipe(batch_size=256, weight_decay=1e-4),
    ),
}

# digits.csv.gz in scikit-learn 1.9.1
DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"

# SHA-256 of the uncompressed official files, where they are known. Of MNIST as several projects publish it for the
# files of torchvision's mirror; of Fashion-MNIST as computed from Debian's dataset-fashion-mnist, whose compressed data
# have the official md5 with the gzip header of 2017 (tests/training/data/readers/test_idx.py). In the order of training
# images and labels, test images and labels.
IDX_SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion_mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
# every file that a run on official data has read, by the digests that ``dataset.json`` or its listing has
OFFICIAL_SHA256 = {
    "digits": frozenset({DIGITS_SHA256}),
    **{name: frozenset(digests) for name, digests in IDX_SHA256.items()},
}


def design_of(arch: str, dataset: str) -> NetworkVariant | None:
    """The form of a network that is meant for a data set's images; ``None`` where it has none for them.

    Data sets that are not in the catalogue hold small images.
    """
    facts = DATASETS.get(dataset)
    return DESIGNS[facts.design if facts else "small"].get(arch)
