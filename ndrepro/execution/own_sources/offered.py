"""Networks and data sets that installed packages offer by name: entry points that their distributions declare.

    [project.entry-points."ndrepro.networks"]
    mynet = "mypkg.nets:MyNet"            the network MODULE:CALLABLE
    [project.entry-points."ndrepro.datasets"]
    flowers = "mypkg:flowers.npz"         MODULE, or MODULE:NAME of a file or folder in its folder

A name is short for what it stands for, and nothing else: the run is recorded as that of MODULE:CALLABLE, or of the data
set ``own`` at that path. Nothing is imported: this process holds the signing key.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.protocol.errors import DataError, UsageError
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.experiment.names import is_of_this_project, name_with_offers
from ndrepro.protocol.experiment.own import NETWORKS_GROUP, OWN_DATASET, is_own_network

DATASETS_GROUP = "ndrepro.datasets"
_OURS = "a name of this project"
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_DATA = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)(:(?P<file>\w[\w.]*))?", re.ASCII)


@dataclass(frozen=True)
class Offer:
    """One entry point: its name, what it stands for, the distribution that declares it, why it is refused, if it is."""

    name: str
    value: str
    distribution: str
    refused: str = ""

    def __str__(self) -> str:
        refused = f"; refused: {self.refused}" if self.refused else ""
        return f"{self.name} = {self.value} ({self.distribution}{refused})"


def networks() -> tuple[Offer, ...]:
    """The networks that installed packages offer, by name."""
    return _offers(NETWORKS_GROUP, ARCHITECTURES, lambda value: "" if is_own_network(value) else "no MODULE:CALLABLE")


def datasets() -> tuple[Offer, ...]:
    """The data sets that installed packages offer, by name."""
    return _offers(
        DATASETS_GROUP, (*DATASETS, OWN_DATASET), lambda value: "" if _DATA.fullmatch(value) else "no MODULE[:FILE]"
    )


def with_offers(name: str, data: Path | None) -> tuple[str, Path | None]:
    """The experiment's name with what offered names stand for, and the path of its data.

    Names of this project come first and are never looked up. Raises UsageError for a name that is refused, or for an
    offered data set beside ``data``; DataError where the package has no such file.
    """
    if is_of_this_project(name):
        return name, data
    known_networks, known_datasets = _by_name(networks()), _by_name(datasets())
    changed, network, dataset = name_with_offers(
        name, {offer.name: offer.value for offer in known_networks.values()}, known_datasets
    )
    for offer in filter(None, (known_networks.get(network), known_datasets.get(dataset))):
        if offer.refused:
            raise UsageError(f"{name}: {offer}", "use MODULE:CALLABLE or --data PATH, or rename the entry point")
    if dataset:
        if data is not None:
            raise UsageError(f"--data {data}: {dataset} is a data set of an installed package", "leave --data out")
        data = _place(known_datasets[dataset])
    return changed, data


def folder_of(module: str) -> Path | None:
    """The folder that holds the top-level module or package of ``module`` as it is installed; None where it is not."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path.parent.parent if spec.submodule_search_locations else path.parent


def _offers(group: str, taken: tuple[str, ...], wrong: Callable[[str], str]) -> tuple[Offer, ...]:
    from importlib.metadata import entry_points  # few names need them

    found = {
        Offer(point.name, point.value.replace(" ", ""), f"{point.dist.name} {point.dist.version}" if point.dist else "")
        for point in entry_points(group=group)
    }
    names = Counter(offer.name for offer in found)
    return tuple(
        replace(offer, refused=_refusal(offer, names[offer.name], taken) or wrong(offer.value))
        for offer in sorted(found, key=lambda offer: (offer.name, offer.distribution, offer.value))
    )


def _refusal(offer: Offer, count: int, taken: tuple[str, ...]) -> str:
    if not _NAME.fullmatch(offer.name):
        return "no name of letters, digits and underscores"
    if offer.name in taken or offer.name in METHODS:
        return _OURS
    return f"offered {count} times" if count > 1 else ""


def _by_name(offers: tuple[Offer, ...]) -> Mapping[str, Offer]:
    return {offer.name: offer for offer in offers if offer.refused != _OURS}


def _place(offer: Offer) -> Path:
    match = _DATA.fullmatch(offer.value)
    assert match is not None
    top = folder_of(match["module"])
    place = Path() if top is None else top.joinpath(*match["module"].split("."))
    place = place / match["file"] if match["file"] else place
    if top is None or not place.exists():
        raise DataError(f"{offer}: no such file or folder in the package", "install it again, or name --data PATH")
    return place
