"""Networks and data sets of the user's own: how experiments name them, and the facts that stand in for the catalogue's.

A network is ``MODULE:CALLABLE`` in the place of the architecture, ``mypkg.nets:MyNet_bn_5_digits`` as a name; the name
of a folder has a dot for the colon. Its source's digest is a setting, ``network_source``, since another source is
another experiment. A data set is called ``own``, and the settings ``own.…`` describe its images. Both are filled in
from the files before a run starts (``ndrepro.execution.own_sources``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import DatasetFacts
from ndrepro.protocol.experiment.setting import Meaning

OWN_DATASET = "own"
# what Hugging Face's datasets writes at the top of a folder with several splits
SAVED_DATASET = "dataset_dict.json"
# entry points by which installed packages offer networks
NETWORKS_GROUP = "ndrepro.networks"
# what can be asked of any network: as it is, without batch norms, with every convolution deconvolved instead
OWN_METHODS = ("bn", "none", "nd")
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
_NETWORK = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}")
LONGEST_NETWORK = 120


@dataclass(frozen=True)
class OwnImages:
    """What a data set of the user's own holds; all of it is read from the data, and none for any other data set."""

    classes: Annotated[int | None, Meaning("Classes of the data set own.", "classes", least=1)] = None
    channels: Annotated[int | None, Meaning("Channels of its images: 1 grey, 3 colour.", "channels", least=1)] = None
    size: Annotated[int | None, Meaning("Side of its images.", "pixels", least=1)] = None
    train_images: Annotated[int | None, Meaning("Training images that it holds.", "images", least=1)] = None
    test_images: Annotated[int | None, Meaning("Test images that it holds.", "images", least=1)] = None
    mean: Annotated[
        str | None,
        Meaning("Mean of its training pixels by channel.", "pixel value, 0 to 1", form="numbers with commas, or none"),
    ] = None
    std: Annotated[
        str | None,
        Meaning("Their standard deviation by channel.", "pixel value, 0 to 1", form="numbers with commas, or none"),
    ] = None

    @property
    def known(self) -> bool:
        """Whether the data were read."""
        return None not in (self.classes, self.channels, self.size, self.train_images, self.test_images)

    def facts(self) -> DatasetFacts:
        """What the catalogue would say of it; of data that were not read, no more than that they are small images."""
        size = self.size or 1
        return DatasetFacts(
            title="images of your own",
            num_classes=self.classes or 1,
            channels=self.channels or 3,
            size=size,
            train_images=self.train_images or 1,
            test_images=self.test_images or 1,
            mean=_numbers("own.mean", self.mean, self.channels, 0.5),
            std=_numbers("own.std", self.std, self.channels, 0.25),
            crop_padding=size // 8,
            flip=False,  # whether a mirrored image is one of its class is not known
        )


def is_own_network(arch: str) -> bool:
    """Whether a network is named by module and callable."""
    return _NETWORK.fullmatch(arch) is not None


def is_source_name(name: str) -> bool:
    """Whether a file's name below a run's ``network/`` is one that an import statement gives: Python source.

    Bytecode and machine code can be imported too, and nobody can read them.
    """
    stem, _, ending = name.rpartition(".")
    return ending == "py" and all(part.isidentifier() for part in stem.split("/"))


def _numbers(key: str, text: str | None, channels: int | None, otherwise: float) -> tuple[float, ...]:
    count = channels or 3
    if text is None:
        return (otherwise,) * count
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count or not all(0 <= value <= 1 for value in found) or (key == "own.std" and not all(found)):
        raise UsageError(f"{key}={text!r}: expected {count} numbers from 0 to 1, with commas", f"leave {key} out")
    return found
