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
from typing import Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.messages import Request
from provenance.formats.strict_json import Field

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
    def from_json(cls, document: Any) -> ReplayRequest:
        """The request that ``to_json`` wrote. Raises NdreproError for anything else."""
        asked = _checked(document, "replay.json")
        step, checkpoint = asked.member("step").integer(0), asked.member("checkpoint").string()
        return cls(Request.from_json(asked.member("request").value), step, checkpoint)


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
    def from_json(cls, document: Any) -> Wanted:
        """What ``to_json`` wrote. Raises NdreproError for anything else."""
        wanted = Field(document, "wanted.json", NdreproError).members(("part", "operation", "name"))
        return cls(wanted["part"].string(), wanted["operation"].integer(), wanted["name"].string())


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
    def from_json(cls, document: Any) -> StepRecord:
        """The record that ``to_json`` wrote. Raises NdreproError for anything else."""
        record = _checked(document, "record.json")
        return cls(
            step=record.member("step").integer(0),
            started_from=record.member("started_from").integer(0),
            device=record.member("device").string(),
            torch=record.member("torch").string(),
            threads=record.member("threads").integer(),
            state=_named_bits(record.member("state")),
            momentum=_named_bits(record.member("momentum")),
            batch=_named_bits(record.member("batch")),
            operations=tuple(map(_operation, record.member("operations").items())),
            leaving=tuple(bits.string() for bits in record.member("leaving").items()),
            loss_bits=record.member("loss_bits").string(),
        )


def _named_bits(field: Field) -> dict[str, TensorBits]:
    return {name: _bits(member) for name, member in field.members((), field.mapping()).items()}


def _bits(field: Field) -> TensorBits:
    said = field.members(("shape", "dtype", "bits"))
    shape = tuple(side.integer(0) for side in said["shape"].items())
    return TensorBits(shape, said["dtype"].string(), said["bits"].string())


def _operation(field: Field) -> Operation:
    names = ("part", "path", "kind", "stage", "name", "node", "arguments")
    said = field.members((*names, "tensors", "outputs"))
    texts = {name: said[name].string() for name in names}
    tensors = tuple(name.string() for name in said["tensors"].items())
    return Operation(**texts, tensors=tensors, outputs=tuple(map(_bits, said["outputs"].items())))


def _checked(document: Any, name: str) -> Field:
    """The document as a field. Raises NdreproError for one of another schema."""
    field = Field(document, name, NdreproError)
    schema = field.mapping().get("schema")
    if schema != SCHEMA:
        raise NdreproError(
            f"{name}: schema {str(schema)[:80]!r}, expected {SCHEMA!r}",
            "both runs' code must know this form of a replay",
        )
    return field
