"""Published tables are read strictly: whatever is not as declared is named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndrepro.analysis.audit.published_tables import claims_document, published_tables, read_table, table_specs
from ndrepro.protocol.errors import UsageError
from provenance.errors import NotFoundError

CLAIMS = """
[tables.scores]
file = "scores.csv"
title = "Scores"
source = "a paper"
keys = ["net"]
[tables.scores.columns]
net = { kind = "text", choices = ["a", "b"], meaning = "network" }
runs = { kind = "whole", minimum = 1, meaning = "runs" }
accuracy = { kind = "number", decimals = 1, minimum = 0, maximum = 100, role = "mean", meaning = "accuracy" }
"""
SCORES = "net,runs,accuracy\na,3,90.5\nb,3,91.0\n"


def read(folder: Path, claims: str = CLAIMS, scores: str = SCORES) -> list[dict[str, object]]:
    (folder / "claims.toml").write_text(claims, encoding="utf-8")
    (folder / "scores.csv").write_text(scores, encoding="utf-8")
    path = folder / "claims.toml"
    return list(read_table(table_specs(claims_document(path), path)["scores"]).rows())


def test_the_published_tables_are_whole() -> None:
    tables = published_tables()
    assert {name: len(table) for name, table in tables.items()} == {
        "attempts": 360, "printed": 120, "imagenet": 14, "times": 120, "imagenet_times": 7, "net_sizes": 10,
        "networks": 22, "best_known": 3,
    }  # fmt: skip
    attempts, printed = tables["attempts"].matching(attempt=1), tables["printed"]
    keys = ("architecture", "dataset", "method", "epochs", "original_accuracy_pct")
    assert sorted(attempts.keys(keys)) == sorted(printed.keys(keys)), "the same experiments, the same original values"
    assert len(printed) == 120


def test_what_is_as_declared_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) == [{"net": "a", "runs": 3, "accuracy": 90.5}, {"net": "b", "runs": 3, "accuracy": 91.0}]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("90.5", "ninety", "scores.csv:2: accuracy is 'ninety', expected a number"),
        ("90.5", "nan", "scores.csv:2: accuracy is 'nan', expected a finite number"),
        ("90.5", "905", "scores.csv:2: accuracy is '905', expected a number from 0 to 100"),
        ("90.5", "", "scores.csv:2: accuracy is '', expected a number"),
        ("a,3", "a,3.0", "scores.csv:2: runs is '3.0', expected a whole number"),
        ("a,3", "c,3", "scores.csv:2: net is 'c', expected one of a, b"),
        ("b,3", "a,3", "scores.csv: row 3: net a for the second time"),
        ("b,3,", "b,", "scores.csv:3: 2 cells, the header has 3"),
        ("accuracy", "acc", "scores.csv: no column 'accuracy', which tables.scores declares"),
        ("accuracy\n", "accuracy,note\n", "scores.csv: column 'note' is not declared"),
        (SCORES.partition("\n")[2], "", "scores.csv: has no rows"),
    ],
)
def test_a_table_that_is_not_as_declared_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SCORES
    with pytest.raises(UsageError) as caught:
        read(tmp_path, scores=SCORES.replace(old, new, 1))
    assert said in caught.value.message and caught.value.cure


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "whole"', 'kind = "integer"', "tables.scores.columns.runs.kind is 'integer'"),
        ('role = "mean"', 'role = "average"', "tables.scores.columns.accuracy.role is 'average'"),
        ('meaning = "runs"', 'note = "runs"', "tables.scores.columns.runs: unknown key 'note'"),
        ('source = "a paper"', "", "tables.scores.source is missing or no text"),
        ('keys = ["net"]', 'keys = ["nets"]', "tables.scores.keys: 'nets' is no column of it"),
        ('file = "scores.csv"', 'file = "score.csv"', "score.csv: cannot be read"),
        ('[tables.scores]\n', '[tables.scores\n', "not TOML"),
    ],
)  # fmt: skip
def test_a_declaration_that_is_none_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CLAIMS
    with pytest.raises(UsageError) as caught:
        read(tmp_path, claims=CLAIMS.replace(old, new, 1))
    assert said in caught.value.message and caught.value.cure


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        claims_document(tmp_path / "none.toml")
