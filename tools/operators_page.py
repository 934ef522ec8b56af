"""Compares measured releases of torch one after the other, and writes the tables of docs/findings/operators.md.

    python tools/operators_page.py compare OUTPUTS docs/findings/data/operators.json
    python tools/operators_page.py tables docs/findings/data/operators.json docs/findings/operators.md

OUTPUTS holds a folder for each release and limit of the instruction sets, ``2.8.0@avx2``, as ``ndrepro operators
measure`` writes it. The last patch release of a minor version that was measured under every limit stands for that
version; the others are compared with their neighbours alone. The document has the operations whose bits differ, for
each pair of consecutive releases and each limit. A release is added to it by its own outputs and those of its
neighbours: pairs that the document has are not compared again. The tables are in the page between two comments, and a
test compares them with the document.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import page_tables

from ndrepro.analysis.comparison.operator_differences import OperationDifference, by_operation, compare_outputs
from ndrepro.execution.operators.measurement import outputs_in

LIMITS = ("native", "avx2", "sse41")
DTYPES = ("float32", "float64", "bfloat16")
START = "<!-- tables: tools/operators_page.py -->"
Row = tuple[str, str, str]
Document = dict[str, Any]


def compare(outputs: Path, before: Document) -> Document:
    """Every pair of consecutive releases under each limit, and the newest under each limit beside itself without.

    Raises NdreproError where the outputs of a pair that is to be compared are missing.
    """
    added = {each.name: outputs_in(each) for each in sorted(outputs.iterdir())}
    measured = before.get("measured", {}) | {
        name: [each.torch, each.numpy, each.capability] for name, each in added.items()
    }
    everything = sorted({name.partition("@")[0] for name in measured}, key=_natural)
    limited = [each for each in everything if f"{each}@{LIMITS[-1]}" in measured]
    releases = list({tuple(_natural(each)[:2]): each for each in limited}.values())
    newest, between = releases[-1], [each for each in everything if each not in releases]
    pairs = [(f"{a}@{limit}", f"{b}@{limit}") for limit in LIMITS for a, b in pairwise(releases)]
    pairs += [(f"{newest}@native", f"{newest}@{limit}") for limit in LIMITS[1:]]
    pairs += [(f"{a}@native", f"{b}@native") for a, b in pairwise(everything) if {a, b} & {*between}]
    rows: dict[Row, int] = {tuple(row[:3]): row[3] for row in before.get("operations", [])}
    known = before.get("compared", {})
    compared: Document = {f"{a} {b}": known[f"{a} {b}"] for a, b in pairs if f"{a} {b}" in known}
    for first, second in pairs:
        if f"{first} {second}" in compared:
            continue
        found = _compared(outputs / first, outputs / second)
        for each in found:
            key = (each.operation, each.direction, each.dtype)
            rows[key] = max(rows.get(key, 0), each.outputs)
        compared[f"{first} {second}"] = [_cells(each) for each in found if each.differing or each.absent]
    return {
        "releases": releases,
        "between": between,
        "measured": dict(sorted(measured.items())),
        "operations": [[*key, count] for key, count in rows.items()],
        "compared": compared,
    }


def _compared(first: Path, second: Path) -> tuple[OperationDifference, ...]:
    return by_operation(compare_outputs(outputs_in(first), outputs_in(second), (first, second)))


def _cells(row: OperationDifference) -> list[Any]:
    relative = float(f"{row.relative:.1e}")
    return [row.operation, row.direction, row.dtype, row.differing, row.outputs, row.absent, row.ulps, relative]


def tables(document: Document) -> str:
    """The tables of the page as Markdown."""
    return "\n".join([*_totals(document), *_patches(document), *_limits(document), *_operations(document)])


def with_tables(page: str, document: Document) -> str:
    """The page with its tables made anew. Raises ValueError where it has no place for them."""
    return page_tables.with_tables(page, START, tables(document))


def _totals(document: Document) -> Iterator[str]:
    yield "### How many outputs changed with each release\n"
    yield "Outputs and gradients that differ from the release before, of those that both compute.\n"
    yield f"| from | to | {' | '.join(f'float32 {limit}' for limit in LIMITS)} | all types native |"
    yield "| --- | --- |" + " ---: |" * (len(LIMITS) + 1)
    for first, second in pairwise(document["releases"]):
        cells = [_count(document, f"{first}@{limit} {second}@{limit}", "float32") for limit in LIMITS]
        every = _count(document, f"{first}@native {second}@native", None)
        yield f"| {first} | {second} | {' | '.join(cells)} | {every} |"
    yield ""


def _count(document: Document, pair: str, dtype: str | None) -> str:
    """How many outputs differ, of how many that both releases compute."""
    chosen = [row for row in document["compared"][pair] if dtype in (None, row[2])]
    outputs = sum(row[3] for row in document["operations"] if dtype in (None, row[2]))
    absent = sum(row[5] for row in chosen)
    return f"{sum(row[3] for row in chosen)} of {outputs - absent}"


def _patches(document: Document) -> Iterator[str]:
    if not document["between"]:
        return
    yield "### Patch releases between them\n"
    yield "Without a limit, which patch release of a minor version changed something.\n"
    yield "| from | to | outputs that differ | operations |"
    yield "| --- | --- | ---: | --- |"
    for first, second in pairwise(sorted([*document["releases"], *document["between"]], key=_natural)):
        pair = f"{first}@native {second}@native"
        if {first, second} & {*document["between"]}:
            names = dict.fromkeys(row[0] for row in document["compared"][pair] if row[3])
            yield f"| {first} | {second} | {_count(document, pair, None)} | {', '.join(names) or 'none'} |"
    yield ""


def _limits(document: Document) -> Iterator[str]:
    newest = document["releases"][-1]
    yield f"### Torch {newest} under other instruction sets\n"
    yield "Largest distance from the same release without a limit: units in the last place, and relative to the largest"
    yield "number of the tensor; in brackets, how many outputs of the operation differ.\n"
    yield "| operation | pass | type | avx2 | sse41 |"
    yield "| --- | --- | --- | ---: | ---: |"
    by_limit = [_by_row(document, f"{newest}@native {newest}@{limit}") for limit in LIMITS[1:]]
    for dtype in DTYPES:
        for operation, direction, kind, _ in document["operations"]:
            cells = [found.get((operation, direction, kind)) for found in by_limit]
            if kind == dtype and any(cell and cell[3] for cell in cells):
                words = " | ".join(_distance(cell) for cell in cells)
                yield f"| {operation} | {direction} | {kind} | {words} |"
    yield ""


def _distance(cell: list[Any] | None) -> str:
    if cell is None or not cell[3]:
        return "equal"
    return f"{cell[6]:,} / {cell[7]:.0e} ({cell[3]} of {cell[4] - cell[5]})"


def _operations(document: Document) -> Iterator[str]:
    releases = document["releases"]
    changes = [_by_row(document, f"{a}@native {b}@native") for a, b in pairwise(releases)]
    for dtype in DTYPES:
        yield f"### {dtype}: which release changed which operation\n"
        yield f"| operation | pass | {' | '.join(first_alike(document, each) for each in releases[1:])} |"
        yield "| --- | --- |" + " ---: |" * (len(releases) - 1)
        unchanged = []
        for operation, direction, kind, _ in document["operations"]:
            cells = [found.get((operation, direction, kind)) for found in changes]
            if kind == dtype and any(cells):
                yield f"| {operation} | {direction} | {' | '.join(_ulps(cell) for cell in cells)} |"
            elif kind == dtype:
                unchanged.append(f"{operation} ({direction})")
        yield f"\nEqual bits in all releases: {', '.join(unchanged) or 'none'}.\n"


def first_alike(document: Document, release: str) -> str:
    """The earliest measured patch release of ``release``'s minor version since which no bits changed up to it."""
    everything = sorted([*document["releases"], *document["between"]], key=_natural)
    patches = [each for each in everything if _natural(each)[:2] == _natural(release)[:2]]
    for before, after in reversed(list(pairwise(patches[: patches.index(release) + 1]))):
        if any(row[3] for row in document["compared"][f"{before}@native {after}@native"]):
            return after
    return patches[0]


def _ulps(cell: list[Any] | None) -> str:
    if cell is None:
        return "="
    if cell[5] == cell[4]:
        return "absent"
    return f"{cell[6]:,}" if cell[6] < 100_000 else f"{cell[6]:.0e}" if cell[3] else "="


def _by_row(document: Document, pair: str) -> dict[Row, list[Any]]:
    return {(row[0], row[1], row[2]): row for row in document["compared"][pair]}


def _natural(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", release)]


def main(words: list[str]) -> None:
    """See the module."""
    what, source, target = words[0], Path(words[1]), Path(words[2])
    if what == "compare":
        before = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
        target.write_text(json.dumps(compare(source, before), separators=(",", ":")) + "\n", encoding="utf-8")
    else:
        document = json.loads(source.read_text(encoding="utf-8"))
        target.write_text(with_tables(target.read_text(encoding="utf-8"), document), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
