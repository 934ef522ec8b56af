"""What makes no search is refused before anything runs; a finding is told in sentences that say no more than it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer

from ndrepro.cli.commands.bisect import conclusion
from ndrepro.execution.bisect.bisect import BisectResult, PackageTrial
from ndrepro.execution.bisect.delta_debugging import Turn
from ndrepro.execution.bisect.lock_diff import VersionChange
from ndrepro.protocol.experiment.experiment import Experiment

EXPERIMENT = Experiment.from_name("lenet_bn_1_digits")
TORCH = (VersionChange("torch", "2.7.1", "2.8.0"), VersionChange("torchvision", "0.22.1", "0.23.0"))
NUMPY = (VersionChange("numpy", "1.26.4", "2.4.6"),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lenet_bn_1_digits", "torch-2.8.0", "torch-2.8.0"), "nothing between them"),
        (("lenet_bn_1_digits", "torch-2.8.0", "torch-2.9"), "torch-2.8.0"),
        (("lenet_bx_1_digits", "torch-2.8.0", "torch-2.13.0"), "lenet_bn_1_digits"),
        (("lenet_bn_1_digits", "torch-2.8.0", "torch-2.13.0", "--on", "feeling"), "bits or scores"),
        (("lenet_bn_1_digits", "torch-2.8.0", "torch-2.13.0", "--set", "epochs"), "KEY=VALUE"),
        (("lenet_bn_1_digits", "torch-2.8.0", "torch-2.13.0", "--all", "--no-releases"), "leave one of them out"),
    ],
)
def test_what_makes_no_search_is_refused(ndrepro: Callable[..., Answer], words: tuple[str, ...], said: str) -> None:
    answer = ndrepro("bisect", *words)
    assert answer.code == 2
    assert said in answer.err
    assert not Path("runs").exists()


def finding(**parts: object) -> BisectResult:
    return BisectResult(EXPERIMENT, "bits", "torch-2.4.1", "torch-2.8.0", **parts)  # type: ignore[arg-type]


def test_environments_that_agree_are_said_to() -> None:
    assert conclusion(finding()) == ["torch-2.4.1 and torch-2.8.0 agree: every step's bits are the same"]


def test_a_package_and_its_release_are_named_with_what_could_not_be_tried() -> None:
    turn, row = Turn("2.6.0", "2.8.0", ("2.7.0",)), ("2.6.0", "2.7.0", "2.8.0")
    search = finding(groups=(TORCH,), cause=(TORCH,), turns=(turn,), row=row, untried=("2.7.0",))
    told = "\n".join(conclusion(search))
    assert search.release == ("2.6.0", "2.8.0")
    assert "change with torch 2.7.1 -> 2.8.0" in told and "moves together with torchvision" in told
    assert "torch 2.6.0 leaves every step's bits as they were, 2.8.0 does not" in told
    assert "could not be tried: 2.7.0" in told


def test_a_search_that_may_have_missed_a_release_says_so() -> None:
    rows = {False: "--all tries every release", True: "every release was asked, 2.6.0 to 2.8.0: 3"}
    for everywhere, words in rows.items():
        row = ("2.6.0", "2.7.0", "2.8.0")
        turns = (Turn("2.6.0", "2.7.0"), Turn("2.7.0", "2.8.0"))
        told = conclusion(finding(groups=(TORCH,), cause=(TORCH,), turns=turns, row=row, everywhere=everywhere))
        assert told[-1].strip() == words
        assert "  and again: torch 2.8.0 has others than 2.7.0" in told
    none = conclusion(finding(groups=(TORCH,), cause=(TORCH,), turns=(), row=("2.6.0", "2.8.0"), untried=("2.8.0",)))
    assert "change nowhere that was tried" in none[-2] and "could not be tried: 2.8.0" in none[-1]


def test_of_several_that_could_not_be_tried_apart_nothing_more_is_claimed() -> None:
    untold = PackageTrial("numpy 1.26.4 -> 2.4.6", "-", "unresolved", reason="no resolver takes these together")
    (told,) = conclusion(finding(groups=(TORCH, NUMPY), cause=(TORCH, NUMPY), trials=(untold,)))
    assert "1 trial could not be resolved" in told
    (sure,) = conclusion(finding(groups=(TORCH, NUMPY), cause=(TORCH, NUMPY)))
    assert "resolved" not in sure
