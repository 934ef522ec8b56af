"""``ndrepro study search``: what the user sees, and what is wrong usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from small_studies import SETTINGS, write_study

from ndrepro.cli.commands.search import _chosen
from ndrepro.protocol.errors import UsageError

Command = Callable[..., Answer]
STUDY = """
[grids.tuned]
axes = { seed = [0], method = ["bn"] }
[search]
grid = "tuned"
rungs = [1]
reduction = 2
budget_epochs = 1
validation = 0.25
space.learning_rate = { low = 1e-3, high = 1.0, log = true }
"""
WITHOUT_TEST = SETTINGS.replace("test_images = 16\n", "")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, STUDY, settings=WITHOUT_TEST)


def test_a_search_tells_trials_writes_what_it_found_and_trains_nothing_twice(ndrepro: Command, study: Path) -> None:
    waiting = ndrepro("study", "plan", str(study))
    assert "nothing: 1 waiting" in waiting.out and "until hyper-parameters are searched" in waiting.out
    assert "every run is done" not in waiting.out
    assert ndrepro("study", "run", str(study)).code == 1
    first = ndrepro("study", "search", str(study))
    assert first.code == 0, first.err
    assert "trial 0, 1 epoch: validation error" in first.out and "mini.found.json" in first.out
    ledger = Path("runs/ledger.jsonl").read_bytes()
    again = ndrepro("study", "search", str(study), "--json")
    (found,) = json.loads(again.out)["found"]
    assert again.code == 0 and found["spent_epochs"] == 1 and found["reached"] == [1]
    assert f"{found['values']['learning_rate']:g}" in first.out
    assert Path("runs/ledger.jsonl").read_bytes() == ledger
    ready = ndrepro("study", "plan", str(study), "--json").json
    assert ready["to_run"] == 1
    assert ready["runs"][0]["experiment"]["learning_rate"] == found["values"]["learning_rate"]


def test_a_study_without_a_search_is_wrong_usage(ndrepro: Command, tmp_path: Path) -> None:
    path = write_study(tmp_path, "[grids.main]\naxes = { method = ['bn'] }")
    answer = ndrepro("study", "search", str(path))
    assert answer.code == 2 and "mini has no search" in answer.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network", "vgg16"), "it has lenet"),
        (("--dataset", "mnist"), "it has digits"),
        (("--data", "mnist=x"), "its data sets are digits"),
    ],
)
def test_what_is_not_searched_cannot_be_chosen(
    ndrepro: Command, study: Path, words: tuple[str, ...], said: str
) -> None:
    answer = ndrepro("study", "search", str(study), *words)
    assert answer.code == 2 and said in answer.err
    assert not Path("runs").exists()


def test_a_pair_that_is_not_searched_cannot_be_chosen() -> None:
    targets = (("lenet", "bn", "digits"), ("mlp512", "none", "cifar10"))
    assert _chosen("s", targets, ["lenet"], []) == targets[:1]
    with pytest.raises(UsageError, match="s has no such pair") as caught:
        _chosen("s", targets, ["lenet"], ["cifar10"])
    assert caught.value.cure == "it searches for lenet on digits, mlp512 on cifar10"
