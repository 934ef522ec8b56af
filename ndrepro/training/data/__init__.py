"""Data sets by name: each loader takes the folder or file where the data may lie, and returns Images.

ImageNet's returns Photographs, which are read when they are needed.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ndrepro.training.data.own_data import own_images
from ndrepro.training.data.readers import cifar, digits, idx, imagenet, stl10, svhn, tiny_imagenet
from ndrepro.training.data.readers.images import Images
from ndrepro.training.data.readers.photographs import Photographs

DATASETS: dict[str, Callable[[Path], Images | Photographs]] = {
    "digits": digits.load,
    "cifar10": partial(cifar.load, "cifar10"),
    "cifar100": partial(cifar.load, "cifar100"),
    "mnist": partial(idx.load, "mnist"),
    "fashion_mnist": partial(idx.load, "fashion_mnist"),
    "emnist_balanced": partial(idx.load, "emnist_balanced"),
    "svhn": svhn.load,
    "stl10": stl10.load,
    "tiny_imagenet": tiny_imagenet.load,
    "imagenet": imagenet.load,
    "own": own_images.load,
}
