"""Two environments' operations side by side: which outputs have equal bits, and how far the others are apart.

The largest distance is counted in units in the last place of each number, which is large where terms cancel, and also
relative to the largest number of the tensor, which is not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.comparison.operation_diff import TensorDifference, as_floats, compare_tensors
from ndrepro.analysis.comparison.stored_arrays import StoredArrays, stored_arrays
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.operators.outputs import ARRAYS, OperatorOutput, OperatorOutputs

if TYPE_CHECKING:
    import numpy
    import numpy.typing


# how ``ndrepro.training.operators`` stores an output of each dtype
_STORED = {"float32": "float32", "float64": "float64", "bfloat16": "int16"}
_AGAIN = "measure again: ndrepro operators measure ENV -o FOLDER"


@dataclass(frozen=True)
class OutputDifference:
    """One output in two environments; ``difference`` is None where one of them did not compute it, or another shape.

    ``relative`` is the largest absolute distance over the largest finite magnitude in the first environment;
    ``other_shape`` is true where both computed it, in shapes that cannot be compared.
    """

    output: OperatorOutput
    difference: TensorDifference | None
    relative: float = 0.0
    reason: str = ""
    other_shape: bool = False

    @property
    def computed_by_both(self) -> bool:
        """Whether there are two arrays, so that their bits are equal or not."""
        return self.difference is not None or self.other_shape

    @property
    def equal(self) -> bool:
        """Whether every bit is equal."""
        return self.difference is not None and not self.difference.differing


@dataclass(frozen=True)
class OperationDifference:
    """All outputs of an operation in one direction and dtype: how many, how many differ, the largest distances.

    An output of another shape differs, at no distance. ``absent`` counts those that one environment did not compute.
    """

    operation: str
    direction: str
    dtype: str
    outputs: int
    differing: int
    absent: int
    ulps: int
    relative: float


def compare_outputs(
    first: OperatorOutputs, second: OperatorOutputs, folders: tuple[Path, Path]
) -> Iterator[OutputDifference]:
    """Every output of the first environment beside the second's, in order; ``folders`` hold their arrays.

    Raises NdreproError with file and array for arrays that are not those of the outputs.
    """
    others = {output.key: output for output in second.outputs}
    ours_in, theirs_in = (stored_arrays(folder / ARRAYS, _AGAIN) for folder in folders)
    with ours_in as ours, theirs_in as theirs:
        for output in first.outputs:
            other = others.get(output.key)
            if output.array is None or other is None or other.array is None:
                reason = output.reason or (other.reason if other else "not computed by the second")
                yield OutputDifference(output, None, reason=reason)
                continue
            yield _compared(output, _array(ours, output), _array(theirs, other))
    known = {output.key for output in first.outputs}
    for output in second.outputs:
        if output.key not in known and output.array is not None:
            yield OutputDifference(output, None, reason="not computed by the first")


def by_operation(differences: Iterable[OutputDifference]) -> tuple[OperationDifference, ...]:
    """One row for each operation, direction and dtype, in the order of their first outputs."""
    groups: dict[tuple[str, str, str], list[OutputDifference]] = {}
    for each in differences:
        key = (each.output.operation, each.output.direction, each.output.dtype)
        groups.setdefault(key, []).append(each)
    return tuple(_summary(*key, members) for key, members in groups.items())


def _array(stored: StoredArrays, output: OperatorOutput) -> numpy.typing.NDArray[Any]:
    """The array of an output. Raises NdreproError where it is not there, cannot be read, or has another dtype."""
    import numpy as np

    about = f" ({output.operation}, {output.output})"
    where = f"{stored.path}: array '{output.array}'{about}"
    if output.dtype not in _STORED:
        raise NdreproError(f"{where}: dtype '{output.dtype}', expected one of {', '.join(_STORED)}", _AGAIN)
    array = stored.read(str(output.array), about)
    if array.dtype != np.dtype(_STORED[output.dtype]):
        found, expected = str(array.dtype)[:80], _STORED[output.dtype]
        raise NdreproError(f"{where}: {found}, expected {expected} for {output.dtype}", _AGAIN)
    return array


def _summary(operation: str, direction: str, dtype: str, members: list[OutputDifference]) -> OperationDifference:
    there = [each for each in members if each.computed_by_both]
    return OperationDifference(
        operation,
        direction,
        dtype,
        outputs=len(members),
        differing=sum(not each.equal for each in there),
        absent=len(members) - len(there),
        ulps=max((each.difference.largest_ulps or 0 for each in there if each.difference), default=0),
        relative=max((each.relative for each in there), default=0.0),
    )


def _compared(
    output: OperatorOutput, ours: numpy.typing.NDArray[Any], theirs: numpy.typing.NDArray[Any]
) -> OutputDifference:
    import numpy as np

    if ours.shape != theirs.shape:
        return OutputDifference(output, None, reason=f"shapes {ours.shape} and {theirs.shape}", other_shape=True)
    difference = compare_tensors(ours, theirs, output.dtype)
    numbers = np.abs(as_floats(ours, output.dtype)) if difference.differing else np.zeros(0)
    scale = float(numbers[np.isfinite(numbers)].max(initial=0.0))
    # a quotient beyond all numbers is the largest one
    relative = min(difference.largest_absolute / scale, sys.float_info.max) if scale else 0.0
    return OutputDifference(output, difference, relative)
