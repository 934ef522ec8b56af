"""``ndrepro sensitivity``: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from compared_runs import TENSORS, account, parted, put, records_of, sign_pair_member
from recorded_runs import Answer

from ndrepro.protocol.experiment.experiment import Experiment

Run = Callable[..., Answer]


@pytest.fixture
def study(tmp_path: Path, own_home: Path) -> Path:
    """Three seeds under one and two threads; the folder of runs."""
    for threads in ("1", "2"):
        for seed in range(3):
            row = {"epoch": 2, "step": 12, "train_accuracy": 0.9, "train_loss": 1.0, "test_loss": 1.0}
            row["learning_rate"] = 0.1
            row["test_accuracy"] = 0.8 + 0.01 * seed * int(threads)
            found = account(put("byproducts", {"metrics summary": {"epochs": 2, "last": row}}))
            settings = {"threads": threads, "seed": str(seed)}
            found["experiment"] = Experiment.from_name("lenet_bn_2_digits", settings)
            table = records_of(found, 8)
            table = table if threads == "1" else parted(table, 3, [0], 1e-7)
            sign_pair_member(tmp_path, f"{seed}-{threads}", found, table, home=own_home, tensors=TENSORS)
    return tmp_path / "runs"


def test_it_prints_tables_and_writes_files(study: Path, tmp_path: Path, ndrepro: Run) -> None:
    answer = ndrepro("sensitivity", str(study), "-o", str(tmp_path / "out"))
    assert answer.code == 0, answer.err
    assert "2 groups of equal bits: reference | threads=2" in answer.out and "diverge at step" in answer.out
    assert "compared with reference: threads 1" in " ".join(answer.out.split())
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sensitivity.md", "sensitivity.json", "agreement.svg", "divergence.png"} <= written
    assert json.loads((tmp_path / "out" / "sensitivity.json").read_text())["reference"] == "reference"


def test_json_holds_the_same(study: Path, ndrepro: Run) -> None:
    answer = ndrepro("sensitivity", str(study), "--json", "--margin", "5")
    assert answer.code == 0 and answer.json["margin"] == 5
    assert answer.json["bits"][0]["pairs"][0]["steps"] == [3, 3, 3]


def test_a_refused_manifest_is_said_and_leaves_another_code(study: Path, ndrepro: Run) -> None:
    manifest = next(study.glob("*/0-1/manifest.dsse.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    answer = ndrepro("sensitivity", "--runs", str(study))
    assert answer.code == 1 and "1 were refused" in answer.out and "signature" in answer.out


def test_a_file_is_no_folder_to_write_into_and_stays_as_it_is(study: Path, tmp_path: Path, ndrepro: Run) -> None:
    file = tmp_path / "thesis.tex"
    file.write_text("years of work", encoding="utf-8")
    answer, report = (ndrepro(command, str(study), "-o", str(file)) for command in ("sensitivity", "report"))
    assert answer.code == report.code == 2 and file.read_text(encoding="utf-8") == "years of work"
    assert "a file, expected a folder" in answer.err and answer.err == report.err


def test_nothing_of_a_stranger_s_folder_becomes_part_of_the_page(study: Path, tmp_path: Path, ndrepro: Run) -> None:
    folder = next(study.glob("*/0-1"))
    folder = folder.rename(folder.with_name("<img src=x onerror=alert(1)>"))
    manifest = folder / "manifest.dsse.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    ndrepro("sensitivity", str(study), "-o", str(tmp_path / "out"))
    page = (tmp_path / "out" / "sensitivity.md").read_text(encoding="utf-8")
    assert "\\<img src=x" in page and "<img" not in page.replace("\\<img", "")
    assert "![agreement](agreement.svg)" in page, "a control: what is ours still works"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contrast", "nd"], "expected two methods"),
        (["--contrast", "nd:bn"], "no run has the method 'nd'"),
        (["--reference", "threads"], "expected AXIS=VALUE"),
        (["--metric", "tst_loss"], "did you mean"),
    ],
)
def test_wrong_usage(study: Path, words: list[str], said: str, ndrepro: Run) -> None:
    answer = ndrepro("sensitivity", *words, "--runs", str(study))
    assert answer.code == 2 and said in answer.err


def test_no_runs(tmp_path: Path, ndrepro: Run) -> None:
    answer = ndrepro("sensitivity", str(tmp_path / "work"))
    assert answer.code == 3 and "no verified, completed runs" in answer.err
