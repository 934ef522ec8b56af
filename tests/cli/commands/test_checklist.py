"""``ndrepro checklist`` on a folder and on a run, with its forms; exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recorded_runs import ROOT, Answer, sign_run

from ndrepro.protocol.layout import RunsFolder

Command = Callable[..., Answer]


def test_a_folder_of_code_line_by_line(ndrepro: Command) -> None:
    Path("train.py").write_text("import random\nrandom.seed(4)\n", encoding="utf-8")
    answer = ndrepro("checklist")
    assert answer.code == 1 and answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0].startswith("work: 1 of 12 guidelines have evidence")
    assert "found         Random generators get seeds" in lines
    assert "              seeds are set: train.py:2  random.seed(4)" in lines
    assert ndrepro("checklist", ".", "--json").json["points"] == 1
    assert "## Random generators get seeds: found" in ndrepro("checklist", ".", "--markdown").out


def test_a_run_by_its_name(ndrepro: Command, runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T101501Z-aaaaaa")
    answer = ndrepro("checklist", "lenet_bn_2_digits")
    assert answer.code == 1 and "the manifest verifies, signed by this machine's key" in answer.out
    assert answer.out.startswith("runs/lenet_bn_2_digits/20261121T101501Z-aaaaaa: "), "which run it is about"
    assert ndrepro("checklist", "runs/lenet_bn_2_digits").out == answer.out, "no folder of code"
    assert "not in a run  It is documented" in answer.out.splitlines()


def test_a_run_that_somebody_else_signed_counts_with_their_key(ndrepro: Command) -> None:
    kept = ROOT / "docs" / "runs" / "vgg16_nd_1"
    assert ndrepro("checklist", str(kept), "--json").json["points"] == 0
    answer = ndrepro("checklist", str(kept), "--key", str(kept / "author.pub"))
    assert answer.code == 0 and f"{kept}: 10 of 10 guidelines have evidence" in answer.out
    assert ndrepro("audit", "--runs", str(kept), "--key", str(kept / "author.pub")).out.startswith("1 verified run: ")


def test_forms(ndrepro: Command) -> None:
    Path("train.py").write_text("import random\nrandom.seed(4)\n", encoding="utf-8")
    answer = ndrepro("checklist", "--form", "acm")
    assert answer.code == 1 and answer.out.startswith("ACM badges, work: ")
    assert len(ndrepro("checklist", "--form", "neurips", "--json").json["answers"]) == 16
    assert "| question | answer | evidence |" in ndrepro("checklist", "--form", "mlcode", "--markdown").out


def test_wrong_usage_is_exit_2_and_no_such_run_3(ndrepro: Command) -> None:
    assert ndrepro("checklist", "--form", "ieee").code == 2
    assert ndrepro("checklist", "--json", "--markdown").code == 2
    assert ndrepro("checklist", "nothing_here").code == 3
