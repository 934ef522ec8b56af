"""``ndrepro report`` as people use it: a folder of runs, a study by name, what is missing, what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from real_runs import SMALL
from recorded_runs import Answer, process
from signed_runs import SignedRuns, rows

from ndrepro.protocol.experiment.experiment import Experiment

STUDY = """
title = "two methods"
[settings]
dataset = "digits"
epochs = 1
[grids.main]
axes.method = ["bn", "nd"]
axes.arch = ["lenet"]
axes.seed = [0, 1]
"""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedRuns:
    made = SignedRuns(tmp_path_factory.mktemp("report"))
    for name, seed, test in (
        ("lenet_bn_1_digits", "0", 0.7),
        ("lenet_nd_1_digits", "0", 0.8),
        ("mlp512_nd_1", "0", 0.3),
    ):
        made.add(Experiment.from_name(name, {"seed": seed}), rows(1, test))
    made.close()
    (made.root / "mini.toml").write_text(STUDY, encoding="utf-8")
    return made


def report(signed: SignedRuns, *words: str) -> Answer:
    return process("report", *words, NDREPRO_HOME=str(signed.home))


def test_a_folder_of_runs_becomes_a_page(signed: SignedRuns, tmp_path: Path) -> None:
    answer = report(signed, str(signed.runs), "-o", str(tmp_path / "page"))
    assert answer.code == 0, answer.err
    assert "3 runs of 3 experiments, verified" in answer.out and "index.html" in answer.out
    assert "Runs in" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")


def test_an_experiment_becomes_a_page(signed: SignedRuns, tmp_path: Path) -> None:
    words = ("lenet_nd_1_digits", "mlp512_nd_1", "--runs", str(signed.runs), "-o", str(tmp_path / "page"), "--json")
    answer = report(signed, *words)
    assert answer.code == 0, answer.err
    assert answer.json["runs"] == 2
    assert [Path(place).name for place in answer.json["account"]["folders"]] == list(words[:2])


def test_a_study_says_which_of_its_runs_are_missing(signed: SignedRuns, tmp_path: Path) -> None:
    study = str(signed.root / "mini.toml")
    answer = report(signed, study, "--runs", str(signed.runs), "-o", str(tmp_path / "page"), "--json")
    assert answer.code == 0, answer.err
    assert answer.json["runs"] == 2
    notes = " ".join(answer.json["notes"])
    assert "2 of the study's 4 runs have no verified result" in notes and "seed=1" in notes
    assert "1 completed run that the study did not plan" in notes


def test_verdicts_and_forms_are_counted_and_code_is_looked_at_where_it_is_named(
    signed: SignedRuns, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "requirements.txt").write_text("torch==2.8.0\n", encoding="utf-8")
    answer = report(signed, str(signed.runs), "-o", str(tmp_path / "page"), "--code", str(code), "--json")
    assert answer.code == 0, answer.err
    assert answer.json["verdicts"] == {"verdicts": [], "refused": [], "elsewhere": 0}
    assert answer.json["forms"]["neurips"]["questions"] == 16
    assert "requirements.txt" in (tmp_path / "page" / "forms.html").read_text(encoding="utf-8")
    wrong = report(signed, str(signed.runs), "-o", str(tmp_path / "other"), "--code", str(tmp_path / "nowhere"))
    assert wrong.code == 3 and "no such folder" in wrong.err


def test_a_folder_s_name_writes_no_control_codes_to_the_terminal(signed: SignedRuns, tmp_path: Path) -> None:
    odd = tmp_path / "\x1b[31mred"
    (odd / "runs").mkdir(parents=True)
    answer = report(signed, str(odd / "runs"), "-o", str(tmp_path / "page"))
    assert answer.code == 1 and "\x1b" not in answer.out and "red" in answer.out


def test_what_does_not_verify_makes_the_answer_no(signed: SignedRuns, tmp_path: Path) -> None:
    answer = process("report", str(signed.runs), "-o", str(tmp_path / "page"), NDREPRO_HOME=str(tmp_path / "nobody"))
    assert answer.code == 1
    assert "no trusted key" in answer.out and "0 runs" in answer.out


@pytest.mark.parametrize(
    ("words", "cure"),
    [(["seeds_smal"], "did you mean"), (["seeds", "table1"], "name one study"), (["-o", "/dev/null"], "-o DIR")],
)
def test_a_wrong_word_is_answered_with_the_cure(words: list[str], cure: str, signed: SignedRuns) -> None:
    answer = report(signed, *words, "--runs", str(signed.runs))
    assert answer.code == 2 and cure in answer.err


def test_what_a_reviewer_signs_is_what_the_report_counts(
    ndrepro: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real runs: an author's, trained again by a reviewer with a key of his own, whose report trusts both."""
    settings = [f"--set={key}={value}" for key, value in {**SMALL, "train_images": "32"}.items()]
    keys = {who: tmp_path / f"{who}.pub" for who in ("author", "reviewer")}
    for who, key in keys.items():
        monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / f"{who}-keys"))
        if who == "author":
            made = ndrepro("run", "lenet_bn_1_digits", *settings, "--runs", "author", "-q")
        key.write_text(ndrepro("keys", "export").out, encoding="utf-8")
    ndrepro("keys", "trust", str(keys["author"]), "--name", "author")
    again = ndrepro("reproduce", made.out.strip(), "--runs", "reviewer", "--json")
    assert again.json["verdict"] == "identical", again.err
    words = ["report", "author", "reviewer", "-o", "page", "--json"]
    both = ndrepro(*words, *(f"--key={key}" for key in keys.values())).json["verdicts"]["verdicts"]
    assert [(item["verdict"], item["by_another"]) for item in both] == [("identical", True)]
    alone = ndrepro(*words, f"--key={keys['author']}").json["verdicts"]
    assert alone["verdicts"] == [] and "no trusted key" in alone["refused"][0]["reason"]
