"""``ndrepro operators``: which operations of networks two environments compute with other bits, and how far apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.analysis.comparison.operator_differences import OperationDifference, by_operation, compare_outputs
from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.operators.measurement import Source, outputs_in
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.operators.outputs import OperatorOutputs
from ndrepro.text.plurals import plural
from provenance.formats.folder_tree import temporary_folder

_ENV = (
    "main, a cell (`ndrepro env list`), the path of a Python, or a folder of `operators measure`; @avx2 behind it "
    "limits the instruction sets, as the setting cpu_isa does."
)


def compare(
    first: Annotated[str, typer.Argument(metavar="ENV", show_default=False, help=_ENV)],
    second: Annotated[str, typer.Argument(metavar="ENV", show_default=False, help="The other one, likewise.")],
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Operations whose name holds this, e.g. norm.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show the operations with equal bits, too.")] = False,
    as_json: options.Json = False,
) -> int:
    """Compute the operations of networks in two environments and compare every output and gradient.

    Operations are those of the studies' networks and of transformers, in float32, float64 and bfloat16, forward and
    backward, on fixed inputs, with one thread. Exit 0 where all bits are equal, 1 where some are not, or where the
    two have no output in common.

    An environment may be limited to instruction sets, as main@avx2.

    Example: ndrepro operators compare torch-2.4.1 torch-2.8.0
    """
    from ndrepro.execution.operators.measurement import measure

    sources = (Source.parse(first), Source.parse(second))
    with ExitStack() as places:
        folders, found = [], []
        for source in sources:
            folder = places.enter_context(temporary_folder("ndrepro-operators-"))
            if not as_json and not source.is_folder:
                terminal.write_line(f"measuring {source.label}", sys.stderr)
            folders.append(measure(source, folder, only))
            found.append(outputs_in(folders[-1]))
        differences = compare_outputs(found[0], found[1], (folders[0], folders[1]))
        rows = [row for row in by_operation(differences) if only in row.operation]
    if not rows and not only:
        raise NdreproError(f"{first}, {second}: no outputs", "measure again: ndrepro operators measure ENV -o FOLDER")
    if not rows:
        raise UsageError(f"--only {only}: no operation's name holds it", "leave --only out to see all of them")
    equal = any(row.outputs > row.absent for row in rows) and not any(row.differing for row in rows)
    described = [_described(source.label, outputs) for source, outputs in zip(sources, found, strict=True)]
    lines = _lines(rows, [source.label for source in sources], found, everything)
    return output.answer({"environments": described, "operations": rows}, lines, as_json, holds=equal)


def measure(
    environment: Annotated[str, typer.Argument(metavar="ENV", show_default=False, help=_ENV)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where to write the outputs; made anew.")],
    as_json: options.Json = False,
) -> int:
    """Compute the operations of networks in an environment and keep every output, to compare later.

    It takes about 150 MB.

    Example: ndrepro operators measure torch-2.8.0 -o outputs/2.8.0
    """
    from ndrepro.execution.operators.measurement import measure

    if out.exists():
        raise UsageError(f"{out}: it is there already", "name a folder that is not there yet")
    source = Source.parse(environment)
    if source.is_folder:
        raise UsageError(f"{environment}: it holds outputs already", "name an environment")
    found = outputs_in(measure(source, out))
    document = {**_described(source.label, found), "outputs": len(found.outputs), "out": str(out.absolute())}
    line = f"{source.label}: torch {found.torch}, {plural(len(found.outputs), 'output')} in {out}"
    return output.answer(document, (line,), as_json)


def _described(label: str, outputs: OperatorOutputs) -> dict[str, str]:
    return {"name": label, "torch": outputs.torch, "numpy": outputs.numpy, "capability": outputs.capability}


def _lines(
    rows: list[OperationDifference], labels: list[str], found: list[OperatorOutputs], everything: bool
) -> Iterator[str]:
    for label, outputs in zip(labels, found, strict=True):
        yield f"{label}: torch {outputs.torch}, {outputs.capability or 'vector instructions not reported'}"
    shown = [row for row in rows if everything or row.differing]
    if shown:
        width = max(len(row.operation) for row in shown)
        yield ""
        yield f"{'operation':<{width}}  pass      type      differ    largest distance in ulps, and relative"
    for row in shown:
        count = f"{row.differing} of {row.outputs - row.absent}" if row.outputs > row.absent else "absent"
        distance = _distance(row) if row.differing else "equal" if count != "absent" else ""
        yield f"{row.operation:<{width}}  {row.direction:<8}  {row.dtype:<8}  {count:<8}  {distance}"
    outputs_there = sum(row.outputs - row.absent for row in rows)
    differing = sum(row.differing for row in rows)
    absent = sum(row.absent for row in rows)
    if not outputs_there:
        yield ""
        yield f"nothing was compared: {plural(absent, 'output')}, none of them computed by both"
        return
    yield ""
    yield f"{differing} of {plural(outputs_there, 'output')} differ; {absent} not computed by one of the two"


def _distance(row: OperationDifference) -> str:
    return f"{row.ulps:,}  {row.relative:.1e}" if row.ulps else "none: other shapes, or not finite"
