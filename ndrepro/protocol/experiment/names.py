"""Names of experiments, ``ARCH_METHOD_EPOCHS[_DATASET]``: taken apart, and the nearest right ones to a wrong one.

A network of the user's own is ``MODULE:CALLABLE`` for ARCH. Names are names of folders too, and a folder's name may be
part of a search path, in which a colon ends an entry: there the last dot stands for it, and both are read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.experiment.combinations import combinations
from ndrepro.protocol.experiment.own import OWN_DATASET

DEFAULT_DATASET = "cifar10"


def name_of(arch: str, method: str, epochs: int, dataset: str) -> str:
    """The name; a data set that is the default is left out."""
    return f"{folder_name(arch)}_{method}_{epochs}" + ("" if dataset == DEFAULT_DATASET else f"_{dataset}")


def folder_name(text: str) -> str:
    """A network's or experiment's name as its folder has it: a dot for the colon of ``MODULE:CALLABLE``."""
    return text.replace(":", ".")


def parts_of(name: str) -> tuple[str, str, int, str]:
    """(arch, method, epochs, dataset) of a name. Raises UsageError with the nearest right names."""
    match = _NAME.fullmatch(name) or _OWN_NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"unknown experiment '{name}'", _cure(name))
    arch = match["arch"] if match.re is _NAME else f"{match['module']}:{match['callable']}"
    return arch, match["method"], int(match["epochs"]), match["dataset"] or DEFAULT_DATASET


def is_of_this_project(name: str) -> bool:
    """Whether network and data set of a name are this project's."""
    return _NAME.fullmatch(name) is not None


def name_with_offers(name: str, networks: Mapping[str, str], datasets: Collection[str]) -> tuple[str, str, str]:
    """A name in which offered ones stand for a network or data set, written out; and which ones those are.

    Args:
        name: ``ARCH_METHOD_EPOCHS[_DATASET]``.
        networks: MODULE:CALLABLE by offered name.
        datasets: names of data sets, which are written as the data set ``own``.

    Returns the name, the offered network and the offered data set ("" for none).
    """
    match = _OFFERED_NAME.fullmatch(name)
    if match is None:
        return name, "", ""
    network = match["arch"] if match["arch"] in networks else ""
    dataset = match["dataset"] if match["dataset"] in datasets else ""
    ending = OWN_DATASET if dataset else match["dataset"]
    arch = networks.get(network, match["arch"])
    return f"{arch}_{match['method']}_{match['epochs']}" + (f"_{ending}" if ending else ""), network, dataset


def _longest_first(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


# longest first, so that nd_full is not read as nd with a rest
_METHOD_EPOCHS = rf"_(?P<method>{_longest_first(METHODS)})_(?P<epochs>[0-9]{{1,5}})"
_REST = rf"{_METHOD_EPOCHS}(_(?P<dataset>{_longest_first((*DATASETS, OWN_DATASET))}))?"
_NAME = re.compile(rf"(?P<arch>{_longest_first(ARCHITECTURES)}){_REST}")
_OWN_NAME = re.compile(rf"(?P<module>[A-Za-z_][\w.]*)[.:](?P<callable>[A-Za-z_]\w*?){_REST}", re.ASCII)
_OFFERED_NAME = re.compile(rf"(?P<arch>[A-Za-z][\w.:]*?){_METHOD_EPOCHS}(_(?P<dataset>[A-Za-z]\w*))?", re.ASCII)


def _cure(name: str) -> str:
    if ":" in name or ".py" in name:
        form = "a network of your own is MODULE:CALLABLE_METHOD_EPOCHS[_DATASET], e.g. mypkg.nets:MyNet_bn_5_digits"
        return f"{form}, without .py"
    parts = {"a network": ARCHITECTURES, "a method": METHODS, "a data set": (*DATASETS, OWN_DATASET)}
    if part := next((what for what, names in parts.items() if name in names), ""):
        return f"{name} is {part}: an experiment is ARCH_METHOD_EPOCHS[_DATASET], e.g. vgg16_nd_100"
    # names with the same epochs, where the wrong one has any
    numbers = re.findall(r"\d+", name.split("_", 1)[-1]) or ["1", "20", "100"]
    candidates = [
        name_of(arch, method, int(epochs), dataset)
        for arch, method, dataset in combinations()
        for epochs in dict.fromkeys(number[:5] for number in numbers)
    ]
    form = "names are ARCH_METHOD_EPOCHS[_DATASET], e.g. vgg16_nd_100 or resnet18_bn_20_cifar100"
    return suggestion(name.lower(), candidates, f"{form}; `ndrepro list --names` has them all")
