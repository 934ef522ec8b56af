"""``ndrepro env``: the environments of the version matrix: list, create, verify, remove, and add one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.environments import add_cell, main_environment, matrix
from ndrepro.execution.environments.matrix import Cell, location
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.image_reference import MAIN
from ndrepro.text.plurals import plural

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        autocompletion=completion.cells,
        help="A cell, e.g. torch-2.4.1; see `ndrepro env list`.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        show_default=False,
        autocompletion=completion.cells,
        help="Cells, e.g. torch-2.4.1; see `ndrepro env list`.",
    ),
]
_VERSIONS = ("torch", "torchvision", "numpy")


def list_cells(as_json: options.Json = False) -> int:
    """List the cells: the project's, and those that were added here. Nothing is built.

    Example: ndrepro env list
    """
    project = matrix.list_cells()
    added = matrix.added_cells()
    rows = [_document(cell, cell in added) for cell in (*project, *added)]
    width = max(len(cell.name) for cell in (*project, *added))
    lines = [f"{'name':<{width}}  python  {'torch':<10} {'torchvision':<12} {'numpy':<8} built  lock sha256"]
    for cell in (*project, *added):
        torch, torchvision, numpy = (cell.version(name) or "-" for name in _VERSIONS)
        built = "yes" if _built(cell) else "no"
        origin = "  added here" if cell in added else ""
        lines.append(
            f"{cell.name:<{width}}  {cell.python:<7} {torch:<10} {torchvision:<12} {numpy:<8} {built:<6} "
            f"{cell.digest[:12]}{origin}"
        )
    lines += ["", f"built below {terminal.here(matrix.cache_folder())}, on first use or by `env create`"]
    return output.answer({"cache": str(matrix.cache_folder()), "cells": rows}, lines, as_json)


def create(names: Names = None, as_json: options.Json = False) -> int:
    """Build cells from their locks and verify them; an existing cell is only verified.

    Example: ndrepro env create torch-1.13.1
    """
    rows = []
    for cell in _cells(names, "create"):
        started = time.monotonic()
        there = _built(cell)
        python = matrix.create(cell)
        problems = matrix.verify(cell)
        seconds = time.monotonic() - started
        rows.append({"name": cell.name, "python": str(python), "built_now": not there, "problems": problems})
        if not as_json:
            how = "was there" if there else f"built in {seconds:.1f} s"
            terminal.write_line(f"{cell.name}: {how}: {terminal.here(python)}")
            _print_problems(problems)
    return output.answer({"cells": rows}, (), as_json, holds=not any(row["problems"] for row in rows))


def verify(
    names: Names = None,
    files: Annotated[
        bool, typer.Option("--files", help="Hash every installed file against its distribution's RECORD, too.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Compare built cells with their locks, by default all of them. Exit 1 where one differs.

    "main" is the environment that ndrepro itself runs in: `ndrepro env verify --files main`.

    Example: ndrepro env verify torch-1.13.1 --files
    """
    built = (cell.name for cell in (*matrix.list_cells(), *matrix.added_cells()) if _built(cell))
    chosen = [_compared(name, files) for name in dict.fromkeys(names or built)]
    if as_json:
        rows = [{"name": each.name, "ok": not each.problems, "problems": each.problems} for each in chosen]
        output.print_json({"files": files, "cells": rows})
    for each in [] if as_json else chosen:
        what = "as locked, and every file as its RECORD has it" if files else "as locked"
        wrong = f"NOT as locked: {plural(len(each.problems), 'problem')}" if each.problems else ""
        counted = f"{plural(each.pins, 'distribution')} {what}"
        terminal.write_line(f"{each.name}: {wrong or counted}")
        _print_problems(each.problems)
        if each.problems:
            terminal.write_line(
                f"  hint: {each.cure}; files are hard links: see that uv's cache is sound (uv cache clean)"
            )
    if not chosen and not as_json:
        terminal.write_line(f"none is built; `{terminal.program()} env create NAME` builds one")
    return output.NO if any(each.problems for each in chosen) else output.DONE


@dataclass(frozen=True)
class _Compared:
    """An environment beside its lock: how many distributions are pinned, what differs, how to build it again."""

    name: str
    pins: int
    problems: tuple[str, ...]
    cure: str


def _compared(name: str, files: bool) -> _Compared:
    if name != MAIN:
        cell = matrix.cell(name)
        again = f"{terminal.program()} env remove {cell.name} && {terminal.program()} env create {cell.name}"
        return _Compared(cell.name, len(cell.pins), matrix.verify(cell, deep=files), again)
    pins = main_environment.locked_pins()
    if pins is None:
        raise UsageError("env verify main: there is no requirements.lock to compare with", "run from a checkout")
    problems = main_environment.pin_problems(pins) + (main_environment.file_problems() if files else ())
    return _Compared(MAIN, len(pins), problems, "make clean, then make env")


def remove(
    names: Names = None,
    lock: Annotated[bool, typer.Option("--lock", help="Remove the lock of an added cell, too.")] = False,
    as_json: options.Json = False,
) -> int:
    """Remove built cells. Their locks and uv's cache stay, so that building again takes seconds.

    Example: ndrepro env remove torch-1.13.1
    """
    rows = []
    for cell in _cells(names, "remove"):
        place, there = matrix.location(cell), _built(cell)
        if lock:
            add_cell.forget(cell)
        else:
            matrix.remove(cell)
        rows.append({"name": cell.name, "folder": str(place), "removed": there, "lock_removed": lock})
        if not as_json:
            terminal.write_line(f"{cell.name}: {'removed' if there else 'was not built'}{', lock too' if lock else ''}")
    return output.answer({"cells": rows}, (), as_json)


def add(
    name: Name,
    requirements: Annotated[
        list[str], typer.Argument(metavar="NAME=VERSION...", show_default=False, help="E.g. torch=2.3.1 numpy=1.26.4.")
    ],
    python: Annotated[
        str | None, typer.Option("--python", metavar="V", help="Its Python; left out, 3.10 for torch 1, else 3.11.")
    ] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Only these, without what training needs.")] = False,
    as_json: options.Json = False,
) -> int:
    """Resolve a new cell and keep its hashed lock. What training needs is added; the cell is built on first use.

    Example: ndrepro env add torch-2.3.1 torch=2.3.1
    """
    cell = add_cell.add(name, requirements, python=python, bare=bare)
    versions = ", ".join(f"{each} {cell.version(each)}" for each in _VERSIONS if cell.version(each))
    lines = (
        f"{cell.name}: Python {cell.python}, {plural(len(cell.pins), 'pin')}: {versions or '-'}",
        f"lock       {terminal.here(cell.lock)} (sha256 {cell.digest[:12]})",
        f"next       {terminal.program()} run --env {cell.name}, or env create {cell.name}",
    )
    return output.answer(_document(cell, added=True), lines, as_json)


def _cells(names: list[str] | None, verb: str) -> list[Cell]:
    from ndrepro.execution.environments.matrix import cell

    if not names:
        raise UsageError(f"env {verb}: no cell is named", f"e.g. `{terminal.program()} env {verb} torch-2.13.0`")
    return [cell(name) for name in dict.fromkeys(names)]


def _built(cell: Cell) -> bool:
    return Path(location(cell), "bin", "python").exists()


def _document(cell: Cell, added: bool) -> dict[str, Any]:
    return {
        "name": cell.name,
        "python": cell.python,
        "lock": str(cell.lock),
        "lock_sha256": cell.digest,
        "added_here": added,
        "built": _built(cell),
        "folder": str(location(cell)),
        "pins": {pin.name: pin.version for pin in cell.pins},
    }


def _print_problems(problems: tuple[str, ...]) -> None:
    terminal.write_some([f"  {problem}" for problem in problems], 20, "  and {} more (--json has them)")
