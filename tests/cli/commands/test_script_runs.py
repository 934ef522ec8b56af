"""Runs of ``ndrepro.record`` in every command that reads runs: verified, listed, shown, imported and counted."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from script_runs import ScriptRun, record_script

from ndrepro.analysis.results.results import read_results
from provenance.attestation.trust import TrustPolicy


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    return record_script(tmp_path_factory.mktemp("script"))


@pytest.fixture
def run(recorded: ScriptRun, own_home: Path) -> ScriptRun:
    """The run in the folder of runs that commands look into, its key in this user's key home."""
    shutil.copytree(recorded.home, own_home)
    shutil.copytree(recorded.top / "runs", Path("runs"))
    return ScriptRun(Path(), recorded.place)


def test_it_is_listed_under_its_name(ndrepro: Callable[..., Answer], run: ScriptRun) -> None:
    _, name, line, settings = ndrepro("list").out.splitlines()
    assert name == "fit" and line.split()[:4] == [run.folder.name, "completed", "3", "script"]
    assert line.endswith("yes") and settings.strip() == "rate=0.1"
    (summary,) = ndrepro("list", "--json").json["runs"]
    assert (summary["experiment"], summary["run"], summary["build"]) == ("fit", run.folder.name, "script")


def test_a_folder_of_its_own_is_listed_by_the_manifest_s_identifier(
    ndrepro: Callable[..., Answer], run: ScriptRun
) -> None:
    run.folder.rename("runs/mine")
    (summary,) = ndrepro("list", "--json").json["runs"]
    assert (summary["experiment"], summary["run"], summary["outcome"]) == ("fit", run.folder.name, "completed")
    assert ndrepro("verify", "runs/mine").code == 0


@pytest.mark.parametrize("name", ["latest", "fit", "the identifier", "the folder"])
def test_it_verifies_by_any_name(name: str, ndrepro: Callable[..., Answer], run: ScriptRun) -> None:
    word = {"the identifier": run.folder.name, "the folder": str(run.folder)}.get(name, name)
    answer = ndrepro("verify", word)
    assert answer.code == 0 and "verified: 14 checks passed; signed by this machine's key" in answer.out


def test_it_is_shown(ndrepro: Callable[..., Answer], run: ScriptRun) -> None:
    answer = ndrepro("show", "fit")
    rows = {line[:12].strip(): line[13:] for line in answer.out.splitlines()}
    assert (answer.code, rows["run"], rows["outcome"]) == (0, f"fit {run.folder.name}", "completed")
    assert (rows["parameters"], rows["seeds"], rows["notes"]) == ("rate 0.1", "numpy 3", "converged false")
    assert rows["metrics"].startswith("2 rows; the last: step 2, loss 0.81")
    assert rows["python"].startswith("Python 3.") and "epoch" not in answer.out


def test_it_is_compared(ndrepro: Callable[..., Answer], run: ScriptRun, own_home: Path) -> None:
    other = record_script(Path(), rate=0.2, home=own_home)
    answer = ndrepro("diff", str(run.folder), str(other.folder))
    assert answer.code == 1 and "parameters.rate 0.1 -> 0.2" in answer.out


def test_it_is_imported(ndrepro: Callable[..., Answer], run: ScriptRun) -> None:
    with tarfile.open("runs.tar.gz", "w:gz") as archive:
        archive.add("runs")
    answer = ndrepro("import", "runs.tar.gz", "--into", "theirs")
    assert answer.code == 0, answer.out + answer.err
    assert ndrepro("verify", "latest", "--runs", "theirs/runs").code == 0


def test_it_is_no_row_of_a_table_and_not_refused_either(run: ScriptRun, own_home: Path) -> None:
    for cache in (None, Path("cache"), Path("cache")):
        found = read_results(Path("runs"), policy=TrustPolicy.load(own_home), cache=cache)
        assert (found.rows, found.refused, found.unfinished, found.lost) == ((), (), (), ())
        (other,) = found.others
        assert (other.name, other.kind, other.outcome) == ("fit", "script", "completed")
    assert found.account()["others"] == [
        {"run": run.folder.name, "name": "fit", "kind": "script", "outcome": "completed"}
    ]


def test_a_policy_names_it(ndrepro: Callable[..., Answer], run: ScriptRun) -> None:
    (key,) = (each["keyid"] for each in ndrepro("keys", "list", "--json").json["keys"])
    for pattern, code in (("script:fit*", 0), ("fit*", 1), ("lenet_*", 1)):
        Path("policy.toml").write_text(
            f'title = "t"\n[signers.ada]\nkeys = ["{key}"]\nroles = ["author"]\nexperiments = ["{pattern}"]\n'
        )
        assert ndrepro("verify", "fit", "--policy", "policy.toml").code == code
