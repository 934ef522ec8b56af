"""A network of the user's own, from the files that the run keeps: seeded, imported, called, and tried once.

The callable gets those of the keyword arguments ``num_classes``, ``in_channels`` and ``image_size`` that it takes, and
returns a ``torch.nn.Module`` from images (N, in_channels, image_size, image_size) to (N, num_classes). First weights
are those that it draws from the global generators of torch, numpy and Python, which are seeded from the stream "init"
before the module is imported. ``nn.Dropout`` draws from the stream "dropout" as this project's layers do; a network
that draws other random numbers while it is trained is refused, since a resumed run could not draw them again.
"""

from __future__ import annotations

import copy
import errno
import importlib
import inspect
import os
import pickle
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import FileFinder, PathFinder, SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import NETWORKS_GROUP, is_source_name
from ndrepro.training.compute.randomness import stream
from ndrepro.training.compute.torch_compat import memory_of
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.layers.rewrite import exchange
from provenance.formats.digest import bytes_digest, file_digest, tree_digest

_ARGUMENTS = ("num_classes", "in_channels", "image_size")


def load_own(experiment: Experiment, folder: Path) -> nn.Module:
    """The experiment's network before it is given its method, with its first weights, on the CPU.

    Args:
        experiment: names the network as MODULE:CALLABLE, and its files by digest.
        folder: the files that the run keeps.

    Raises UsageError for files with another digest or that are no Python source, and for what cannot be imported or
    called.
    """
    digests = _check_digest(experiment, folder)
    _seed(experiment)
    _import_only(digests, folder)
    net = _called(experiment, _imported(experiment.arch, folder))
    _replace_dropout(net, experiment)
    return net


class _DigestedSource(SourceFileLoader):
    """Imports a source file of the run's whose bytes have the digest that was checked, and no bytecode of it."""

    digests: Mapping[str, str] = {}

    def get_data(self, path: str | bytes) -> bytes:
        """The bytes that are executed. Raises ImportError for others than were checked."""
        data = super().get_data(os.fsdecode(path))
        if self.digests.get(os.fsdecode(path)) != bytes_digest(data):
            raise ImportError(f"{os.fsdecode(path)} was changed since its digest was checked")
        return data

    def path_stats(self, path: str | bytes) -> Mapping[str, Any]:
        """None, so that bytecode is neither looked for nor written."""
        raise OSError(errno.ENOTSUP, "no bytecode of a run's files is used", os.fsdecode(path))


def _import_only(digests: Mapping[str, str], folder: Path) -> None:
    """Have imports from a folder find files with these digests, by path, and no other."""
    loader = type("_RunSource", (_DigestedSource,), {"digests": digests})

    def find(entry: str) -> FileFinder:
        if not Path(entry).is_relative_to(folder):
            raise ImportError("not the run's")
        return FileFinder(entry, (loader, [".py"]))

    sys.path_hooks.insert(0, find)
    for entry in [each for each in sys.path_importer_cache if Path(each).is_relative_to(folder)]:
        del sys.path_importer_cache[entry]


def _check_digest(experiment: Experiment, folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, by its path. Raises UsageError for others than the experiment names."""
    below = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    paths = {path.relative_to(folder).as_posix(): path for path in below}
    if odd := [name for name in sorted(paths) if not is_source_name(name)]:
        raise UsageError(f"{folder}: {odd[0]} is no Python source that an import statement names", "take it out")
    digests = {name: file_digest(path) for name, path in sorted(paths.items())}
    found = tree_digest(digests.items())
    if found != experiment.network_source:
        raise UsageError(
            f"{folder}: digest {found[:16]}, and the experiment names {str(experiment.network_source)[:16]}",
            "get the original files again",
        )
    return {str(paths[name]): digest.sha256 for name, digest in digests.items()}


def _seed(experiment: Experiment) -> None:
    """Seed the global generators of this process; nothing of this project draws from them."""
    drawn = stream(experiment, "init", "network").randint(0, 2**31 - 1, size=3)
    torch.manual_seed(int(drawn[0]))
    np.random.seed(int(drawn[1]))
    random.seed(int(drawn[2]))


def _imported(arch: str, folder: Path) -> Any:
    """The callable; every module of the run's files that was imported was imported from there."""
    module, _, name = arch.partition(":")
    for top in sorted({path.relative_to(folder).parts[0].removesuffix(".py") for path in folder.rglob("*.py")}):
        if _is_installed(top, folder) and not _offers_networks(top):
            raise UsageError(f"{arch}: {top} is an installed module too", "rename yours")
    # first: a checkout of this project is on the path too, and may hold the files that the run's were copied from
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{arch}: {error}", "what import statements name is kept with a run; other modules must be installed"
        ) from error
    except Exception as error:
        raise UsageError(f"{arch}: importing {module} raised {type(error).__name__}: {error}") from error
    finally:
        sys.dont_write_bytecode = written
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        loaded = sys.modules.get(own)
        if loaded is not None and getattr(loaded, "__file__", None) != str(path):
            raise UsageError(f"{path.name}: {own} was imported from {_origin(loaded)}", "rename the file")
    if not callable(getattr(found, name, None)):
        names = [each for each, value in vars(found).items() if callable(value) and not each.startswith("_")]
        raise UsageError(f"{arch}: {module} has no callable {name}", f"it has {', '.join(names[:12]) or 'none'}")
    return getattr(found, name)


def _is_installed(top: str, folder: Path) -> bool:
    """Whether an import of ``top`` finds a module of the standard library, of this project or of an installed package.

    A checkout's folder is on the path for this project's two packages alone: what else is there is not installed.
    """
    if top in sys.stdlib_module_names or top in ("ndrepro", "provenance"):
        return True
    searched = [entry for entry in sys.path if entry != str(folder) and not _is_checkout(Path(entry))]
    spec = PathFinder.find_spec(top, searched)
    return spec is not None and spec.origin is not None  # a folder without __init__.py, of any name, hides nothing


def _offers_networks(top: str) -> bool:
    """Whether an installed package offers networks, and so may be imported from the run's copy in its place."""
    if top in sys.stdlib_module_names or top in ("ndrepro", "provenance"):
        return False
    return any(re.split("[.:]", point.value)[0].strip() == top for point in entry_points(group=NETWORKS_GROUP))


def _is_checkout(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "ndrepro" / "training").is_dir()


def _origin(module: object) -> str:
    return str(getattr(module, "__file__", None) or "elsewhere")


def _called(experiment: Experiment, network: Callable[..., Any]) -> nn.Module:
    """The network that the callable makes for the experiment's images."""
    facts = experiment.facts
    given = dict(zip(_ARGUMENTS, (facts.num_classes, facts.channels, experiment.image_size), strict=True))
    taken = inspect.signature(network).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values())
    if not takes_all and "num_classes" not in taken:
        raise UsageError(
            f"{experiment.arch}: it takes no argument num_classes",
            "it is called with num_classes and those of in_channels and image_size that it takes",
        )
    try:
        net = network(**(given if takes_all else {key: value for key, value in given.items() if key in taken}))
    except Exception as error:
        raise UsageError(f"{experiment.arch}: calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"{experiment.arch}: it returned a {type(net).__name__}, expected a torch.nn.Module")
    return net


def _replace_dropout(net: nn.Module, experiment: Experiment) -> None:
    """Have every nn.Dropout draw from the stream "dropout". Raises UsageError for a setting that changes nothing."""
    asked = experiment.dropout

    def own(layer: nn.Module) -> nn.Module | None:
        return StreamDropout(layer.p if asked is None else asked) if type(layer) is nn.Dropout else None

    if not exchange(net, own) and asked is not None:
        raise UsageError(f"dropout={experiment.dropout}: {experiment.arch} has no nn.Dropout", "leave dropout out")


def expect_trainable(net: nn.Module, experiment: Experiment) -> None:
    """Pass a batch of zeros through a copy, in training: shapes, and that nothing draws random numbers.

    Raises UsageError for a network that cannot be trained as recorded.
    """
    facts, side = experiment.facts, experiment.image_size
    trial = copy.deepcopy(net).train()
    for name, layer in trial.named_modules():
        if isinstance(layer, StreamDropout):
            layer.source = stream(experiment, "dropout", f"trial/{name}")
    before = list(_states())
    try:
        out = trial(torch.zeros(2, facts.channels, side, side))
    except Exception as error:
        raise UsageError(
            f"{experiment.arch}: images {facts.channels}x{side}x{side} raised {type(error).__name__}: {error}",
            "in_channels and image_size say what the images are",
        ) from error
    shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if shape != (2, facts.num_classes):
        raise UsageError(
            f"{experiment.arch}: of 2 images it makes {shape}, expected (2, {facts.num_classes})",
            "return one number for each class",
        )
    if list(_states()) != before:
        raise UsageError(
            f"{experiment.arch}: it draws random numbers while it is trained, which a resumed run cannot draw again",
            "use nn.Dropout, whose numbers come from the recorded stream, or draw none",
        )
    _expect_own_memory(net, experiment.arch)


def _expect_own_memory(net: nn.Module, arch: str) -> None:
    """Raises UsageError where two tensors share memory: a checkpoint holds each by itself."""
    places: dict[int, str] = {}
    for name, tensor in net.state_dict().items():
        other = places.setdefault(memory_of(tensor), name) if tensor.numel() else name
        if other != name:
            raise UsageError(f"{arch}: {name} and {other} share memory", "give each layer its own tensors")


def _states() -> Iterator[bytes]:
    """The states of the global generators."""
    yield torch.random.get_rng_state().numpy().tobytes()
    yield pickle.dumps(np.random.get_state())
    yield repr(random.getstate()).encode()
