"""What operations computed in one environment, as the process that ran them writes it and its parent reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ndrepro.protocol.errors import NdreproError
from provenance.formats.strict_json import Field

ARRAYS, INDEX = "outputs.npz", "outputs.json"
OUTPUTS_SCHEMA = "urn:ndrepro:operator-outputs:v1"


@dataclass(frozen=True)
class OperatorOutput:
    """One output of an operation on fixed inputs.

    ``output`` is "output", "output 1", or "gradient of input 0"; ``array`` its name among the arrays, None where the
    environment did not compute it, for ``reason``.
    """

    operation: str
    shape: str
    dtype: str
    output: str
    array: str | None
    reason: str = ""

    @property
    def direction(self) -> str:
        """Whether it is of the "forward" or the "backward" pass."""
        return "backward" if self.output.startswith("gradient") else "forward"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same output in another environment."""
        return self.operation, self.shape, self.dtype, self.output


@dataclass(frozen=True)
class OperatorOutputs:
    """Everything that an environment computed: versions of torch and numpy, ATen's vector instructions, outputs."""

    torch: str
    numpy: str
    capability: str
    outputs: tuple[OperatorOutput, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON with its schema's name."""
        return {"schema": OUTPUTS_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Any, where: str = INDEX) -> OperatorOutputs:
        """What ``to_json`` wrote, in the file ``where``. Raises NdreproError for anything else."""
        record = Field(document, where, NdreproError)
        schema = record.mapping().get("schema")
        if schema != OUTPUTS_SCHEMA:
            raise NdreproError(
                f"{where}: schema {str(schema)[:80]!r}, expected {OUTPUTS_SCHEMA!r}",
                "use the version of ndrepro that wrote it, or measure again",
            )
        outputs = tuple(_output(item) for item in record.member("outputs").items())
        if len({output.key for output in outputs}) < len(outputs):
            raise NdreproError(f"{where}: an output that is listed twice", "measure again")
        return cls(
            torch=record.member("torch").string(),
            numpy=record.member("numpy").string(),
            capability=record.member("capability").string(),
            outputs=outputs,
        )


def _output(item: Field) -> OperatorOutput:
    members: Mapping[str, Field] = item.members(("operation", "shape", "dtype", "output", "array", "reason"))
    array = members["array"]
    words = {name: members[name].string() for name in ("operation", "shape", "dtype", "output", "reason")}
    return OperatorOutput(**words, array=None if array.value is None else array.string())
