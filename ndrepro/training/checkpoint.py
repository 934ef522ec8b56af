"""Checkpoints from which a run resumes bit for bit, and the final weights; both safetensors, both written whole.

A checkpoint holds every parameter and buffer (running statistics, freeze counters), the optimizer's momentum, and
as text the place in the run: step, epoch, batch, and the sums of the epoch under way. Random streams need no state:
they are made again from their names (``ndrepro.training.compute.randomness``). Files appear under their name only when
whole and on disk: a kill at any moment leaves the previous one.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.training_state import CHECKPOINT_SCHEMA, Place, StateDigest
from ndrepro.training.optimizer import SGD
from provenance.errors import CanonicalError
from provenance.formats.atomic_io import write_atomically
from provenance.formats.canonical_json import parse

_METADATA = "ndrepro"


def state_tensors(net: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and every buffer that is part of the state, by name, in the network's own order."""
    return dict(net.state_dict(keep_vars=True))


def save_checkpoint(path: Path, place: Place, experiment: Experiment, net: nn.Module, optimizer: SGD) -> None:
    """Write the checkpoint; durable when this returns."""
    tensors = {f"net.{name}": _array(tensor) for name, tensor in state_tensors(net).items()}
    tensors.update({f"momentum.{name}": _array(buffer) for name, buffer in optimizer.momentum_buffers.items()})
    document = {"schema": CHECKPOINT_SCHEMA, "place": asdict(place), "experiment": experiment.to_json()}
    path.parent.mkdir(exist_ok=True)
    _write(path, tensors, document)


def load_checkpoint(path: Path, experiment: Experiment, net: nn.Module, optimizer: SGD) -> Place:
    """Put the state back in place and return where the run stood.

    Raises CheckpointError where the file is missing or damaged, or belongs to another experiment or network.
    """
    tensors, document = _read(path)
    if document.get("schema") != CHECKPOINT_SCHEMA:
        raise CheckpointError(f"{path}: schema {document.get('schema')!r}, expected {CHECKPOINT_SCHEMA!r}")
    if Experiment.from_json(document["experiment"]) != experiment:
        raise CheckpointError(f"{path}: written by another experiment", "resume with the run's own request")
    try:
        place = Place.from_json(document["place"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", error.cure) from None
    momentum = {name: tensors.pop(f"momentum.{name}", None) for name, _ in net.named_parameters()}
    _put_back(path, tensors, net, "net.")
    for name, parameter in net.named_parameters():
        if (buffer := momentum[name]) is not None:
            optimizer.momentum_buffers[name] = torch.from_numpy(buffer).to(parameter.device)
    return place


def digest_state(place: Place, net: nn.Module, optimizer: SGD) -> StateDigest:
    """The digests of the whole state, at ``place``."""
    network = {name: _array(tensor) for name, tensor in state_tensors(net).items()}
    return StateDigest.of(place, network, {name: _array(v) for name, v in optimizer.momentum_buffers.items()})


def save_weights(path: Path, net: nn.Module, document: dict[str, Any]) -> None:
    """Write the final state of the network; ``document`` goes into the header."""
    _write(path, {name: _array(tensor) for name, tensor in state_tensors(net).items()}, document)


def load_weights(path: Path, net: nn.Module) -> None:
    """Give the network the state that ``save_weights`` wrote. Raises CheckpointError where it is another network's."""
    _put_back(path, _read(path)[0], net)


def _put_back(path: Path, arrays: dict[str, np.ndarray], net: nn.Module, prefix: str = "") -> None:
    """Give the network the state in ``arrays``, whose names begin with ``prefix``. Raises CheckpointError."""
    state = {f"{prefix}{name}": tensor for name, tensor in state_tensors(net).items()}
    if odd := state.keys() ^ arrays.keys():
        raise CheckpointError(f"{path}: another network's tensors: {', '.join(sorted(odd)[:4])} …")
    with torch.no_grad():
        for name, tensor in state.items():
            found = torch.from_numpy(arrays[name])
            if found.shape != tensor.shape or found.dtype != tensor.dtype:
                what = f"{name.removeprefix(prefix)} is {found.dtype} {list(found.shape)}"
                raise CheckpointError(f"{path}: {what}, not {list(tensor.shape)}")
            tensor.copy_(found)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().cpu().numpy()


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Every tensor of a file, and the document in its header, empty where it has none."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            document = parse((file.metadata() or {}).get(_METADATA, "{}").encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator there)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not there") from None
    except (SafetensorError, OSError, ValueError, CanonicalError) as error:
        raise CheckpointError(f"{path}: damaged ({error})", "remove it; an earlier one will be used") from None
    return tensors, document


def _write(path: Path, tensors: dict[str, np.ndarray], document: dict[str, Any]) -> None:
    # one entry: safetensors writes several in no fixed order, and equal runs must have equal files
    write_atomically(path, save(tensors, {_METADATA: json.dumps(document, sort_keys=True)}))
