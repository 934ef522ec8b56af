"""Checkpoints from which a run resumes bit for bit, and the final weights; both safetensors, both written whole.

A checkpoint holds every parameter and buffer (running statistics, freeze counters), the optimizer's momentum, and
as text the place in the run: step, epoch, batch, and the sums of the epoch under way. Random streams need no state:
they are made again from their names (``ndrepro.training.compute.randomness``). Files appear under their name only when
whole and on disk: a kill at any moment leaves the previous one.
"""

from __future__ import annotations

import json
import os
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
from ndrepro.protocol.training_state import Place, StateDigest
from ndrepro.training.optimizer import SGD
from provenance.errors import CanonicalError
from provenance.formats.canonical_json import parse

SCHEMA = "urn:ndrepro:checkpoint:v1"
_METADATA = "ndrepro"


def state_tensors(net: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and every buffer that is part of the state, by name, in the network's own order."""
    return dict(net.state_dict(keep_vars=True))


def save_checkpoint(path: Path, place: Place, experiment: Experiment, net: nn.Module, optimizer: SGD) -> None:
    """Write the checkpoint; durable when this returns."""
    tensors = {f"net.{name}": _array(tensor) for name, tensor in state_tensors(net).items()}
    tensors.update({f"momentum.{name}": _array(buffer) for name, buffer in optimizer.momentum_buffers.items()})
    document = {"schema": SCHEMA, "place": asdict(place), "experiment": experiment.to_json()}
    path.parent.mkdir(exist_ok=True)
    _write(path, tensors, document)


def load_checkpoint(path: Path, experiment: Experiment, net: nn.Module, optimizer: SGD) -> Place:
    """Put the state back in place and return where the run stood.

    Raises CheckpointError where the file is missing or damaged, or belongs to another experiment or network.
    """
    tensors, document = _read(path)
    if Experiment.from_json(document["experiment"]) != experiment:
        raise CheckpointError(f"{path}: written by another experiment", "resume with the run's own request")
    try:
        place = Place.from_json(document["place"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", error.cure) from None
    state = state_tensors(net)
    expected = {f"net.{name}" for name in state}
    momentum_names = {f"momentum.{name}" for name, _ in net.named_parameters()}
    if odd := (expected - set(tensors)) | (set(tensors) - expected - momentum_names):
        raise CheckpointError(f"{path}: another network's tensors: {', '.join(sorted(odd)[:4])} …")
    with torch.no_grad():
        for name, tensor in state.items():
            _put(path, name, tensors[f"net.{name}"], tensor)
    for name, parameter in net.named_parameters():
        momentum = tensors.get(f"momentum.{name}")
        if momentum is not None:
            optimizer.momentum_buffers[name] = torch.from_numpy(momentum).to(parameter.device)
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
    tensors, _ = _read_tensors(path)
    state = state_tensors(net)
    if odd := set(state) ^ set(tensors):
        raise CheckpointError(f"{path}: another network's tensors: {', '.join(sorted(odd)[:4])} …")
    with torch.no_grad():
        for name, tensor in state.items():
            _put(path, name, tensors[name], tensor)


def _put(path: Path, name: str, array: np.ndarray, tensor: torch.Tensor) -> None:
    found = torch.from_numpy(array)
    if found.shape != tensor.shape or found.dtype != tensor.dtype:
        raise CheckpointError(f"{path}: {name} is {found.dtype} {list(found.shape)}, not {list(tensor.shape)}")
    tensor.copy_(found)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().cpu().numpy()


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, document = _read_tensors(path)
    if document.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema {document.get('schema')!r}, expected {SCHEMA!r}")
    return tensors, document


def _read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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
    content = save(tensors, {_METADATA: json.dumps(document, sort_keys=True)})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
