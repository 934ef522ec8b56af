"""A small language for computing with tables: Python's arithmetic and comparisons, and a list of functions.

    count(where(printed, dataset == "cifar10" and reproduced > original))
    max(group(attempts, "net", "epochs", spread=std(accuracy, 1)).spread)

A word is a table, or, inside a function that works on the rows of a table, one of its columns; ``table.column`` is
that column anywhere. ``and``, ``or``, ``not`` and comparisons of columns work row by row. Strings name columns where a
function asks for them, and are text elsewhere. ``rows`` is the table that a function is working on, in ``group`` the
rows of one group. There is nothing else: no assignment, no loop, no attribute of
anything but a table, no function beyond FUNCTIONS; an expression cannot read a file, run code or take long (the text,
the number of its parts, and powers are limited). So a claims file of a stranger can be evaluated.

What is wrong with the expression is a UsageError with the place in it; what the data do not allow (a division by
zero, several values where one was asked for) is Incomputable.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ndrepro.analysis.audit import replication_colours
from ndrepro.analysis.audit.table import Table, from_rows, nearest, stack
from ndrepro.protocol.errors import NdreproError, UsageError

ROWS = "rows"
MAX_CHARACTERS, MAX_PARTS, MAX_EXPONENT, MAX_ROWS = 2000, 400, 64, 1_000_000

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class Incomputable(NdreproError):
    """An expression that is right, over data that give it no value."""


def evaluate(text: str, tables: Mapping[str, Table]) -> Any:
    """The value of an expression: a yes or no, a number, a text, a list of them, a column, or a table.

    Raises UsageError for what is no expression of this language, Incomputable for one that has no value here.
    """
    try:
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            return _Evaluation(text, tables).value(parse(text), ())
    except (ZeroDivisionError, FloatingPointError, OverflowError) as error:
        raise Incomputable(f"`{short(text)}`: {error}", "look at the rows that it divides by") from None


def parse(text: str) -> ast.expr:
    """The expression's tree. Raises UsageError for what is no expression, or too long a one."""
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"an expression of {len(text)} characters", f"at most {MAX_CHARACTERS}: define parts of it")
    try:
        tree = ast.parse(f"({text.strip()}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        raise UsageError(f"`{short(text)}` is no expression: {what}", "docs/auditing.md has the language") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_PARTS:
        raise UsageError(f"`{short(text)}` has more than {MAX_PARTS} parts", "define parts of it under [derived]")
    return tree


class _Evaluation:
    """One expression over some tables. A scope is the tables whose columns can be named bare, the innermost last."""

    def __init__(self, text: str, tables: Mapping[str, Table]) -> None:
        self.text = text
        self.tables = tables

    def value(self, node: ast.expr, scope: tuple[Table, ...]) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise self.wrong(node, f"{type(node).__name__} is not part of this language", "docs/auditing.md has it")
        return method(node, scope)

    def wrong(self, node: ast.AST, message: str, cure: str) -> UsageError:
        return UsageError(f"`{short(self.text)}`, {_place(node)}: {message}", cure)

    def _constant(self, node: ast.Constant, scope: tuple[Table, ...]) -> Any:
        if isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise self.wrong(node, f"{node.value!r} is no number and no text", "numbers, texts, True and False")

    def _name(self, node: ast.Name, scope: tuple[Table, ...]) -> Any:
        if node.id == ROWS and scope:
            return scope[-1]
        for table in reversed(scope):
            if node.id in table.columns:
                return table[node.id]
        if node.id in self.tables:
            return self.tables[node.id]
        known = [*self.tables, *(name for table in scope for name in table.columns)]
        raise self.wrong(node, f"no table or column '{node.id}'", nearest(node.id, known))

    def _attribute(self, node: ast.Attribute, scope: tuple[Table, ...]) -> Any:
        return self.table(node.value, scope)[node.attr]

    def _list(self, node: ast.List, scope: tuple[Table, ...]) -> list[Any]:
        return [plain(self.value(item, scope)) for item in node.elts]

    def _unaryop(self, node: ast.UnaryOp, scope: tuple[Table, ...]) -> Any:
        operand = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            return self._yes_or_no(operand, node.operand, np.logical_not)
        if isinstance(node.op, (ast.USub, ast.UAdd)):
            return (operator.neg if isinstance(node.op, ast.USub) else operator.pos)(self.number(operand, node))
        raise self.wrong(node, "this sign is not part of the language", "-, + and not")

    def _binop(self, node: ast.BinOp, scope: tuple[Table, ...]) -> Any:
        left, right = (self.number(self.value(side, scope), side) for side in (node.left, node.right))
        if isinstance(node.op, ast.Pow):
            if not isinstance(right, (int, float)) or abs(right) > MAX_EXPONENT:
                raise self.wrong(node.right, "an exponent is one small number", f"at most {MAX_EXPONENT}")
            return np.power(np.asarray(left, dtype=np.float64), float(right))[()]
        if type(node.op) not in _BINARY:
            raise self.wrong(node, "this operator is not part of the language", "+ - * / // % **")
        return self._aligned(node, _BINARY[type(node.op)], left, right)

    def _boolop(self, node: ast.BoolOp, scope: tuple[Table, ...]) -> Any:
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        values = [self._yes_or_no(self.value(item, scope), item, np.asarray) for item in node.values]
        found = values[0]
        for other in values[1:]:
            found = self._aligned(node, join, found, other)
        return found[()]

    def _compare(self, node: ast.Compare, scope: tuple[Table, ...]) -> Any:
        sides = [self.value(side, scope) for side in (node.left, *node.comparators)]
        parts = []
        for how, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if isinstance(left, Table) or isinstance(right, Table):
                raise self.wrong(node, "a table cannot be compared", "name a column of it: table.column")
            parts.append(self._aligned(node, self._one, how, left, right, node))
        found = parts[0]
        for other in parts[1:]:
            found = np.logical_and(found, other)
        return bool(found) if np.ndim(found) == 0 else found

    def _one(self, how: ast.cmpop, left: Any, right: Any, node: ast.Compare) -> Any:
        if (_is_text(left), _is_text(right)) in ((True, False), (False, True)):
            raise self.wrong(node, "a text is compared with a number", "texts stand in quotes, numbers do not")
        if isinstance(how, (ast.In, ast.NotIn)):
            return np.isin(left, right, invert=isinstance(how, ast.NotIn))
        if type(how) not in _COMPARE:
            raise self.wrong(node, "this comparison is not part of the language", "== != < <= > >= in, not in")
        if isinstance(left, list) or isinstance(right, list):
            return _COMPARE[type(how)](plain(left), plain(right))
        return _COMPARE[type(how)](left, right)

    def _call(self, node: ast.Call, scope: tuple[Table, ...]) -> Any:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
            raise self.wrong(node, f"no function '{name}'", nearest(name, FUNCTIONS))
        if any(isinstance(argument, ast.Starred) for argument in node.args) or None in [k.arg for k in node.keywords]:
            raise self.wrong(node, "arguments are written one by one", "without * and **")
        try:
            return FUNCTIONS[node.func.id](self, node, scope)
        except UsageError as error:
            raise UsageError(
                error.message if error.message.startswith("`") else f"`{short(self.text)}`: {error.message}", error.cure
            ) from None
        except (TypeError, ValueError, IndexError) as error:
            raise self.wrong(node, f"{node.func.id}: {error}", "docs/auditing.md says what it takes") from None

    def table(self, node: ast.expr, scope: tuple[Table, ...]) -> Table:
        found = self.value(node, scope)
        if not isinstance(found, Table):
            raise self.wrong(node, f"`{ast.unparse(node)}` is no table", nearest(ast.unparse(node), self.tables))
        return found

    def text_of(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise self.wrong(node, "the name of a column is written in quotes here", 'e.g. "epochs"')

    def number(self, found: Any, node: ast.AST) -> Any:
        """A number or a column of numbers, or an error."""
        array = np.asarray(found) if not isinstance(found, (Table, list)) else np.asarray("")
        if array.dtype.kind not in "biuf":
            raise self.wrong(node, "here a number or a column of numbers is needed", "compare texts with == or in")
        return found

    def arguments(self, node: ast.Call, scope: tuple[Table, ...], low: int, high: int) -> list[Any]:
        if node.keywords or not low <= len(node.args) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            name = ast.unparse(node.func)
            raise self.wrong(
                node, f"{name} takes {wanted} arguments, {len(node.args)} are given", "see docs/auditing.md"
            )
        return [self.value(argument, scope) for argument in node.args]

    def _yes_or_no(self, found: Any, node: ast.expr, then: Callable[[Any], Any]) -> Any:
        array = np.asarray(found) if not isinstance(found, (Table, list)) else np.asarray("")
        if array.dtype != np.bool_:
            raise self.wrong(node, f"`{ast.unparse(node)}` is no comparison", "e.g. epochs == 100")
        return then(array)[()]

    def _aligned(self, node: ast.AST, compute: Callable[..., Any], *values: Any) -> Any:
        try:
            return compute(*values)
        except ValueError:
            raise self.wrong(node, "columns of different lengths", "join the tables, or choose the same rows") from None
        except TypeError:
            raise self.wrong(node, "these cannot be put together", "numbers with numbers, texts with texts") from None


def short(text: str) -> str:
    """An expression on one line, cut after some words."""
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:87]}..."


def _place(node: ast.AST) -> str:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    return (
        f"line {line}, character {column + 1}" if line > 1 else f"character {max(column, 1)}"
    )  # a bracket is before it


def _is_text(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "U"


def plain(found: Any) -> Any:
    """Numpy's numbers and columns as Python's own; a table stays as it is."""
    if isinstance(found, np.ndarray):
        return found.tolist()
    return found.item() if isinstance(found, np.generic) else found


Function = Callable[[_Evaluation, ast.Call, tuple[Table, ...]], Any]


def _where(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """where(table, condition): the rows for which the condition holds."""
    _counted(run, node, 2)
    table = run.table(node.args[0], scope)
    return table.where(run.value(node.args[1], (*scope, table)))


def _count(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> int:
    """count(table), count(table, condition): how many rows."""
    table = run.table(node.args[0], scope) if node.args else None
    if table is None or len(node.args) > 2:
        raise run.wrong(node, "count takes a table, and a condition", "e.g. count(runs, epochs == 100)")
    return len(table) if len(node.args) == 1 else len(_where(run, node, scope))


def _extend(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """extend(table, name=expression, ...): with further columns, computed from those of the row."""
    _counted(run, node, 1, keywords=True)
    table = run.table(node.args[0], scope)
    return table.extend({str(k.arg): run.value(k.value, (*scope, table)) for k in node.keywords})


def _select(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """select(table, "column", ...): these columns."""
    return run.table(node.args[0], scope).select(run.text_of(name) for name in node.args[1:])


def _group(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """group(table, "column", ..., name=expression, ...): one row for each value of the columns."""
    table = run.table(node.args[0], scope)
    keys = [run.text_of(name) for name in node.args[1:]]
    rows = []
    for values, part in table.groups(keys):
        row = dict(zip(keys, values, strict=True))
        for keyword in node.keywords:
            found = plain(run.value(keyword.value, (*scope, part)))
            if isinstance(found, (list, Table)):
                raise run.wrong(keyword.value, f"{keyword.arg} is no single value for each group", "e.g. mean(seconds)")
            row[str(keyword.arg)] = found
        rows.append(row)
    if not rows:
        raise Incomputable(f"`{short(run.text)}`: no rows to group", "look at the condition that chooses them")
    return from_rows(table.name, rows, list(rows[0]))


def _pivot(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """pivot(table, "across", "values"): a column for each value of one column, holding another."""
    _counted(run, node, 3)
    return run.table(node.args[0], scope).pivot(run.text_of(node.args[1]), run.text_of(node.args[2]))


def _join(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """join(table, other, "column", ...): each row with the row of the other table that has the same values there."""
    keys = [run.text_of(name) for name in node.args[2:]]
    return run.table(node.args[0], scope).join(run.table(node.args[1], scope), keys)


def _stack(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Table:
    """stack(table, table, ...): the rows of all, with the columns that all have."""
    tables = [run.table(argument, scope) for argument in node.args]
    if sum(map(len, tables)) > MAX_ROWS:
        raise run.wrong(node, f"a table of more than {MAX_ROWS:,} rows", "choose rows before they are stacked")
    return stack("stack", tables)


def _extreme(choose: Callable[[Any], Any]) -> Function:
    def found(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Any:
        """at_max(table, value, "column"), at_min(...): what the column holds where the value is largest, smallest."""
        _counted(run, node, 3)
        table = run.table(node.args[0], scope)
        values = np.asarray(run.number(run.value(node.args[1], (*scope, table)), node.args[1]))
        if not len(table):
            raise Incomputable(f"`{short(run.text)}`: no rows", "look at the condition that chooses them")
        return plain(table[run.text_of(node.args[2])][int(choose(values))])

    return found


def _sorted(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> list[Any]:
    """order(table, value, "column"): what the column holds, from the smallest value to the largest."""
    _counted(run, node, 3)
    table = run.table(node.args[0], scope)
    values = np.asarray(run.number(run.value(node.args[1], (*scope, table)), node.args[1]))
    return list(plain(table[run.text_of(node.args[2])][np.argsort(values, kind="stable")]))


def _counted(run: _Evaluation, node: ast.Call, wanted: int, *, keywords: bool = False) -> None:
    if len(node.args) != wanted or (node.keywords and not keywords):
        name = ast.unparse(node.func)
        raise run.wrong(node, f"{name} takes {wanted} arguments, {len(node.args)} are given", "see docs/auditing.md")


def _over_values(compute: Callable[..., Any], low: int = 1, high: int = 1) -> Function:
    """A function of columns or numbers, none of them a table; of no values it has none."""

    def found(run: _Evaluation, node: ast.Call, scope: tuple[Table, ...]) -> Any:
        values = run.arguments(node, scope, low, high)
        if any(isinstance(value, Table) for value in values):
            raise run.wrong(node, "this takes columns, not a table", "name a column of it: table.column")
        if np.size(values[0]) == 0:
            raise Incomputable(
                f"`{short(run.text)}`: {ast.unparse(node.func)} of no values", "look at how rows are chosen"
            )
        return compute(*values)

    return found


def _spread(of: Callable[..., Any]) -> Callable[..., float]:
    def found(values: Any, ddof: int = 0) -> float:
        if np.size(values) <= ddof:
            raise Incomputable(f"{np.size(values)} values have no spread with n - {ddof}", "more values are needed")
        return float(of(values, ddof=ddof))

    return found


def _only(values: Any) -> Any:
    distinct = np.unique(np.asarray(values))
    if distinct.size != 1:
        raise Incomputable(f"{distinct.size} different values where one is expected", "choose rows more narrowly")
    return distinct[0].item()


def _truncate(values: Any, digits: int = 0) -> Any:
    scale = 10.0 ** int(digits)
    return np.trunc(np.round(np.asarray(values, dtype=np.float64) * scale, 6)) / scale


FUNCTIONS: Mapping[str, Function] = {
    "where": _where,
    "count": _count,
    "extend": _extend,
    "select": _select,
    "group": _group,
    "pivot": _pivot,
    "join": _join,
    "stack": _stack,
    "at_max": _extreme(np.argmax),
    "at_min": _extreme(np.argmin),
    "order": _sorted,
    "sum": _over_values(np.sum),
    "mean": _over_values(np.mean),
    "median": _over_values(np.median),
    "min": _over_values(np.min),
    "max": _over_values(np.max),
    "std": _over_values(_spread(np.std), 1, 2),
    "var": _over_values(_spread(np.var), 1, 2),
    "correlation": _over_values(lambda x, y: float(np.corrcoef(x, y)[0, 1]), 2, 2),
    "abs": _over_values(np.abs),
    "sqrt": _over_values(np.sqrt),
    "log": _over_values(np.log),
    "exp": _over_values(np.exp),
    "round": _over_values(lambda values, digits=0: np.round(values, int(digits)), 1, 2),
    "truncate": _over_values(_truncate, 1, 2),
    "all": _over_values(lambda values: bool(np.all(values))),
    "any": _over_values(lambda values: bool(np.any(values))),
    "distinct": _over_values(lambda values: int(np.unique(values).size)),
    "values": _over_values(lambda values: list(dict.fromkeys(np.asarray(values).tolist()))),
    "only": _over_values(_only),
    "colours": _over_values(replication_colours.colours, 2, 4),
    "squared_deviation": _over_values(
        lambda attempts, original, ddof=0: replication_colours.squared_deviation(
            attempts, float(_only(original)), int(ddof)
        ),
        2,
        3,
    ),
}


def check_words(text: str, tables: Mapping[str, Any], columns: set[str]) -> None:
    """Raise UsageError where an expression names a table, column or function that there is not, before any data."""
    tree = parse(text)
    named = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        place = f"`{short(text)}`, {_place(node)}"
        if isinstance(node, ast.Name) and id(node) in called:
            if node.id not in FUNCTIONS:
                raise UsageError(f"{place}: no function '{node.id}'", nearest(node.id, FUNCTIONS))
        elif isinstance(node, ast.Name) and node.id not in tables and node.id not in columns | named | {ROWS}:
            raise UsageError(f"{place}: no table or column '{node.id}'", nearest(node.id, [*tables, *sorted(columns)]))
        elif isinstance(node, ast.Attribute) and node.attr not in columns | named:
            raise UsageError(f"{place}: no column '{node.attr}'", nearest(node.attr, sorted(columns)))


def new_columns(text: str) -> set[str]:
    """The columns that an expression makes under a name of its own, and those that it may spread out from values."""
    calls = [node for node in ast.walk(parse(text)) if isinstance(node, ast.Call)]
    return {str(keyword.arg) for call in calls for keyword in call.keywords}
