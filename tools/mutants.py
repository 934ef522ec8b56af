"""Mutation testing of what verification and statistics rest on: does a test fail when the code is wrong?

    python tools/mutants.py                                   # every module of TARGETS: hours
    python tools/mutants.py canonical_json trust dsse         # these modules
    python tools/mutants.py dsse --lines 290-330              # only mutants of these lines

Each mutant differs from the module in one place: a comparison, a boolean, an arithmetic operator, a number, a truth
value, a condition or a returned value. It is written into a temporary copy of the tree, and the module's own tests run
there, in one process. A mutant survives when they all pass; then a test is missing, or the mutant is equivalent: it
computes the same, or differs in nothing that is promised. Those are listed with the reason in tools/mutants.toml, keyed
by function and change, so that an edit elsewhere in the file leaves them valid. Exit 0 if every survivor is listed, 1
if one is not, 2 for wrong usage or tests that fail without a mutation.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_ATTESTATION, _STATISTICS = "tests/provenance/attestation", "tests/analysis/statistics"

# module -> the tests that must fail for it
TARGETS: dict[str, tuple[str, ...]] = {
    "provenance/formats/canonical_json.py": ("tests/provenance/formats/test_canonical_json.py",),
    "provenance/attestation/trust.py": (f"{_ATTESTATION}/test_trust.py",),
    "provenance/attestation/dsse.py": (f"{_ATTESTATION}/test_dsse.py",),
    "provenance/attestation/key_home.py": (f"{_ATTESTATION}/test_key_home.py",),
    **{
        f"provenance/{name}.py": (f"{_ATTESTATION}/test_ledger.py", "tests/attacks/keys/test_ledger.py")
        for name in ("attestation/ledger", "ledger_entries/audit", "ledger_entries/entry", "ledger_entries/summary")
    },
    **{f"provenance/attestation/{name}.py": (f"{_ATTESTATION}/test_verify.py",) for name in ("verdict", "verify")},
    **{
        f"ndrepro/analysis/statistics/{name}.py": tuple(f"{_STATISTICS}/test_{test}.py" for test in tests)
        for name, tests in {
            "anova": ("anova",),
            "differences": ("differences",),
            "equivalence": ("differences", "paired"),
            "intervals": ("intervals",),
            "paired": ("paired",),
            "power": ("differences", "paired"),
            "rankings": ("rankings",),
            "reml": ("reml",),
            "samples": ("intervals", "differences"),
        }.items()
    },
}
_COPIED = ("provenance", "ndrepro", "tests", "tools", "published", "studies", "environments", "pyproject.toml")
# at least this long, and so many times what the unchanged module's tests take: an endless loop is a killed mutant
_TIMEOUT_SECONDS, _TIMEOUT_FACTOR = 60.0, 5.0

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}

# from a module down to a node: the fields, with an index where a field is a list
TreePath = tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Mutant:
    """One change: the line and the function it is in, the expression before and after, and the whole module's text."""

    line: int
    where: str
    change: str
    text: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    sites = [(path, where) for path, where in _sites(tree, (), "") if not _of_types_only(tree, path)]
    for path, where in sorted(sites, key=lambda site: _at(tree, site[0]).lineno):
        for number in range(_count(_at(tree, path))):
            changed = copy.deepcopy(tree)
            node = _at(changed, path)
            before = ast.unparse(node)
            new = _mutated(node, number)
            _put(changed, path, new)
            change = f"{_short(before)} -> {_short(ast.unparse(new))}"
            yield Mutant(_at(tree, path).lineno, where, change, ast.unparse(ast.fix_missing_locations(changed)))


def _sites(node: ast.AST, path: TreePath, where: str) -> Iterator[tuple[TreePath, str]]:
    """The paths of nodes that can be changed, each with the qualified name of its function; no annotations."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        where = f"{where}.{node.name}".lstrip(".")
    if _count(node):
        yield path, where
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _sites(item, (*path, (name, index)), where)
        elif isinstance(value, ast.AST):
            yield from _sites(value, (*path, (name, None)), where)


def _of_types_only(tree: ast.AST, path: TreePath) -> bool:
    """Whether the place is in ``if TYPE_CHECKING`` or in a module's alias of a type."""
    nodes = [_at(tree, path[:length]) for length in range(1, len(path) + 1)]
    guarded = any(isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) for node in nodes)
    return guarded or (isinstance(nodes[0], ast.Assign) and isinstance(_at(tree, path), ast.BinOp) and len(path) == 2)


def _count(node: ast.AST) -> int:
    """How many mutants a node gives."""
    if isinstance(node, ast.Compare):
        return len(node.ops)
    if isinstance(node, ast.BoolOp):
        return 1
    if isinstance(node, ast.BinOp | ast.AugAssign):
        return int(type(node.op) in _SWAPS)
    if isinstance(node, ast.UnaryOp):
        return int(isinstance(node.op, ast.Not))
    if isinstance(node, ast.Constant):
        return int(isinstance(node.value, bool | int | float))
    if isinstance(node, ast.Return):
        return int(node.value is not None and not _is_none(node.value))
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return int(not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant))
    return 0


def _mutated(node: ast.AST, number: int) -> ast.AST:
    """The node with its ``number``-th change made."""
    if isinstance(node, ast.Compare):
        node.ops[number] = _SWAPS[type(node.ops[number])]()  # type: ignore[call-overload]
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign):
        node.op = _SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.UnaryOp):
        return node.operand
    elif isinstance(node, ast.Constant):
        assert isinstance(node.value, bool | int | float)
        return ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _at(tree: ast.AST, path: TreePath) -> Any:
    """The node at that path; every one that gives a mutant has a line."""
    node: Any = tree
    for name, index in path:
        value = getattr(node, name)
        node = value if index is None else value[index]
    return node


def _put(tree: ast.AST, path: TreePath, new: ast.AST) -> None:
    (name, index), parent = path[-1], _at(tree, path[:-1])
    if index is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[index] = new


def _short(text: str) -> str:
    line = text.splitlines()[0]
    return line if len(line) <= 100 else line[:97] + "..."


def known_survivors() -> dict[tuple[str, str, str], str]:
    """The reasons of tools/mutants.toml by file, function and change."""
    document = tomllib.loads((ROOT / "tools" / "mutants.toml").read_text(encoding="utf-8"))
    return {(item["file"], item["where"], item["change"]): item["reason"] for item in document["survivor"]}


def passes(tree: Path, tests: Sequence[str], timeout: float) -> bool:
    """Whether the tests pass in that copy of the tree, in time."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *tests]
    variables = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "CI": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=variables, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survivors(file: str, tree: Path, lines: range) -> Iterator[Mutant]:
    """The mutants of ``file`` on ``lines`` that its tests let pass, as they are found; a summary at the end."""
    tests, source = TARGETS[file], (ROOT / file).read_text(encoding="utf-8")
    began = time.monotonic()
    # the control is spelled as the mutants are: what differs is the change alone
    (tree / file).write_text(ast.unparse(ast.parse(source)), encoding="utf-8")
    if not passes(tree, tests, timeout=3600):
        raise SystemExit(f"error: {file}: its tests fail without a mutation\nhint: mend them first")
    timeout = max(_TIMEOUT_SECONDS, _TIMEOUT_FACTOR * (time.monotonic() - began))
    count = survived = 0
    try:
        for mutant in mutants(source):
            if mutant.line in lines:
                count += 1
                (tree / file).write_text(mutant.text, encoding="utf-8")
                if passes(tree, tests, timeout):
                    survived += 1
                    yield mutant
    finally:
        (tree / file).write_text(source, encoding="utf-8")
    sys.stdout.write(f"{file}: {count} mutants, {survived} survive\n")


def main() -> int:
    """Test the mutants of the modules named on the command line."""
    parser = argparse.ArgumentParser(description="Test what the tests of a module find.")
    parser.add_argument("modules", nargs="*", help="names such as dsse; every module where none is given")
    parser.add_argument("--lines", default="1-100000", metavar="A-B", help="only mutants of these lines")
    arguments = parser.parse_args()
    first, _, last = arguments.lines.partition("-")
    files = [file for file in TARGETS if not arguments.modules or Path(file).stem in arguments.modules]
    if unknown := set(arguments.modules) - {Path(file).stem for file in TARGETS}:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(Path(file).stem for file in TARGETS)}")
    known, unexplained = known_survivors(), 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in _COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, tree / name)
        for file in files:
            for mutant in survivors(file, tree, range(int(first), int(last or first) + 1)):
                reason = known.get((file, mutant.where, mutant.change))
                unexplained += reason is None
                sys.stdout.write(f"{file}:{mutant.line} {mutant.where}: {mutant.change}  [{reason or 'NOT LISTED'}]\n")
                sys.stdout.flush()
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
