"""``ndrepro diff A B --locate``: replays the step at which two runs diverge, names the first operation that differs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.comparison.operation_diff import (
    FirstDifference,
    TensorDifference,
    first_difference,
    read_difference,
    unfaithful,
)
from ndrepro.analysis.comparison.run_comparison import RunComparison
from ndrepro.analysis.comparison.side import Side
from ndrepro.cli.display import terminal
from ndrepro.execution.reproduce.step_replay import Replay, VerifiedRun, recorded_step, replays
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.replay_messages import Operation, StepRecord
from ndrepro.text.plurals import first_of, plural
from provenance.formats.folder_tree import temporary_folder
from provenance.formats.trail import Trail

_LABEL_WIDTH = 13
_SHOWN = 3
_LAYERS_BACKWARD = (
    "aten.convolution_backward",
    "aten.native_batch_norm_backward",
    "aten.cudnn_batch_norm_backward",
    "aten.batch_norm_backward",
    "aten.native_layer_norm_backward",
    "aten.native_group_norm_backward",
)
_GRADIENTS = ("input", "weight", "bias")
# the argument that says which of the three are asked for; cuDNN's batch norm has none, and gives all
_OUTPUT_MASK = re.compile(r"\[(True|False), (True|False), (True|False)\]")
# classes of ours that stand in for one of torch's
_PUBLIC_KINDS = {"StreamDropout": "Dropout", "GlobalBatchNorm2d": "BatchNorm2d"}
_PARTS = {
    "state": "in what it starts from",
    "batch": "in the data: another batch",
    "forward": "in the forward pass",
    "loss": "in the loss",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer's step",
}


@dataclass(frozen=True)
class Located:
    """What the two replays say, and how far they can be believed.

    ``difference`` is None where nothing differs; ``inputs_equal``: the operation took equal tensors; ``faithful`` says
    of each replay whether it left the very bits that its run recorded; ``notes`` say in words what weakens the finding.
    """

    step: int
    found: FirstDifference
    difference: TensorDifference | None
    inputs_equal: bool
    faithful: tuple[bool, bool]
    notes: tuple[str, ...]
    started_from: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The operation and how it differs; infinities stay numbers."""
        return {
            "step": self.step,
            "part": self.found.part,
            "tensor": self.found.name,
            "differing": self.found.differing,
            "equal_operations": self.found.equal,
            "operations": self.found.operations,
            "output": self.found.output,
            "only": self.found.only,
            "inputs_equal": self.inputs_equal,
            "difference": self.difference,
            "faithful": self.faithful,
            "started_from": self.started_from,
            "notes": self.notes,
        }


def locate(
    found: RunComparison,
    data: Path | None,
    keep: Path | None,
    say: Callable[[str], None],
    confine: Callable[[VerifiedRun], Sandbox | None],
) -> Located:
    """Replay the step at which two runs diverge, each in the sandbox that ``confine`` chooses.

    Raises UsageError where there is no such step, or a run is not verified.
    """
    step = _step_of(found)
    subjects = (_subject(found.sides[0]), _subject(found.sides[1]))
    sandboxes = confine(subjects[0]), confine(subjects[1])
    with _folder(keep) as scratch, replays(subjects, step, scratch, data, sandboxes) as both:
        say(_replaying(both, step))
        records = both[0].record(), both[1].record()
        first = first_difference(*records)
        for replay, wanted in zip(both, first.wanted(), strict=True):
            replay.fetch(wanted)
        files = both[0].tensors(), both[1].tensors()
        difference: TensorDifference | None = None
        unequal: list[str] = []
        dtype = _dtype(first, records)
        if dtype:
            difference, unequal = read_difference(first, files, dtype)
        notes = [f"{side}: {line}" for side, replay in zip("AB", both, strict=True) for line in replay.differences]
        astray = [_astray(replay, record) for replay, record in zip(both, records, strict=True)]
        notes += [f"{side}: {text}" for side, text in zip("AB", astray, strict=True) if text]
        if unequal and first.computed_otherwise is None:
            notes.append(f"its own {', '.join(unequal)} differs already, by something that is no operation of torch")
        return Located(
            step,
            first,
            difference,
            not unequal and not _statistics_alone(first),
            (not astray[0], not astray[1]),
            tuple(notes),
            (records[0].started_from, records[1].started_from),
        )


def print_located(located: Located) -> None:
    """The finding first, then the numbers, then what weakens it."""
    terminal.write_styled((terminal.hanging(_headline(located), 0), "bold yellow"))
    for label, text in _lines(located):
        _row(label, text)
    for note in located.notes[:_SHOWN]:
        _row("note", note, style="yellow")
    if len(located.notes) > _SHOWN:
        _row("note", f"and {len(located.notes) - _SHOWN} more (--json lists them)", style="yellow")


def _headline(located: Located) -> str:
    found = located.found
    if found.part == "nothing":
        return f"replayed here, step {located.step:,} leaves the same bits in both: the difference does not come back"
    if found.part == "unseen":
        return f"step {located.step:,} ends in other bits, and every operation that both have gave the same"
    if found.operations is None or found.part in ("state", "batch"):
        return f"step {located.step:,}: the first bits that differ are {_PARTS[found.part]}: {found.name}"
    operation, how = found.operations[0], ""
    if not located.inputs_equal and found.computed_otherwise is not None:
        operation, how = found.computed_otherwise, ", which the two compute by other operations"
    where = f" of {operation.path}" if operation.path else ""
    kind = f" ({_kind(operation)})" if operation.kind else ""
    stage = f", {operation.stage}" if operation.stage else ""
    return f"step {located.step:,}: the first bits that differ are {_PARTS[operation.part]}{where}{kind}{stage}{how}"


def _lines(located: Located) -> Iterator[tuple[str, str]]:
    found = located.found
    brought_in = found.part in ("state", "batch")
    passed_on = brought_in or (not located.inputs_equal and found.computed_otherwise is not None)
    if brought_in and located.difference is not None:
        yield "differs", _difference(located.difference)
    if len(found.differing) > 1:
        yield "also", first_of(found.differing[1:], _SHOWN)
    if found.operations is not None:
        yield "first seen in" if passed_on else "operation", _operation(found.operations[0], found.output)
        if found.other_arguments:
            yield "called", f"with other arguments: {found.operations[0].arguments} and {found.operations[1].arguments}"
    if not brought_in and located.difference is not None:
        yield "differs", _difference(located.difference)
    yield "before it", f"{plural(found.equal, 'operation')} gave equal bits"
    for side, only in zip("AB", found.only, strict=True):
        if only:
            yield f"only in {side}", ", ".join(dict.fromkeys(operation.name for operation in only))
    if all(located.faithful):
        yield "replayed", f"both replays left the bits that their runs recorded after step {located.step:,}"


def _operation(operation: Operation, output: int) -> str:
    shape = operation.outputs[output]
    node = f" for {operation.node}" if operation.node else ""
    of = f", with {', '.join(operation.tensors[:_SHOWN])}" if operation.tensors else ""
    where = f" in {operation.path} ({_kind(operation)})" if operation.path else ""
    return f"{operation.name}{node}{where}{_which(operation, output)}: {shape.dtype} {list(shape.shape)}{of}"


def _kind(operation: Operation) -> str:
    """The module's class as users know it."""
    return _PUBLIC_KINDS.get(operation.kind, operation.kind)


def _which(operation: Operation, output: int) -> str:
    """Which of several outputs, in words where they are the gradients of a layer's input, weight and bias."""
    count = len(operation.outputs)
    if operation.name in _LAYERS_BACKWARD:
        # a first layer has no gradient of its input, a convolution before a batch norm none of a bias
        asked = _OUTPUT_MASK.search(operation.arguments)
        mask = asked.groups() if asked else ("True",) * len(_GRADIENTS)
        given = [name for name, wanted in zip(_GRADIENTS, mask, strict=True) if wanted == "True"]
        if len(given) == count:
            return f", gradient of the {given[output]}"
    return "" if count == 1 else f", output {output + 1} of {count}"


def _difference(difference: TensorDifference) -> str:
    counted = f"{difference.differing:,} of {difference.of:,} number{'s' * (difference.of != 1)}"
    if difference.largest_ulps is None or difference.median_ulps is None:
        return f"{counted}, by at most {difference.largest_absolute:g}"
    how = f"by at most {difference.largest_ulps:,} units in the last place (median {difference.median_ulps:g})"
    odd = f"; {difference.only_one_finite:,} finite in only one" if difference.only_one_finite else ""
    return f"{counted}, {how}, {difference.largest_absolute:.2g} absolutely{odd}"


def _replaying(both: list[Replay], step: int) -> str:
    starts = [
        "from the start" if replay.start.checkpoint is None else f"from the checkpoint of step {replay.start.step:,}"
        for replay in both
    ]
    how = starts[0] if starts[0] == starts[1] else f"A {starts[0]}, B {starts[1]}"
    return f"replaying step {step:,} of both runs, {how}"


def _step_of(found: RunComparison) -> int:
    if found.other_tensors:
        raise UsageError(
            "--locate: these are runs of different networks, which have no step in common",
            "leave --locate out, or give two runs of one network",
        )
    if found.trails is None:
        raise UsageError(f"--locate: there is no step to replay: {'; '.join(found.notes)}", "give two run folders")
    if found.trails.divergence is None:
        raise UsageError(
            "--locate: no step that both have differs, so there is none to replay",
            "leave --locate out; `verify` says whether a trail was truncated",
        )
    # first weights compute nothing: the step after them shows what their difference reaches
    return max(found.trails.divergence.step, min(1, found.trails.shared_records - 1))


def _subject(side: Side) -> Any:
    """A run whose code may be started: only one whose manifest verifies."""
    if side.manifest is None or side.signer is None or side.folder is None:
        raise UsageError(
            f"--locate: {side.path} is not verified, and a replay would start its code",
            f"see `{terminal.program()} verify {side.path}`",
        )
    return VerifiedRun(side.folder, side.manifest)


def _astray(replay: Replay, record: StepRecord) -> str:
    """Where a replay did not leave the bits that its run recorded; "" where it did."""
    recorded, loss_bits, names = recorded_step(Trail(replay.subject.folder.trail), record.step)
    other = unfaithful(record, recorded, loss_bits, names)
    if not other:
        return ""
    differing = ", ".join(other[:2]) + (" …" if len(other) > 2 else "")
    return f"the replay does not reproduce the recorded bits ({differing}): the operation named may not be this run's"


def _statistics_alone(first: FirstDifference) -> bool:
    """Whether all that is known is that a layer's running statistics differ, after operations that only one has."""
    numbers = first.operations is not None and first.operations[0].name == "buffers"
    return numbers and first.computed_otherwise is not None


def _dtype(first: FirstDifference, records: tuple[StepRecord, StepRecord]) -> str:
    """The dtype of the tensor whose difference is measured; "" where there is none of one shape in both."""
    if first.operations is not None and first.part != "batch":
        return first.operations[0].outputs[first.output].dtype
    sources: list[dict[str, Any]] = [
        {**record.state, **{f"momentum of {name}": bits for name, bits in record.momentum.items()}, **record.batch}
        for record in records
    ]
    a, b = (source.get(first.name) for source in sources)
    return str(a.dtype) if a and b and (a.shape, a.dtype) == (b.shape, b.dtype) else ""


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise UsageError(f"--keep {keep}: it is not empty", "name a new folder")
        yield keep
        return
    with temporary_folder("ndrepro-replay-") as name:
        yield name


def _row(label: str, text: str, style: str = "") -> None:
    terminal.write_row(label, text, _LABEL_WIDTH, style)
