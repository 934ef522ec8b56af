"""A bisection names the package, and the release of it, that changes what is run in tiny cells. uv is real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_wheels import make_wheel

from ndrepro.cli.commands.bisect import conclusion
from ndrepro.execution.bisect.bisect import Bisection, BisectResult, PackageTrial
from ndrepro.execution.bisect.lock_diff import changes, groups, is_consistent, mixture, requirers
from ndrepro.execution.environments import add_cell
from ndrepro.execution.environments.matrix import Cell, create
from ndrepro.execution.runs.run import RunOptions
from ndrepro.protocol.errors import NdreproError, TrainingFailed
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.formats.trail import TensorName, TrailWriter, float_bits

HERE = "{}.{}".format(*sys.version_info)
EXPERIMENT = Experiment.from_name("lenet_bn_1_digits")


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    """Cells of tiny wheels: a kernel with six releases, of which 1.3 computes otherwise; a shell that needs exactly its
    kernel; a bystander; and an addition that only the later cell has.
    """
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    for minor in range(6):
        value = 0.25 if minor < 3 else 0.5
        make_wheel(wheels, "kernel", f"1.{minor}", f"value = {value}\n")
        make_wheel(wheels, "shell", f"7.{minor}", requires=(f"kernel==1.{minor}",))
    for version in ("3.0", "4.0"):
        make_wheel(wheels, "bystander", version)
    make_wheel(wheels, "addition", "1.0")

    def make(name: str, *words: str) -> Cell:
        return add_cell.add(name, words, python=HERE, bare=True)

    return make


def search(
    tmp_path: Path,
    first: Cell,
    second: Cell,
    code: str = "import kernel; print(kernel.value)",
    everywhere: bool = False,
) -> BisectResult:
    """A bisection whose runs are one step of what ``code`` prints as its loss."""
    count = iter(range(1000))

    def train(cell: Cell, fresh: bool) -> RunFolder:
        done = subprocess.run([create(cell), "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise TrainingFailed(done.stderr.strip().splitlines()[-1])
        folder = RunFolder(tmp_path / "runs" / "lenet_bn_1_digits" / f"run-{next(count)}")
        folder.root.mkdir(parents=True)
        loss = float(done.stdout)
        with TrailWriter(folder.trail, [TensorName("weight", (1,), "float32")]) as writer:
            writer.append(np.array([[0, 0, 1], [1, float_bits(loss), int(loss * 8)]], dtype=np.uint64))
        return folder

    options = RunOptions(RunsFolder(tmp_path / "runs"), tmp_path / "home")
    return Bisection(EXPERIMENT, first, second, options, train=train).find(everywhere=everywhere)


def titles(trials: tuple[PackageTrial, ...], outcome: str) -> list[str]:
    return [trial.title for trial in trials if trial.outcome == outcome]


def test_the_package_and_its_release_are_named(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    old = cell("old", "kernel=1.0", "shell=7.0", "bystander=3.0")
    new = cell("new", "kernel=1.5", "shell=7.5", "bystander=4.0", "addition")
    finding = search(tmp_path, old, new)
    assert [[change.name for change in group] for group in finding.groups] == [
        ["addition"],
        ["bystander"],
        ["kernel", "shell"],
    ]
    assert finding.package == "kernel"
    assert finding.release == ("1.2", "1.3")
    assert finding.alone is not None
    assert [trial.outcome for trial in finding.alone] == ["changed", "same"], "by force: the kernel, and not its shell"
    assert "addition 1.0 added" in titles(finding.trials, "same")
    assert "bystander 3.0 -> 4.0" in titles(finding.trials, "same")
    (turned,) = (trial for trial in finding.trials if trial.title == "kernel 1.3")
    assert turned.divergence == (1, ("weight",))
    assert finding.to_json()["package"] == "kernel"
    assert finding.others is not None and finding.others.outcome == "same", "there is no second cause"


# what the six releases print: 1.1 and 1.2 undo each other, 1.3 and 1.5 do not
SEVERAL = """
from importlib.metadata import version
print({"1.0": 0.25, "1.1": 0.5, "1.2": 0.25, "1.3": 0.75, "1.4": 0.75, "1.5": 1.0}[version("kernel")])
"""


@pytest.mark.slow
def test_every_release_that_changes_bits_is_named(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    old, new = cell("old", "kernel=1.0"), cell("new", "kernel=1.5")
    halved = search(tmp_path / "halved", old, new, SEVERAL)
    assert halved.turns is not None and halved.row == ("1.0", "1.1", "1.2", "1.3", "1.4", "1.5")
    assert [(turn.last, turn.next) for turn in halved.turns] == [("1.2", "1.3"), ("1.4", "1.5")]
    assert any("is undone" in line for line in conclusion(halved)), "and that 1.1 can hide from it is said"
    whole = search(tmp_path / "whole", old, new, SEVERAL, everywhere=True)
    assert whole.turns is not None
    found = [(turn.last, turn.next) for turn in whole.turns]
    assert found == [("1.0", "1.1"), ("1.1", "1.2"), ("1.2", "1.3"), ("1.4", "1.5")]
    said = "\n".join(conclusion(whole))
    assert "kernel 1.0 leaves every step's bits as they were, 1.1 does not" in said
    assert "and again: kernel 1.5 has others than 1.4" in said and "every release was asked" in said


def test_a_second_cause_is_said_to_be_there(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    """The bystander changes bits by itself, and so does the kernel, which is found second and is not looked for."""
    old, new = cell("old", "kernel=1.0", "bystander=3.0"), cell("new", "kernel=1.5", "bystander=4.0")
    code = "import kernel; from importlib.metadata import version; print(kernel.value * float(version('bystander')))"
    finding = search(tmp_path, old, new, code)
    assert finding.package == "bystander"
    assert finding.others is not None and finding.others.outcome == "changed"
    assert any("another cause" in line for line in conclusion(finding))


def test_environments_that_agree_have_no_cause(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    finding = search(tmp_path, cell("old", "kernel=1.0"), cell("new", "kernel=1.2", "bystander"))
    assert (finding.cause, finding.package, len(finding.trials)) == ((), None, 3)


def test_what_does_not_repeat_itself_is_not_searched(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    with pytest.raises(NdreproError, match="does not repeat its own bits"):
        search(tmp_path, cell("old", "kernel=1.0"), cell("new", "kernel=1.5"), "import time; print(time.time())")


def test_a_set_in_which_nothing_runs_is_unresolved_and_not_a_cause(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    """Here the later bystander fails with the earlier kernel: its trial by itself tells nothing."""
    old, new = cell("old", "kernel=1.0", "bystander=3.0"), cell("new", "kernel=1.5", "bystander=4.0")
    code = (
        "import kernel; from importlib.metadata import version; "
        "assert kernel.value > 0.3 or version('bystander') == '3.0', 'too old'; print(kernel.value)"
    )
    finding = search(tmp_path, old, new, code)
    assert finding.package == "kernel"
    (failed,) = (trial for trial in finding.trials if trial.outcome == "unresolved")
    assert failed.title == "bystander 3.0 -> 4.0" and "too old" in failed.reason


def test_an_end_that_does_not_run_is_said(tmp_path: Path, cell: Callable[..., Cell]) -> None:
    with pytest.raises(NdreproError, match=r"new: .*No module named 'kernel'"):
        search(tmp_path, cell("old", "kernel=1.0"), cell("new", "bystander=3.0"))


def test_a_mixture_takes_every_hash_from_one_of_the_two_locks(cell: Callable[..., Cell]) -> None:
    old, new = cell("old", "kernel=1.0", "shell=7.0"), cell("new", "kernel=1.5", "shell=7.5", "addition")
    known = {text for each in (old, new) for text in each.lock.read_text().split() if text.startswith("--hash")}
    (added,) = (change for change in changes(old, new) if change.before is None)
    mixed = mixture(old, new, [added])
    assert {text for text in mixed.split() if text.startswith("--hash")} <= known
    assert "addition==1.0" in mixed and "kernel==1.0" in mixed
    assert is_consistent(mixed)
    (kernel,) = (change for change in changes(old, new) if change.name == "kernel")
    assert not is_consistent(mixture(old, new, [kernel])), "its shell needs the other one"
    assert requirers(old.lock.read_text())["kernel"] >= {"shell"}
    assert len(groups(old, new, lambda chosen: is_consistent(mixture(old, new, chosen)))) == 2
