"""Claims come out, or do not, and it is told which; a changed cell makes a claim fail."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

from ndrepro.analysis.audit import audit_text
from ndrepro.analysis.audit.audit import (
    CONTRADICTED,
    NOT,
    OTHERWISE,
    REDERIVES,
    UNCHECKABLE,
    Audit,
    agrees,
    audit,
    half_unit,
)
from ndrepro.analysis.audit.published_tables import claims_document, published_folder, read_table, table_specs
from ndrepro.protocol.errors import UsageError

CLAIMS = """
title = "A small paper"
[papers]
small = "Small, 2026"
[tables.raw]
file = "raw.csv"
title = "Runs"
source = "its archive"
keys = ["net", "seed"]
[tables.raw.columns]
net = { kind = "text", meaning = "network" }
seed = { kind = "whole", meaning = "seed" }
score = { kind = "number", decimals = 1, minimum = 0, maximum = 100, role = "accuracy", meaning = "accuracy" }
[tables.means]
file = "means.csv"
title = "Table 1"
source = "Table 1"
keys = ["net"]
[tables.means.columns]
net = { kind = "text", meaning = "network" }
mean = { kind = "number", decimals = 1, role = "mean", meaning = "mean accuracy" }
[derived]
per_net = "SELECT net, avg(score) AS mean, stddev_pop(score) AS low, stddev_samp(score) AS high FROM raw GROUP BY net"
[[claims]]
name = "best"
paper = "small"
place = "Table 1"
text = "the best mean is 92.0"
claimed = "92.0"
definition = "largest mean"
query = "SELECT max(mean) FROM means"
raw = "SELECT max(mean) FROM per_net"
[[claims]]
name = "spread"
paper = "small"
place = "text"
text = "the spread of a is 2.0"
claimed = "2.0"
definition = "with n"
query = "SELECT low FROM per_net WHERE net = 'a'"
[[claims.otherwise]]
definition = "with n - 1"
query = "SELECT high FROM per_net WHERE net = 'a'"
[[claims]]
name = "gap"
paper = "small"
place = "text"
text = "b is better by 5 points"
claimed = "5"
query = "SELECT b.mean - a.mean FROM means AS a, means AS b WHERE a.net = 'a' AND b.net = 'b'"
[[claims]]
name = "data"
paper = "small"
place = "text"
text = "trained on 7 machines"
claimed = "7"
missing = "no table of machines"
[[claims]]
name = "nothing"
paper = "small"
place = "text"
text = "the mean of c"
claimed = "1.0"
query = "SELECT avg(mean) FROM means WHERE net = 'c'"
[[crosschecks]]
name = "table-1"
text = "Table 1"
printed = "means"
column = "mean"
raw = "raw"
values = "score"
row = "net"
heads = []
replicate = "seed"
[[suspicions]]
name = "perfect"
text = "scores of 100"
rows = "SELECT net, seed FROM raw WHERE score = 100"
"""
RAW = "net,seed,score\na,1,88.0\na,2,90.0\na,3,92.0\nb,1,91.0\nb,2,93.0\nb,3,92.0\n"
MEANS = "net,mean\na,90.0\nb,92.0\n"


def check(folder: Path, claims: str = CLAIMS, raw: str = RAW, means: str = MEANS) -> Audit:
    for name, text in (("claims.toml", claims), ("raw.csv", raw), ("means.csv", means)):
        (folder / name).write_text(text, encoding="utf-8")
    return audit(folder / "claims.toml")


def statuses(found: Audit) -> dict[str, str]:
    return {finding.claim.name: finding.status for finding in found.claims}


@pytest.fixture(scope="module")
def published() -> Audit:
    return audit(published_folder() / "claims.toml")


def test_each_claim_gets_its_status(tmp_path: Path) -> None:
    found = check(tmp_path)
    assert statuses(found) == {
        "best": REDERIVES, "spread": OTHERWISE, "gap": NOT, "data": UNCHECKABLE, "nothing": UNCHECKABLE
    }  # fmt: skip
    assert found.counts == {REDERIVES: 1, CONTRADICTED: 0, OTHERWISE: 1, NOT: 1, UNCHECKABLE: 2} and not found.holds
    assert found.crosschecks[0].agrees and found.suspicions[0].rows == () and found.without_spread == ("means",)


def test_a_changed_cell_makes_the_claim_fail_and_the_table_differ(tmp_path: Path) -> None:
    assert statuses(check(tmp_path))["best"] == REDERIVES
    found = check(tmp_path, means=MEANS.replace("92.0", "97.0"))
    best = next(finding for finding in found.claims if finding.claim.name == "best")
    assert best.status == NOT and best.table is not None and best.table.value == 97.0
    assert [cell.row for cell in found.crosschecks[0].heads[0].cells] == ["b"]


def test_what_the_raw_data_contradict_does_not_re_derive(tmp_path: Path) -> None:
    assert check(tmp_path).claims[0].status == REDERIVES, "the control"
    found = check(tmp_path, raw=RAW.replace("b,1,91.0", "b,1,81.0"))
    best = found.claims[0]
    assert best.status == CONTRADICTED and best.table is not None and best.table.agrees
    assert found.counts[REDERIVES] == 0 and not found.holds
    # raw data that give no value contradict nothing
    without = check(
        tmp_path, claims=CLAIMS.replace("SELECT max(mean) FROM per_net", "SELECT max(mean) / 0 FROM per_net")
    )
    assert without.claims[0].status == REDERIVES and without.claims[0].raw is not None and without.claims[0].raw.problem
    assert "from the raw data: 90.000, which is not what is claimed" in list(audit_text.outcome(best))


def test_suspicious_rows_are_listed(tmp_path: Path) -> None:
    found = check(tmp_path, raw=RAW.replace("b,2,93.0", "b,2,100.0"))
    assert found.suspicions[0].rows == ({"net": "b", "seed": 2},)


def test_an_audit_in_words_and_json(tmp_path: Path) -> None:
    found = check(tmp_path)
    document = json.loads(json.dumps(found.to_json()))
    assert document["claims"][1]["otherwise"][0]["agrees"] is True and document["counts"][NOT] == 1
    text = audit_text.markdown(found)
    assert (
        "| the spread of a is 2.0 | small, text | 2.0 | recomputes to: 1.633 (with n); otherwise: 2.000, which is"
        in text
    )
    assert "* Table 1: all 2 cells agree." in text and "Means without a spread: means." in text


@pytest.mark.parametrize(
    ("claimed", "value", "relation", "answer"),
    [
        ("0.23", 0.2277, "=", True),
        ("0.23", 0.2349, "=", True),
        ("0.23", 0.2351, "=", False),
        ("116", 116, "=", True),
        ("116", 116.4, "=", False),
        ("7000", 7000.0, ">=", True),
        ("7000", 7000.0, ">", False),
        ("a", "a", "=", True),
        ("a", 1, "=", False),
        (True, True, "=", True),
        (True, 1, "=", False),
        (("1.0", "2.0"), [1.04, 1.96], "=", True),
        (("1.0", "2.0"), [1.04], "=", False),
        (("1.0", "2.0"), [1.06, 1.96], "=", False),
    ],
)
def test_agreement_is_to_the_digits_printed(claimed: object, value: object, relation: str, answer: bool) -> None:
    assert agrees(claimed, value, relation) is answer  # type: ignore[arg-type]


def test_half_a_unit_of_the_last_digit() -> None:
    assert [half_unit(text) for text in ("0.23", "92.0", "116")] == [0.005, 0.05, 0.0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(mean) FROM means", "(mean) FROM mean", "claim best: `SELECT max(mean) FROM mean`: no such table: mean"),
        ("(mean) FROM means", "(men) FROM means", "claim best: `SELECT max(men) FROM means`: no such column: men"),
        (
            "max(mean) FROM means",
            "most(mean) FROM means",
            "claim best: `SELECT most(mean) FROM means`: no such function",
        ),
        ('claimed = "92.0"', "claimed = 92.0", "claim best: claimed is 92.0"),
        ('paper = "small"', 'paper = "large"', "claim best: no paper 'large'"),
        ('name = "best"', 'name = "gap"', "two entries are called 'gap'"),
        ('missing = "no table of machines"', "", "claim data: needs a query"),
        ('place = "Table 1"', 'palce = "Table 1"', "claim best: unknown key 'palce'"),
        ('text = "the best mean is 92.0"', "", "claim best: 'text' is missing"),
        ('printed = "means"', 'printed = "mean"', "crosscheck table-1: no table 'mean'"),
        ('values = "score"', 'values = "scores"', "crosscheck table-1: 'raw' has no column 'scores'"),
        (
            "SELECT net, seed FROM raw",
            "DELETE FROM raw",
            "suspicion perfect: `DELETE FROM raw WHERE score = 100`: not auth",
        ),
        ('per_net = "SELECT', 'per_net = "SELEKT', "derived.per_net: `SELEKT"),
        ('claimed = "92.0"', 'claimed = "92.0"\nrelation = "~"', "claim best: relation is '~'"),
    ],
)
def test_a_claims_file_that_is_wrong_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CLAIMS
    with pytest.raises(UsageError) as caught:
        check(tmp_path, claims=CLAIMS.replace(old, new, 1))
    assert said in caught.value.message and caught.value.cure


def value(found: Audit, name: str) -> list[object]:
    """What comes out of a claim: as the paper says, then under each other definition."""
    (finding,) = (finding for finding in found.claims if finding.claim.name == name)
    first = finding.table or finding.raw
    assert first is not None
    return [first.value, *(other.value for other in finding.others)]


def test_the_published_claims_come_out_as_they_do(published: Audit) -> None:
    assert value(published, "within-ten-percent") == [105, 118, 117, 72, 91]
    assert value(published, "within-not-better")[:2] == [22, 35] and value(published, "better") == [83, 81]
    assert value(published, "worse-by-more-than-ten-percent") == [29, 16, 17]
    assert value(published, "better-imagenet") == [11, 9]
    low, high = value(published, "deviation-cifar10")
    assert low == pytest.approx([0, 0.152], abs=5e-4) and high == pytest.approx([0, 0.228], abs=5e-4)  # type: ignore[comparison-overlap]
    low, high = value(published, "deviation-cifar100")
    assert low == pytest.approx([0, 0.070], abs=5e-4) and high == pytest.approx([0, 0.105], abs=5e-4)  # type: ignore[comparison-overlap]
    assert value(published, "more-time")[1] == pytest.approx([2, 358], abs=0.5)
    assert published.counts == {REDERIVES: 20, CONTRADICTED: 2, OTHERWISE: 6, NOT: 8, UNCHECKABLE: 6}
    assert {finding.claim.name for finding in published.claims if finding.status == CONTRADICTED} == {
        "always-slower", "shortest-gap-cifar100",
    }  # fmt: skip


def test_training_accuracy_reported_as_test_is_suspected(published: Audit) -> None:
    rows = {found.suspicion.name: found.rows for found in published.suspicions}
    assert {(row["dataset"], row["epochs"]) for row in rows["above-best-known"]} == {
        ("cifar10", 100), ("cifar100", 100), ("cifar100", 20),
    }  # fmt: skip
    assert [row["architecture"] for row in rows["not-what-its-name-says"]] == ["resnet18d", "efficientnet"]


def test_a_work_outside_the_studies_is_audited_too() -> None:
    """scikit-learn's printed summary of Fisher's irises is that of UCI's copy, not of the irises that it ships."""
    found = audit(published_folder() / "iris" / "claims.toml")
    assert statuses(found) == {
        "ranges": REDERIVES, "balanced": REDERIVES, "means": OTHERWISE, "standard-deviations": OTHERWISE,
        "correlations": OTHERWISE,
    }  # fmt: skip
    means = next(finding for finding in found.claims if finding.claim.name == "means")
    assert "recomputes to: 5.8433, 3.0573, 3.7580, 1.1993, 3 of 4 as claimed" in next(audit_text.outcome(means))


def test_the_irises_and_their_summary_are_those_that_scikit_learn_ships() -> None:
    spec = importlib.util.find_spec("sklearn")  # its files only: importing it takes seconds
    assert spec is not None and spec.submodule_search_locations
    shipped = Path(spec.submodule_search_locations[0]) / "datasets"
    claims = published_folder() / "iris" / "claims.toml"
    tables = {name: read_table(table) for name, table in table_specs(claims_document(claims), claims).items()}
    with (shipped / "data" / "iris.csv").open(encoding="utf-8") as stream:
        rows = [[float(cell) for cell in row] for row in list(csv.reader(stream))[1:]]
    columns = ("sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm", "class_number")
    assert [list(row) for row in tables["flowers"].keys(columns)] == rows
    printed = (shipped / "descr" / "iris.rst").read_text(encoding="utf-8")
    for row in tables["summary"].rows():
        (line,) = re.findall(rf"{row['attribute'].replace('_', ' ')}:\s+([-\d. ]+)", printed)
        assert [float(word) for word in line.split()] == list(row.values())[1:]


def test_one_changed_published_cell_changes_the_audit(tmp_path: Path, published: Audit) -> None:
    folder = tmp_path / "published"
    shutil.copytree(published_folder(), folder)
    table = folder / "tables4_5_printed.csv"
    text = table.read_text(encoding="utf-8")
    assert "vgg16,cifar10,nd,1,74.18,74.20,green" in text
    table.write_text(text.replace("74.18,74.20", "74.18,24.20"), encoding="utf-8")
    found = audit(folder / "claims.toml")
    assert value(found, "better-cifar10") == [35] and value(published, "better-cifar10") == [36]
    assert statuses(found)["better-cifar10"] == NOT and statuses(published)["better-cifar10"] == REDERIVES
    assert found.crosschecks[0].differing == published.crosschecks[0].differing + 1
