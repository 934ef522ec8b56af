"""Results that can hardly be right are found, each by a control in which all is well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, put, records, sign_pair_member
from recorded_runs import Answer

from ndrepro.analysis.audit.plausibility import CANNOT_BE, LOOK, doubts
from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.results import read_results
from ndrepro.cli import main
from ndrepro.cli.display import terminal
from provenance.attestation.trust import TrustPolicy


def score(number: int = 1, **changes: Any) -> ResultRow:
    base = ResultRow(
        run_id=f"run{number}", folder=Path("none"), name="vgg16_nd_100", arch="vgg16", method="nd", epochs=100,
        dataset="cifar10", seed=number, seeds={}, settings={}, cell="main", environment="torch 2.13.0", torch="2.13.0",
        numpy="2", python="3.11", determinism="deterministic", threads=2, device="cpu",
        train_accuracy_percent=99.0 + number / 100,
        test_accuracy_percent=93.0 + number / 10, train_loss=0.01 * number, test_loss=0.2 * number, parameters=14719818,
        train_seconds=None, commit="", code="", signer="me", manifest_digests=(), payload_digest="",
        started=str(number),
    )  # fmt: skip
    return replace(base, **changes)


def checks(*scores: ResultRow) -> list[tuple[str, str, int]]:
    return [(doubt.check, doubt.gravity, len(doubt.runs)) for doubt in doubts(scores)]


def test_runs_in_which_all_is_well_raise_no_doubt() -> None:
    assert checks(score(1), score(2), score(3)) == []


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"test_loss": float("nan")}, ("not-finite", CANNOT_BE, 1)),
        ({"test_accuracy_percent": 99.8}, ("above-best-known", CANNOT_BE, 1)),
        ({"test_accuracy_percent": 99.01, "test_loss": 0.01}, ("train-as-test", CANNOT_BE, 1)),
        ({"train_accuracy_percent": 60.0}, ("above-training", LOOK, 1)),
        ({"test_accuracy_percent": 10.0}, ("guessing", LOOK, 1)),
        ({"seed": 2}, ("same-seed-again", LOOK, 2)),
    ],
)
def test_what_can_hardly_be_right_is_found(change: dict[str, Any], doubt: tuple[str, str, int]) -> None:
    assert checks(score(1, **change), score(2), score(3)) == [doubt]


def test_two_counts_of_parameters_under_one_name_cannot_be() -> None:
    rows = [score(number, dataset="svhn", parameters=7 if number == 1 else 8) for number in (1, 2, 3)]
    assert checks(*rows) == [("other-network", CANNOT_BE, 3)]


def test_parameters_are_held_against_the_released_networks() -> None:
    other = [score(number, parameters=14728266) for number in (1, 2, 3)]  # those of batch norm
    found = doubts(other)
    assert [doubt.gravity for doubt in found] == [CANNOT_BE] * 3
    assert found[0].text == "vgg16_nd_100: 14,728,266 parameters, the released code's has 14,719,818"
    assert checks(*(replace(row, method="bn") for row in other)) == []


def test_a_seed_without_effect_is_found_and_a_repeat_is_not_called_one() -> None:
    results = ("train_accuracy_percent", "test_accuracy_percent", "train_loss", "test_loss")
    same = {name: getattr(score(1), name) for name in results}
    assert checks(score(1), replace(score(2), **same)) == [("seed-without-effect", CANNOT_BE, 2)]
    assert checks(score(1), replace(score(4, seed=1), **same), score(3)) == [("same-seed-again", LOOK, 2)]
    assert checks(score(1), replace(score(2), **same, threads=1)) == [], "another environment is no same attempt"


def test_one_seed_has_no_spread() -> None:
    assert checks(score(1)) == [("without-spread", LOOK, 1)]


def signed(root: Path, run: str, census: dict[str, int], accuracy: float = 0.6, **settings: str) -> None:
    last = {
        "epoch": 2,
        "step": 12,
        "learning_rate": 0.1,
        "train_accuracy": 0.5,
        "train_loss": 1.0,
        "test_loss": 1.1,
        "test_accuracy": accuracy,
    }
    found = {"metrics summary": {"epochs": 2, "last": last}, "layer census": {"trainable_parameters": 7, **census}}
    stated = account(put("byproducts", found), **settings)
    sign_pair_member(root, run, stated, records(4), home=root / "home")


def test_a_network_that_is_not_its_name_is_found_in_its_manifest(tmp_path: Path) -> None:
    signed(tmp_path, "20261121T101501Z-aaaaaa", {"batchnorm2d_layers": 2, "conv2d_layers": 2})
    policy = TrustPolicy.load(tmp_path / "home")
    right = read_results(tmp_path / "runs", policy=policy).rows
    assert [row.method for row in right] == ["bn"]
    assert not [doubt for doubt in doubts(right) if doubt.check == "other-network"]
    signed(tmp_path, "20261121T101502Z-bbbbbb", {"batchnorm2d_layers": 2, "deconv2d_layers": 2}, 0.7, seed="1")
    runs = read_results(tmp_path / "runs", policy=policy)
    found = [doubt for doubt in doubts([*runs.rows, *runs.copies]) if doubt.gravity == CANNOT_BE]
    told = [(doubt.check, doubt.text) for doubt in found]
    assert ("other-network", "lenet_bn_2_digits: called bn, and has 2 deconvolutions") in told
    # both were signed with the trail of the other, which no two seeds have
    assert ("seed-without-effect", "lenet_bn_2_digits: 2 different seeds have the same trail") in told


def test_the_command_looks_at_a_folder_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ndrepro(*words: str) -> Answer:
        terminal.console.cache_clear()
        code = main(words)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    signed(tmp_path, "20261121T101501Z-aaaaaa", {"batchnorm2d_layers": 2})
    answer = ndrepro("audit", "--runs", "runs")
    assert answer.code == 0 and answer.out.startswith("1 verified run: 1 doubt\n")
    assert "look: lenet_bn_2_digits: one seed, hence no spread (20261121T101501Z-aaaaaa)" in answer.out
    signed(tmp_path, "20261121T101502Z-bbbbbb", {"deconv2d_layers": 2}, 0.7, seed="1")
    assert ndrepro("audit", "--runs", "runs", "--json").code == 1
    assert ndrepro("audit", "--runs", "runs", "claims.toml").code == 2
