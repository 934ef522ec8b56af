"""The language of claims files: what it computes, and what it refuses, since such a file may be a stranger's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.analysis.audit.expressions import FUNCTIONS, Incomputable, check_words, evaluate, plain
from ndrepro.analysis.audit.table import from_rows
from ndrepro.protocol.errors import UsageError

ROWS: list[dict[str, Any]] = [
    {"net": net, "method": method, "seed": seed, "accuracy": accuracy}
    for net, method, seed, accuracy in (
        ("a", "bn", 1, 80.0), ("a", "bn", 2, 82.0), ("a", "nd", 1, 85.0), ("a", "nd", 2, 83.0),
        ("b", "bn", 1, 60.0), ("b", "bn", 2, 64.0), ("b", "nd", 1, 61.0), ("b", "nd", 2, 63.0),
    )
]  # fmt: skip
TABLES = {
    "runs": from_rows("runs", ROWS, list(ROWS[0])),
    "sizes": from_rows("sizes", [{"net": "a", "millions": 1.5}, {"net": "b", "millions": 2.5}], ["net", "millions"]),
}


def of(text: str) -> Any:
    return plain(evaluate(text, TABLES))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("-2 ** 2 + 7 // 2 + 7 % 2", 0.0),
        ("count(runs)", 8),
        ('count(runs, method == "nd" and accuracy > 62)', 3),
        ('count(runs, not (method == "nd") or seed == 1)', 6),
        ("count(runs, 61 <= accuracy < 64)", 2),
        ('count(runs, net in ["a", "c"])', 4),
        ('mean(where(runs, net == "a").accuracy)', 82.5),
        ("[min(runs.accuracy), max(runs.accuracy)]", [60.0, 85.0]),
        ('group(runs, "net", "method", best=max(accuracy)).best', [82.0, 85.0, 64.0, 63.0]),
        ('group(runs, "net", top=at_max(rows, accuracy, "method")).top', ["nd", "bn"]),
        ('pivot(runs, "method", "accuracy").nd - pivot(runs, "method", "accuracy").bn', [5.0, 1.0, 1.0, -1.0]),
        ('join(group(runs, "net", n=count(rows)), sizes, "net").millions', [1.5, 2.5]),
        ("count(stack(runs, runs))", 16),
        ('count(select(runs, "net"))', 8),
        ("extend(sizes, half=millions / 2).half", [0.75, 1.25]),
        ('order(sizes, -millions, "net")', ["b", "a"]),
        ('at_min(sizes, millions, "net")', "a"),
        ("std([1, 2, 3, 4])", 1.118033988749895),
        ("var([1, 2, 3], 1)", 1.0),
        ("round(2.675, 1) + truncate(2.679, 2)", 5.37),
        ("correlation([1, 2, 3], [2, 4, 6])", 1.0),
        ("distinct(runs.net)", 2),
        ("values(runs.method)", ["bn", "nd"]),
        ("only([7, 7])", 7),
        ("all([1, 2] == [1, 2])", True),
        ("any(runs.accuracy > 84)", True),
        ("colours([50, 50, 50], [51, 46, 40])", ["green", "black", "red"]),
        ("squared_deviation([90, 70], [90, 90], 1)", 0.04),
        ("median([1, 5, 9]) + sum([1, 2]) + abs(-1) + sqrt(4) + log(1) + exp(0)", 12.0),
        ("count(runs,\n   accuracy > 60\n   and seed == 1)", 3),
    ],
)
def test_it_computes(text: str, value: Any) -> None:
    assert of(text) == pytest.approx(value) if isinstance(value, float) else of(text) == value


def test_every_function_is_tried_above() -> None:
    tried = " ".join(mark.args[1][number][0] for mark in test_it_computes.pytestmark for number in range(31))
    assert [name for name in FUNCTIONS if f"{name}(" not in tried] == []


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "runs.__class__",
        "().__class__.__bases__",
        "(lambda: 1)()",
        "[x for x in runs]",
        "runs[0]",
        "f'{runs}'",
        "eval('1')",
        "count.__globals__",
        "(x := 1)",
        "'a' * 1000000000",
        "9 ** 9 ** 9",
        "10 ** 1000000",
        "b'bytes'",
        "...",
        "1 if True else 2",
        "count(*runs)",
        "count(**runs)",
        "1 << 100000",
        "(" * 300 + ")" * 300,
        "1 + " * 500 + "1",
        "1" * 3000,
        "1; 2",
        "",
        "1)\n+ (2",
        "max((1, 2))",
        "self.tables",
    ],
)
def test_it_does_nothing_else(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        of(text)
    assert caught.value.cure


def test_tables_cannot_be_doubled_without_end() -> None:
    tables = dict(TABLES)
    with pytest.raises(UsageError, match="more than 1,000,000 rows"):
        for _ in range(40):
            tables["runs"] = evaluate("stack(runs, runs)", tables)


@given(st.text(max_size=40))
def test_whatever_is_written_is_computed_or_refused(text: str) -> None:
    try:
        of(text)
    except (UsageError, Incomputable) as error:
        assert error.cure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("count(run)", "`count(run)`, character 7: no table or column 'run'"),
        ("count(runs, acuracy > 1)", "no table or column 'acuracy'"),
        ("runs.acuracy", "table 'runs' has no column 'acuracy'"),
        ("cuont(runs)", "no function 'cuont'"),
        ("count(runs, net == 1)", "a text is compared with a number"),
        ("count(runs, accuracy)", "chosen by a comparison"),
        ("mean(runs)", "this takes columns, not a table"),
        ("runs > 1", "a table cannot be compared"),
        ("runs.net + 1", "a number or a column of numbers is needed"),
        ("runs.accuracy + sizes.millions", "columns of different lengths"),
        ("where(runs)", "where takes 2 arguments, 1 are given"),
        ('pivot(runs, "method", accuracy)', "the name of a column is written in quotes"),
        ('pivot(select(runs, "method", "accuracy"), "method", "accuracy")', "has two values of accuracy for bn"),
        ('pivot(where(runs, net == "a" or method == "bn"), "method", "accuracy")', "has no accuracy for nd at net b"),
        ('join(runs, runs, "net")', "'runs' has net a twice"),
        ('join(runs, where(sizes, net == "a"), "net")', "'sizes' has no row for net b"),
        ('join(sizes, extend(sizes, millions=1), "net")', "both have a column 'millions'"),
        ('group(runs, "net", all=accuracy)', "all is no single value for each group"),
        ("group()", "group:"),
        ("runs.accuracy and True", "`runs.accuracy` is no comparison"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        of(text)
    assert said in caught.value.message and caught.value.cure


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "mean(where(runs, seed == 9).accuracy)",
        "only(runs.net)",
        "std([1], 1)",
        "1e308 * runs.accuracy",
        "log(0)",
    ],
)
def test_data_that_give_no_value_are_told_from_a_wrong_expression(text: str) -> None:
    with pytest.raises(Incomputable) as caught:
        of(text)
    assert caught.value.cure


def test_words_are_checked_before_there_are_data() -> None:
    columns = {"net", "accuracy"}
    check_words('group(runs, "net", spread=std(accuracy)).spread', {"runs": None}, columns)
    for text, said in (
        ("mean(runs.speed)", "no column 'speed'"),
        ("mena(runs.net)", "no function"),
        ("count(r)", "no table"),
    ):
        with pytest.raises(UsageError, match=said):
            check_words(text, {"runs": None}, columns)
