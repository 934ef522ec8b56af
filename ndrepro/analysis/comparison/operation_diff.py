"""The first operation of a replayed step whose bits differ between two runs, and by how much.

Two records of the same step (``ndrepro.protocol.replay_messages``) are walked side by side: what the step starts from,
its batch, then every operation in its order, forward, backward and in the optimizer. Before the first that differs
everything was equal, so what it took was equal too; its tensors, fetched afterwards, prove it. Versions of torch may
compute a thing by other operations: those that only one has are passed over, and reported where they precede the first
difference.

How far two numbers are apart is counted in units in the last place: how many numbers of their type lie between them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.comparison.stored_arrays import stored_arrays
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.replay_messages import BATCH, STATE, Operation, StepRecord, TensorBits, Wanted
from ndrepro.text.first_difference import first_different_place

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Array = numpy.typing.NDArray[Any]

NOTHING, UNSEEN = "nothing", "unseen"
# dtypes as numpy spells them that are kept as whole numbers of the same bits, and as which
_AS_BITS = {"bfloat16": "int16"}
_Only = tuple[tuple[Operation, ...], tuple[Operation, ...]]


@dataclass(frozen=True)
class FirstDifference:
    """Where the bits of a step first differ.

    Attributes:
        part: NOTHING; STATE or BATCH, with the tensor's ``name``; the operation's part of the step; or UNSEEN, where
            the step ends in other bits although no operation that both have differs.
        name: of the tensor of the state or the batch.
        differing: all names that differ in the state or the batch.
        numbers: of the first operation that differs, in each record; where the state or the batch differs, the first
            that this reaches.
        operations: themselves.
        output: which of its outputs is the first to differ.
        equal: how many operations before it gave equal bits.
        only: the first operations before it that only one of the two has, and that did not come to equal bits.
    """

    part: str
    name: str = ""
    differing: tuple[str, ...] = ()
    numbers: tuple[int, int] | None = None
    operations: tuple[Operation, Operation] | None = None
    output: int = 0
    equal: int = 0
    only: tuple[tuple[Operation, ...], tuple[Operation, ...]] = ((), ())

    @property
    def computed_otherwise(self) -> Operation | None:
        """The first of the operations that only one has, if there are any."""
        return next(iter((*self.only[0], *self.only[1])), None)

    @property
    def other_arguments(self) -> bool:
        """Whether the operation was called with other numbers, so that equal tensors would give other ones."""
        return self.operations is not None and self.operations[0].arguments != self.operations[1].arguments

    def wanted(self) -> tuple[Wanted, Wanted]:
        """What to fetch of each replay to see the difference itself."""
        if self.numbers is not None and self.part not in (STATE, BATCH):
            first, second = (Wanted(self.part, operation=number) for number in self.numbers)
            return first, second
        one = Wanted(self.part, name=self.name) if self.part in (STATE, BATCH) else Wanted()
        return one, one


@dataclass(frozen=True)
class TensorDifference:
    """Two tensors of one shape and dtype: numbers that differ, of how many, and by how much.

    ``largest_ulps`` and ``median_ulps`` (over the numbers that differ) are None for whole numbers;
    ``only_one_finite`` counts places where just one of the two is a number at all.
    """

    shape: tuple[int, ...]
    dtype: str
    differing: int
    of: int
    largest_ulps: int | None
    median_ulps: float | None
    largest_absolute: float
    only_one_finite: int = 0


def first_difference(first: StepRecord, second: StepRecord) -> FirstDifference:
    """Compare two records of one step."""
    for part, pairs in ((STATE, _entering(first, second)), (BATCH, (first.batch, second.batch))):
        names = _unequal(*pairs)
        if names:
            difference = _first_operation(first, second) or FirstDifference(part)
            return replace(difference, part=part, name=names[0], differing=names)
    found = _first_operation(first, second)
    if found is not None:
        return found
    same = first.leaving == second.leaving and first.loss_bits == second.loss_bits
    return FirstDifference(NOTHING if same else UNSEEN, equal=min(len(first.operations), len(second.operations)))


def compare_tensors(first: Array, second: Array, dtype: str) -> TensorDifference:
    """Two tensors as they were written; ``dtype`` is that of the tensor itself. Their shapes are equal."""
    import numpy as np

    a, b = _bits_of(first), _bits_of(second)
    unequal = a != b
    count = int(unequal.sum())
    if not (dtype.startswith("float") or dtype in _AS_BITS):
        largest = float(np.abs(first.astype(np.float64) - second.astype(np.float64)).max(initial=0.0))
        return TensorDifference(tuple(first.shape), dtype, count, first.size, None, None, largest)
    x, y = as_floats(first, dtype), as_floats(second, dtype)
    finite = np.isfinite(x) & np.isfinite(y)
    both = unequal & finite
    # infinities and NaN have no distance
    i, j = _ordered(a)[both], _ordered(b)[both]
    # as unsigned numbers: between float64 of opposite signs lie more than int64 can count
    ulps = np.maximum(i, j).view(np.uint64) - np.minimum(i, j).view(np.uint64)
    with np.errstate(over="ignore"):
        absolute = np.abs(x[both].astype(np.float64) - y[both].astype(np.float64))
    return TensorDifference(
        tuple(first.shape),
        dtype,
        count,
        first.size,
        int(ulps.max(initial=0)),
        float(np.median(ulps)) if ulps.size else 0.0,
        float(absolute.max(initial=0.0)),
        int((np.isfinite(x) != np.isfinite(y)).sum()),
    )


def read_difference(found: FirstDifference, paths: tuple[Path, Path], dtype: str) -> tuple[TensorDifference, list[str]]:
    """The difference itself from two files of tensors, and the inputs of the operation that are not equal.

    Raises NdreproError where the recorded code left no such tensors.
    """
    cure = "recorded code left it: read that code"
    first_in, second_in = (stored_arrays(path, cure) for path in paths)
    with first_in as first, second_in as second:
        name = f"output {found.output if found.part not in (STATE, BATCH) else 0}"
        inputs = sorted(key for key in {*first.names, *second.names} if key.startswith("input"))
        unequal = [
            key
            for key in inputs
            if key not in first.names or key not in second.names or not _same(first.read(key), second.read(key))
        ]
        one, other = first.read(name), second.read(name)
        if one.shape != other.shape or {str(one.dtype), str(other.dtype)} != {_AS_BITS.get(dtype, dtype)}:
            raise NdreproError(f"{paths[0]}, {paths[1]}: {name}: no two tensors of one shape and of {dtype}", cure)
        return compare_tensors(one, other, dtype), unequal


def unfaithful(record: StepRecord, recorded: tuple[str, ...], loss_bits: str, names: tuple[str, ...]) -> list[str]:
    """What a replayed step left in other bits than its run recorded: "loss", names of tensors; nothing if faithful.

    ``recorded`` are the fingerprints of the run's own trail after that step, in order of ``names``.
    """
    found = ["loss"] if record.loss_bits != loss_bits else []
    return found + [name for name, then, now in zip(names, recorded, record.leaving, strict=True) if then != now]


def _entering(first: StepRecord, second: StepRecord) -> tuple[Mapping[str, TensorBits], Mapping[str, TensorBits]]:
    """State and momentum before the step, in one list."""

    def together(record: StepRecord) -> dict[str, TensorBits]:
        momentum = {f"momentum of {name}": bits for name, bits in record.momentum.items()}
        return {**record.state, **momentum}

    return together(first), together(second)


def _unequal(first: Mapping[str, TensorBits], second: Mapping[str, TensorBits]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys([*first, *second]) if first.get(name) != second.get(name))


def _first_operation(first: StepRecord, second: StepRecord) -> FirstDifference | None:
    equal = 0
    suspects: _Only | None = None
    pending: _Only = ((), ())
    for a, b in _paired(first.operations, second.operations):
        if a is None or b is None:
            pending = (
                pending[0] if a is None else (*pending[0], first.operations[a]),
                pending[1] if b is None else (*pending[1], second.operations[b]),
            )
            continue
        if suspects is None and not _came_to_the_same(pending):
            suspects = pending
        pending = ((), ())
        one, other = first.operations[a], second.operations[b]
        if one.outputs == other.outputs:
            equal += 1
            continue
        pairs = enumerate(zip(one.outputs, other.outputs, strict=True))
        output = next(place for place, pair in pairs if pair[0] != pair[1])
        return FirstDifference(one.part, "", (), (a, b), (one, other), output, equal, suspects or ((), ()))
    return None


def _came_to_the_same(only: _Only) -> bool:
    """Whether operations that differ between two versions ended in the same bits, so that nothing came of it."""
    if not only[0] and not only[1]:
        return True
    return bool(only[0] and only[1]) and only[0][-1].outputs == only[1][-1].outputs


def _paired(
    first: tuple[Operation, ...], second: tuple[Operation, ...]
) -> Iterator[tuple[int, int] | tuple[int, None] | tuple[None, int]]:
    """Numbers of operations that correspond to each other, and of those without a counterpart, in order."""
    keys = [_key(operation) for operation in first], [_key(operation) for operation in second]
    if keys[0] == keys[1]:
        yield from ((number, number) for number in range(len(first)))
        return
    start = first_different_place(*keys)
    yield from ((number, number) for number in range(start))
    rest = keys[0][start:], keys[1][start:]
    for _, i, to_i, j, to_j in difflib.SequenceMatcher(None, *rest, autojunk=False).get_opcodes():
        if rest[0][i:to_i] == rest[1][j:to_j]:
            yield from ((start + i + step, start + j + step) for step in range(to_i - i))
            continue
        yield from ((start + number, None) for number in range(i, to_i))
        yield from ((None, start + number) for number in range(j, to_j))


def _key(operation: Operation) -> tuple[Any, ...]:
    """What makes two operations the same one, whatever bits they gave."""
    shapes = tuple((output.shape, output.dtype) for output in operation.outputs)
    return operation.part, operation.path, operation.stage, operation.name, shapes


def _same(first: Array, second: Array) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and first.tobytes() == second.tobytes()


def _bits_of(array: Array) -> Array:
    """The bits of every number, as whole numbers."""
    import numpy as np

    contiguous = np.ascontiguousarray(array).reshape(array.shape)
    return contiguous.view(f"i{array.dtype.itemsize}") if array.dtype.kind == "f" else contiguous


def _ordered(bits: Array) -> Array:
    """Floating-point bits as whole numbers in the order of the numbers: neighbours differ by one, both zeros are 0."""
    import numpy as np

    lowest = np.iinfo(bits.dtype).min
    wide = bits.astype(np.int64)
    return np.where(bits < 0, np.int64(lowest) - wide, wide)


def as_floats(array: Array, dtype: str) -> Array:
    """The numbers of ``array``, where numpy has no such type and it holds their bits."""
    import numpy as np

    if dtype not in _AS_BITS:
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
