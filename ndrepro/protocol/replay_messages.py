"""What crosses the door when one step of a run is replayed to find an operation: plain JSON, and tensors as npz.

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
from typing import Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.messages import Request

SCHEMA = "urn:ndrepro:replay:v1"

# the parts of a step, in their order; "state" is what it starts from
STATE, BATCH, FORWARD, LOSS, BACKWARD, OPTIMIZER = "state", "batch", "forward", "loss", "backward", "optimizer"


@dataclass(frozen=True)
class ReplayFolder:
    """Every path of one replay; what else a run folder has (log, data listing) lies under the names it has there."""

    root: Path

    @property
    def request(self) -> Path:
        """What is asked."""
        return self.root / "replay.json"

    @property
    def record(self) -> Path:
        """What was seen."""
        return self.root / "record.json"

    @property
    def wanted(self) -> Path:
        """Whose tensors are wanted."""
        return self.root / "wanted.json"

    @property
    def tensors(self) -> Path:
        """Those tensors."""
        return self.root / "tensors.npz"

    @property
    def error(self) -> Path:
        """What went wrong."""
        return self.root / "error.json"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.root / "log.txt"


@dataclass(frozen=True)
class ReplayRequest:
    """Replay ``step`` (its state is that after so many steps; 0: only the first weights) of ``request``.

    ``checkpoint`` is the state to start from, after at most ``step - 1`` steps; "" for the run's own start.
    """

    request: Request
    step: int
    checkpoint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with its schema's name."""
        return {
            "schema": SCHEMA,
            "request": self.request.to_json(),
            "step": self.step,
            "checkpoint": self.checkpoint,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ReplayRequest:
        """The request that ``to_json`` wrote. Raises NdreproError for another schema."""
        _check_schema(document)
        return cls(Request.from_json(document["request"]), int(document["step"]), str(document["checkpoint"]))


@dataclass(frozen=True)
class Wanted:
    """One thing of the step: a part of it, and the number of an operation or the name of a tensor; "" for nothing."""

    part: str = ""
    operation: int = -1
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Wanted:
        """What ``to_json`` wrote."""
        return cls(**document)


@dataclass(frozen=True)
class TensorBits:
    """One tensor: its shape, its dtype as numpy spells it, the fingerprint of its bits."""

    shape: tuple[int, ...]
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

    step: int
    started_from: int
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
        """Plain JSON with its schema's name."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StepRecord:
        """The record that ``to_json`` wrote. Raises NdreproError for another schema."""
        _check_schema(document)
        rest = {key: value for key, value in document.items() if key != "schema"}
        for key in ("state", "momentum", "batch"):
            rest[key] = {name: _bits(item) for name, item in rest[key].items()}
        rest["operations"] = tuple(_operation(item) for item in rest["operations"])
        rest["leaving"] = tuple(rest["leaving"])
        return cls(**rest)


def _bits(item: Mapping[str, Any]) -> TensorBits:
    return TensorBits(tuple(item["shape"]), item["dtype"], item["bits"])


def _operation(item: Mapping[str, Any]) -> Operation:
    outputs = tuple(_bits(output) for output in item["outputs"])
    return Operation(**{**item, "tensors": tuple(item["tensors"]), "outputs": outputs})


def _check_schema(document: Mapping[str, Any]) -> None:
    if document.get("schema") != SCHEMA:
        raise NdreproError(
            f"a replay of schema {document.get('schema')!r}, expected {SCHEMA!r}",
            "both runs' code must know this form of a replay",
        )
