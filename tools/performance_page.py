"""Writes the tables of docs/findings/performance.md from what the benchmarks wrote, docs/findings/data/performance/.

    python tools/performance_page.py

Each file is the output of one command, which the page names, with the machine, its load and versions beside it:

    growth.json                        python -m benchmarks.growth --json FILE
    deconvolution[-xeon]-1-thread.json    python -m benchmarks.deconvolution --json FILE
    deconvolution[-xeon]-2-threads.json   the same with --threads 2
    the others                         python -m benchmarks NAME... --json FILE

The tables are in the page between comments, and a test compares them with the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import page_tables

ROOT = Path(__file__).resolve().parents[1]
DATA, PAGE = ROOT / "docs" / "findings" / "data" / "performance", ROOT / "docs" / "findings" / "performance.md"
START = "<!-- tables: tools/performance_page.py {} -->"
# how many times as fast as the reference a step has to be; 1.0 for every other network, and for the geometric mean
TARGETS = {"resnet18d": 2.5, "densenet121": 2.5, "vgg16": 1.8, "mobilenetv2": 1.25}
TARGET_OF_THE_MEAN = 1.8
Document = dict[str, Any]


def read(name: str) -> Document:
    """What one command of the benchmarks wrote."""
    document: Document = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return document


def conditions(document: Document) -> str:
    """When and where it was measured."""
    processor, versions = document["processor"], document["versions"]
    load = document["load_average"][1]
    return (
        f"Measured {document['finished'][:10]}: {processor['model_name']} (family {processor['family']}, model"
        f" {processor['model']}; {document['capability']}), {document['cores']['logical']} cores, torch"
        f" {versions['torch']}, numpy {versions['numpy']}; load average {load:.1f}.\n"
    )


def growth() -> Iterator[str]:
    """Time and memory of one layer."""
    document = read("growth")
    yield conditions(document)
    yield "| varied | value | n | reference ms | fast ms | reference MiB | fast MiB |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in document["results"]:
        numbers = [f"{row[f'{kernel}_{unit}']:.1f}" for unit in ("ms", "mib") for kernel in ("reference", "fast")]
        yield f"| {row['varied']} | {row['value']} | {row['rounds']} | {' | '.join(numbers)} |"


def steps(prefix: str = "deconvolution") -> Iterator[str]:
    """A training step of every network with one thread and with two."""
    documents = [read(f"{prefix}-{each}") for each in ("1-thread", "2-threads")]
    yield from map(conditions, documents)
    yield "| network, batch | n | target | reference / fast | ND/BN: reference, fast | two threads: reference / fast |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    gains: list[list[float]] = [[], []]
    for arch, row in documents[0]["results"].items():
        cells = []
        for number, document in enumerate(documents):
            seconds = document["results"][arch]["seconds"]
            gains[number].append(median(seconds["reference"]) / median(seconds["fast"]))
            ratios = [slow / fast for slow, fast in zip(seconds["reference"], seconds["fast"], strict=True)]
            cells.append(f"{gains[number][-1]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        medians = {side: median(values) for side, values in row["seconds"].items()}
        beside = ", ".join(f"{medians[side] / medians['bn']:.1f}" for side in ("reference", "fast"))
        n, target = len(row["seconds"]["fast"]), f"{TARGETS.get(arch, 1.0):.2f}"
        yield f"| {arch}, {row['images']} | {n} | {target} | {cells[0]} | {beside} | {cells[1]} |"
    means = [geometric_mean(each) for each in gains]
    yield f"| geometric mean | | {TARGET_OF_THE_MEAN:.2f} | {means[0]:.2f} | | {means[1]:.2f} |\n"
    for words, found, mean in zip(("one thread", "two threads"), gains, means, strict=True):
        named = zip(documents[0]["results"], found, strict=True)
        missed = [arch for arch, gain in named if gain < TARGETS.get(arch, 1.0)]
        missed += ["the mean"] if mean < TARGET_OF_THE_MEAN else []
        yield f"Below its target with {words}: {', '.join(missed) or 'none'}."


def step_operators() -> Iterator[str]:
    """Operators that a step dispatches."""
    counts = {row["name"].removeprefix("operators of a step of "): row for row in read("step_operators")["results"]}
    yield "| network | batch norm | fast | fast / batch norm |"
    yield "| --- | ---: | ---: | ---: |"
    for name, row in counts.items():
        if name.endswith("_bn") and " " not in name:
            arch = name.removesuffix("_bn")
            nd = counts[f"{arch}_nd"]["median"]
            yield f"| {arch} | {row['median']:,} | {nd:,} | {nd / row['median']:.2f} |"


def promises(*names: str) -> Iterator[str]:
    """Rows of `make bench`, a table for each measurement."""
    for number, name in enumerate(names):
        yield from [""] * (number > 0)
        yield from _promises(read(name))


def _promises(document: Document) -> Iterator[str]:
    yield conditions(document)
    yield "| measured | median | lowest to highest | n | limit | unit |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for row in document["results"]:
        low, high, limit = (f"{row[key]:.3g}" if row[key] is not None else "none" for key in ("low", "high", "limit"))
        yield f"| {row['name']} | {row['median']:.3g} | {low} to {high} | {row['n']} | {limit} | {row['unit']} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "steps": steps,
    "steps_xeon": lambda: steps("deconvolution-xeon"),
    "whole": lambda: promises("whole", "whole-xeon"),
    "memory": lambda: promises("memory"),
    "growth": growth,
    "recording": lambda: promises("hashing", "trail", "recording", "trackers"),
    "step_operators": step_operators,
}


def with_tables(page: str) -> str:
    """The page with its tables made anew. Raises ValueError where it has no place for one of them."""
    for name, table in TABLES.items():
        page = page_tables.with_tables(page, START.format(name), "\n".join([*table(), ""]))
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
