"""What two processes exchange when one step of a run is replayed to find an operation: plain JSON, tensors as npz.

    replay.json       down: which step of which experiment, from which checkpoint (ReplayRequest)
    record.json       up: every operation of that step with the bits of what it gave (StepRecord)
    wanted.json       down: the one thing whose tensors are wanted, or nothing (Wanted)
    tensors.npz       up: those tensors, floats of dtypes that numpy lacks as whole numbers of the same bits
    error.json        up: what went wrong, in place of a record

Bits are 64-bit fingerprints (``provenance.formats.fingerprint``), sixteen hexadecimal digits; losses the bits of a
float64. Law of each class: ``from_json(to_json()) == self``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.layout import FolderPath
from ndrepro.protocol.messages import Request
from provenance.formats.strict_json import Count, Field, read_record, read_versioned

SCHEMA = "urn:ndrepro:replay:v1"
_CURE = "both runs' code must know this form of a replay"

# the parts of a step, in their order; "state" is what it starts from
STATE, BATCH, FORWARD, LOSS, BACKWARD, OPTIMIZER = "state", "batch", "forward", "loss", "backward", "optimizer"


@dataclass(frozen=True)
class ReplayFolder:
    """Every path of one replay; what else a run folder has (log, data listing) lies under the names it has there."""

    root: Path

    request = FolderPath("replay.json")  # what is asked
    record = FolderPath("record.json")  # what was seen
    wanted = FolderPath("wanted.json")  # whose tensors are wanted
    tensors = FolderPath("tensors.npz")  # those tensors
    error = FolderPath("error.json")  # what went wrong
    log = FolderPath("log.txt")  # what the process printed


def _request(field: Field) -> Request:
    return Request.from_json(field.value)


@dataclass(frozen=True)
class ReplayRequest:
    """Replay ``step`` (its state is that after so many steps; 0: only the first weights) of ``request``.

    ``checkpoint`` is the state to start from, after at most ``step - 1`` steps; "" for the run's own start.
    """

    request: Annotated[Request, _request]
    step: Count
    checkpoint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field, with the schema's name."""
        return {"schema": SCHEMA, **asdict(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, document: Any) -> ReplayRequest:
        """The request that ``to_json`` wrote. Raises NdreproError for anything else."""
        return read_versioned(cls, Field(document, "replay.json", NdreproError), SCHEMA, _CURE)


@dataclass(frozen=True)
class Wanted:
    """One thing of the step: a part of it, and the number of an operation or the name of a tensor; "" for nothing."""

    part: str = ""
    operation: int = -1
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Wanted:
        """What ``to_json`` wrote. Raises NdreproError for anything else."""
        return read_record(cls, Field(document, "wanted.json", NdreproError))


@dataclass(frozen=True)
class TensorBits:
    """One tensor: its shape, its dtype as numpy spells it, the fingerprint of its bits."""

    shape: tuple[Count, ...]
    dtype: str
    bits: str


@dataclass(frozen=True)
class Operation:
    """One operation of a step.

    Attributes:
        part: BATCH, FORWARD, LOSS, BACKWARD or OPTIMIZER.
        path: of the module, dotted; "" for the network itself and for what is outside of it.
        kind: the module's class.
        stage: within a module that tells its stages, or what stands in its place; "" otherwise.
        name: of torch's operation, without its overload: ``aten.convolution``.
        node: of autograd's graph, in the backward part.
        arguments: that are no tensors, as text.
        tensors: of the state that it takes or changes, by name.
        outputs: what it gave, or changed in place.
    """

    part: str
    path: str
    kind: str
    stage: str
    name: str
    node: str
    arguments: str
    tensors: tuple[str, ...]
    outputs: tuple[TensorBits, ...]


@dataclass(frozen=True)
class StepRecord:
    """One step as it was replayed.

    Attributes:
        step: after so many steps.
        started_from: the step of the checkpoint, 0 for the run's start.
        device, torch, threads: where.
        state: every tensor of the network's state as it entered the step, in the trail's order, by name.
        momentum: the optimizer's, by the parameter's name.
        batch: images and labels.
        operations: in their order.
        leaving: fingerprints of the state after the step, in the trail's order.
        loss_bits: of the step.
    """

    step: Count
    started_from: Count
    device: str
    torch: str
    threads: int
    state: Mapping[str, TensorBits]
    momentum: Mapping[str, TensorBits]
    batch: Mapping[str, TensorBits]
    operations: tuple[Operation, ...]
    leaving: tuple[str, ...]
    loss_bits: str

    def to_json(self) -> dict[str, Any]:
        """Every field, with the schema's name."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Any) -> StepRecord:
        """The record that ``to_json`` wrote. Raises NdreproError for anything else."""
        return read_versioned(cls, Field(document, "record.json", NdreproError), SCHEMA, _CURE)
