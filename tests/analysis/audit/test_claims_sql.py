"""The queries of claims files: what they compute, and what is refused, since such a file may be a stranger's."""

from __future__ import annotations

import math
import sqlite3
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrepro.analysis.audit import claims_sql
from ndrepro.analysis.audit.claims_sql import FUNCTIONS, ClaimsDatabase, Incomputable
from ndrepro.analysis.audit.table import from_rows
from ndrepro.protocol.errors import UsageError

ROWS: list[dict[str, Any]] = [
    {"net": net, "method": method, "seed": seed, "accuracy": accuracy}
    for net, method, seed, accuracy in (
        ("a", "bn", 1, 80.0), ("a", "bn", 2, 82.0), ("a", "nd", 1, 85.0), ("a", "nd", 2, 83.0),
        ("b", "bn", 1, 60.0), ("b", "bn", 2, 64.0), ("b", "nd", 1, 61.0), ("b", "nd", 2, 63.0),
    )
]  # fmt: skip
DATABASE = ClaimsDatabase({"runs": from_rows("runs", ROWS, list(ROWS[0]))})


def of(query: str, like: Any = "") -> Any:
    return DATABASE.value(query, like=like)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("SELECT 1 + 2 * 3 - 4 / 2", 5),
        ("SELECT count(*) FROM runs WHERE method = 'nd' AND accuracy > 62", 3),
        ("SELECT count(DISTINCT net) FROM runs", 2),
        ("SELECT min(accuracy > 59) FROM runs", True),
        ("SELECT max(accuracy) > 90 FROM runs", False),
        ("SELECT min(accuracy), max(accuracy) FROM runs", [60.0, 85.0]),
        ("SELECT max(accuracy) FROM runs GROUP BY net, method ORDER BY net, method", [82.0, 85.0, 64.0, 63.0]),
        (
            "SELECT net FROM runs AS one WHERE accuracy = (SELECT max(accuracy) FROM runs WHERE net = one.net)",
            ["a", "b"],
        ),
        ("WITH nd AS (SELECT * FROM runs WHERE method = 'nd') SELECT sum(accuracy) FROM nd", 292.0),
        (
            "SELECT nd.accuracy - bn.accuracy FROM runs AS nd JOIN runs AS bn USING (net, seed)"
            " WHERE nd.method = 'nd' AND bn.method = 'bn' ORDER BY nd.rowid",
            [5.0, 1.0, 1.0, -1.0],
        ),
        ("SELECT net FROM (SELECT net, row_number() OVER (ORDER BY accuracy) AS n FROM runs) WHERE n = 1", "b"),
        ("SELECT rank() OVER (ORDER BY net) FROM runs ORDER BY rowid", [1, 1, 1, 1, 5, 5, 5, 5]),
        ("SELECT sum(seed) FROM runs", 12),
        ("SELECT avg(accuracy) FROM runs", 72.25),
        ("SELECT median(accuracy) FROM runs", 72.0),
        ("SELECT CASE WHEN count(*) > 3 THEN 'many' ELSE 'few' END FROM runs", "many"),
        ("SELECT truncate(2.679, 2) + truncate(-2.679, 2) + truncate(0.29, 2)", 0.29),
        ("SELECT abs(-1) + sqrt(4) + ln(1) + exp(0) + round(1.4) + coalesce(nullif(1, 1), 2)", 7.0),
    ],
)
def test_it_computes(query: str, value: Any) -> None:
    found = of(query, value)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)
    assert type(found) is type(value)


def test_every_function_is_tried() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in FUNCTIONS if f"{name}(" not in text] == []


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_statistics_are_those_of_the_standard_library_and_of_numpy(pairs: list[tuple[float, float]]) -> None:
    x, y = (list(column) for column in zip(*pairs, strict=True))
    database = ClaimsDatabase({"t": from_rows("t", [{"x": a, "y": b} for a, b in pairs], ["x", "y"])})
    names = ("var_pop(x)", "var_samp(x)", "stddev_pop(x)", "stddev_samp(x)", "avg(x)", "sum(x)")
    found = database.value(f"SELECT {', '.join(names)} FROM t", like=[])
    expected = [np.var(x), np.var(x, ddof=1), np.std(x), np.std(x, ddof=1), statistics.fmean(x), math.fsum(x)]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)
    if len(set(x)) > 1 and len(set(y)) > 1 and np.std(x) > 1e-3 and np.std(y) > 1e-3:
        assert database.value("SELECT corr(x, y) FROM t", like="") == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH 'file.db' AS other",
        "ATTACH ':memory:' AS other",
        "PRAGMA table_info(runs)",
        "PRAGMA writable_schema = 1",
        "SELECT * FROM pragma_table_info('runs')",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM temp.sqlite_master",
        "CREATE TABLE t (x)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE VIRTUAL TABLE t USING fts5(x)",
        "INSERT INTO runs VALUES ('c', 'nd', 1, 99.0)",
        "UPDATE runs SET accuracy = 99",
        "DELETE FROM runs",
        "DROP TABLE runs",
        "VACUUM INTO 'file.db'",
        "BEGIN",
        "SELECT 1; DELETE FROM runs",
        "SELECT load_extension('library.so')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('file', 'x')",
        "SELECT hex(zeroblob(100000000))",
        "SELECT printf('%1000000000d', 1)",
        "SELECT replace(method, 'n', method) FROM runs",
        "SELECT group_concat(net) FROM runs",
        "SELECT random()",
        "SELECT sqlite_version()",
        "SELECT * FROM json_each('[1, 2]')",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "SELECT count(*) FROM runs WHERE \"methd\" = 'nd'",
        "SELECT",
        "",
        "-- nothing",
        "EXPLAIN DELETE FROM runs",
        "SELECT '" + "x" * 5000 + "'",
        "SELECT " + "(" * 500 + "1" + ")" * 500,
        "SELECT 1" + " UNION ALL SELECT 1" * 50,
        "SELECT \ud800",
        "SELECT 1 \0",
    ],
)
def test_it_does_nothing_else(query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = of("SELECT accuracy FROM runs", [])
    with pytest.raises(UsageError) as caught:
        DATABASE.rows(query)
    assert caught.value.cure
    assert of("SELECT accuracy FROM runs", []) == before and list(tmp_path.iterdir()) == []


def test_the_authorizer_is_what_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without it these statements run."""
    database = ClaimsDatabase({"runs": from_rows("runs", ROWS, list(ROWS[0]))})
    monkeypatch.setattr(database, "_allows", lambda *_: sqlite3.SQLITE_OK)
    assert database.value("SELECT name FROM sqlite_master", like="") == "runs"
    assert database.value("SELECT group_concat(DISTINCT net) FROM runs", like="") == "a,b"
    with pytest.raises(UsageError, match="is no query"):
        database.rows("DELETE FROM runs")
    assert database.value("SELECT count(*) FROM runs", like="") == 0


def test_a_query_without_end_is_stopped_by_its_steps_and_a_long_one_is_not() -> None:
    crossed = ", ".join(f"runs AS r{number}" for number in range(12))
    with pytest.raises(UsageError, match="interrupted"):
        of(f"SELECT count(*) FROM {crossed}")
    assert of("SELECT count(*) FROM runs AS a, runs AS b, runs AS c, runs AS d, runs AS e") == 8**5


def test_results_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_sql, "MAX_ROWS", 63)
    with pytest.raises(UsageError, match="more than 63 rows"):
        of("SELECT a.net FROM runs AS a, runs AS b")


def test_what_was_derived_is_a_table_and_nothing_else_is_kept() -> None:
    database = ClaimsDatabase({"runs": from_rows("runs", ROWS, list(ROWS[0]))})
    database.derive("best", "SELECT net, max(accuracy) AS most FROM runs GROUP BY net")
    assert database.rows("SELECT * FROM best ORDER BY net") == (["net", "most"], [("a", 85.0), ("b", 64.0)])
    for name, query in (("runs", "SELECT 1 AS x"), ("twice", "SELECT 1 AS x, 2 AS x"), ("no", "DELETE FROM runs")):
        with pytest.raises(UsageError):
            database.derive(name, query)
    with pytest.raises(UsageError):
        database.rows('CREATE TABLE "best" ("net" , "most" )')


@given(st.text(max_size=40))
@settings(deadline=None)
def test_whatever_is_written_is_computed_or_refused(text: str) -> None:
    for query in (text, f"SELECT {text}", f"SELECT count(*) FROM runs WHERE {text}"):
        try:
            of(query)
        except (UsageError, Incomputable) as error:
            assert error.cure


@pytest.mark.parametrize(
    ("query", "said", "cure"),
    [
        ("SELECT count(*) FROM run", "no such table: run", "did you mean runs?"),
        ("SELECT acuracy FROM runs", "no such column: acuracy", "did you mean accuracy?"),
        ("SELECT one.acuracy FROM runs AS one", "no such column: one.acuracy", "did you mean accuracy?"),
        ("SELECT medain(accuracy) FROM runs", "no such function: medain", "did you mean median"),
        ('SELECT net FROM runs WHERE method = "nd"', "a double quote", "'cifar10'"),
        ("SELECT upper(net) FROM runs", "not authorized to use function: upper", "docs/how-to/auditing.md"),
    ],
)
def test_what_is_wrong_is_named(query: str, said: str, cure: str) -> None:
    with pytest.raises(UsageError) as caught:
        of(query)
    assert said in caught.value.message and cure in caught.value.cure


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 / 0",
        "SELECT 1.0 / 0",
        "SELECT avg(accuracy) FROM runs WHERE seed = 9",
        "SELECT net FROM runs WHERE seed = 9",
        "SELECT DISTINCT net FROM runs",
        "SELECT stddev_samp(accuracy) FROM runs WHERE net = 'a' AND method = 'nd' AND seed = 1",
        "SELECT corr(1, accuracy) FROM runs",
        "SELECT ln(0)",
        "SELECT sqrt(-1)",
        "SELECT exp(1000)",
        "SELECT sum(1e308 * accuracy) FROM runs",
    ],
)
def test_data_that_give_no_value_are_told_from_a_wrong_query(query: str) -> None:
    with pytest.raises(Incomputable) as caught:
        of(query)
    assert caught.value.cure


def test_a_value_takes_the_form_of_what_is_claimed() -> None:
    assert of("SELECT 1", True) is True and of("SELECT 1", "1") == 1 and of("SELECT 1", ("1",)) == [1]
    assert of("SELECT 2", True) == 2, "no yes and no no"
