"""Data, runs and links to scratch space are no source; a program beside them is."""

from __future__ import annotations

from pathlib import Path

import pytest
from captured_source import capture, git
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

from provenance.attestation.ledger import Ledger
from provenance.attestation.run_files import hold

pytestmark = pytest.mark.usefixtures("own_git_settings")


def reasons(found: dict[str, object]) -> dict[str, str]:
    assert isinstance(found["excluded"], list)
    return {entry["path"]: entry["reason"] for entry in found["excluded"]}


def make_runs(folder: Path, count: int = 2) -> Path:
    """A folder of runs as they are while they run; the last run folder."""
    for number in range(count):
        run = folder / "lenet" / f"run-{number}"
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints/step.bin").write_bytes(b"weights")
        (run / "log.txt").write_text("trained\n")
        Ledger(folder / "ledger.jsonl").append("begun", f"run-{number}", CryptoSigner.generate_ed25519())
        hold(run)
    for name in (".data/known.json", ".claims", ".slurm/study/job.sh", "verdicts/run.dsse.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return run


def test_the_data_that_a_run_reads_are_no_source(repository: Path, tmp_path: Path) -> None:
    (repository / "mydata/train").mkdir(parents=True)
    (repository / "mydata/train/1.png").write_bytes(b"image")
    assert capture(repository, tmp_path / "run")["dirty"] is True, "the control"
    found = capture(repository, tmp_path / "run", data=[repository / "mydata"])
    assert found["dirty"] is False and not (tmp_path / "run/untracked").exists()
    assert reasons(found) == {"mydata": "data that the run reads"}
    (repository / "mydata2.py").touch()
    found = capture(repository, tmp_path / "run", data=[repository / "mydata"])
    assert [entry["path"] for entry in found["untracked"]["copied"]] == ["mydata2.py"]


def test_data_that_hold_the_program_hide_nothing_of_it(repository: Path) -> None:
    (repository / "new.py").touch()
    (repository / "code/new.py").touch()
    for data in (repository, repository.parent):
        assert capture(repository, data=[data])["dirty"] is True
    assert capture(repository, data=[repository / "code"], packages=[repository / "code"])["dirty"] is True


def test_a_tracked_file_in_the_data_is_a_change_all_the_same(repository: Path) -> None:
    (repository / "code/a.py").write_text("other\n")
    assert capture(repository, data=[repository / "code"])["dirty"] is True


def test_runs_in_other_folders_are_no_source(repository: Path, tmp_path: Path) -> None:
    mine = make_runs(repository / "a")
    make_runs(repository / "b", count=1)
    found = capture(repository, mine, exclude=[repository / "a"])
    assert found["dirty"] is False and found["untracked"] == {"copied": [], "left_out": []}
    assert reasons(found)["b/lenet"] == "a folder of a run in it"
    elsewhere = capture(repository, tmp_path / "run")
    assert elsewhere["dirty"] is False and reasons(elsewhere)["a/lenet"] == "2 folders of runs in it"


def test_a_program_beside_runs_is_source(repository: Path, tmp_path: Path) -> None:
    make_runs(repository / "a")
    make_runs(repository, count=1)
    for name in ("a/train.py", "train.py", "a/lenet/plot.py", "verdict.py"):
        (repository / name).write_text("x = 1\n")
    found = capture(repository, tmp_path / "run")
    copied = {entry["path"] for entry in found["untracked"]["copied"]}
    assert copied == {"a/train.py", "train.py", "a/lenet/plot.py", "verdict.py"} and found["dirty"] is True


def test_what_only_looks_like_a_ledger_or_a_run_is_source(repository: Path) -> None:
    (repository / "a/verdicts").mkdir(parents=True)
    (repository / "a/ledger.jsonl").write_text('{"event": "begun"}\n')
    (repository / "a/verdicts/x.py").touch()
    (repository / "a/.lock").write_text("not a process")
    assert {entry["path"] for entry in capture(repository)["untracked"]["left_out"]} == {
        *("a/ledger.jsonl", "a/verdicts/x.py", "a/.lock")
    }


@pytest.mark.parametrize("where", ["data", "code/data"])
def test_a_link_in_the_place_of_an_ignored_folder_is_no_dirt(repository: Path, tmp_path: Path, where: str) -> None:
    (repository / ".gitignore").write_text("/data/\n")
    (repository / "code/.gitignore").write_text("data/\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "ignore")
    (tmp_path / "scratch").mkdir()
    (repository / where).symlink_to(tmp_path / "scratch")
    found = capture(repository)
    assert git(repository, "status", "--porcelain") != "", "the control: git itself sees the link"
    assert found["dirty"] is False and reasons(found) == {where: "a link, where git ignores a folder of that name"}
    (repository / where).unlink()
    (repository / where).symlink_to(repository / "notes.md")
    assert capture(repository)["dirty"] is True, "a file behind the link is no folder"
    (repository / where).unlink()
    (repository / "other").symlink_to(tmp_path / "scratch")
    assert capture(repository)["dirty"] is True, "no rule for a folder of that name"


def test_links_to_runs_and_data_are_no_dirt(repository: Path, tmp_path: Path) -> None:
    run = make_runs(tmp_path / "scratch/runs")
    (tmp_path / "scratch/images").mkdir()
    for name in ("runs", "images"):
        (repository / name).symlink_to(tmp_path / "scratch" / name)
    found = capture(repository, run)
    assert found["dirty"] is True and reasons(found) == {"runs": "a link to a folder of runs"}, "the control"
    found = capture(repository, run, data=[repository / "images"])
    assert found["dirty"] is False and reasons(found)["images"] == "a link: data that the run reads"
    (repository / "space").symlink_to(tmp_path / "scratch")
    named = {"data": [repository / "images"], "exclude": [repository / "space/runs"]}
    assert capture(repository, run, **named)["dirty"] is False


def test_of_a_large_tree_the_program_is_kept_and_the_rest_is_counted(repository: Path, tmp_path: Path) -> None:
    for number in range(3000):
        place = repository / f"images/{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(b"x")
    for name in ("helper.py", "images/0/labels.py", "settings.toml"):
        (repository / name).write_text("x = 1\n")
    untracked = capture(repository, tmp_path / "run")["untracked"]
    copied = {entry["path"] for entry in untracked["copied"]}
    assert {"helper.py", "images/0/labels.py", "settings.toml"} <= copied
    assert len(copied) + len(untracked["left_out"]) + untracked["left_out_too"]["files"] == 3003
    assert untracked["left_out_too"]["files"] == 1003 and "not measured" in str(untracked["left_out_too"]["bytes"])
