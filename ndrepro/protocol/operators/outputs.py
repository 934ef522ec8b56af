"""What operations computed in one environment, as the process that ran them writes it and its parent reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ndrepro.protocol.errors import NdreproError
from provenance.formats.strict_json import Field, read_versioned

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
        """Every field, with the schema's name."""
        return {"schema": OUTPUTS_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Any, where: str = INDEX) -> OperatorOutputs:
        """What ``to_json`` wrote, in the file ``where``. Raises NdreproError for anything else."""
        cure = "use the version of ndrepro that wrote it, or measure again"
        found = read_versioned(cls, Field(document, where, NdreproError), OUTPUTS_SCHEMA, cure)
        if len({output.key for output in found.outputs}) < len(found.outputs):
            raise NdreproError(f"{where}: an output that is listed twice", "measure again")
        return found
