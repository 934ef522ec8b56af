"""Runs from elsewhere are verified, taken in whole or in part, and compared like one's own; attacks are refused."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from real_runs import Bench
from recorded_runs import Answer

from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import KeyRing


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two small runs of another author."""
    bench = Bench(tmp_path_factory.mktemp("elsewhere"))
    for name in ("lenet_bn_1_digits", "lenet_nd_1_digits"):
        bench.run(name, train_images="32")
    return bench


@pytest.fixture
def elsewhere(made: Bench, tmp_path: Path) -> RunsFolder:
    """A copy of them, to be changed."""
    shutil.copytree(made.options.runs.root, tmp_path / "theirs" / "runs")
    return RunsFolder(tmp_path / "theirs" / "runs")


@pytest.fixture
def key(made: Bench, tmp_path: Path) -> str:
    file = tmp_path / "author.pub"
    file.write_text(KeyRing(made.options.home).public_key().pem, encoding="ascii")
    return str(file)


def packed(runs: RunsFolder, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        archive.add(runs.root, "runs")
    return file


def zipped(runs: RunsFolder, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(runs.root.rglob("*")):
            archive.write(path, path.relative_to(runs.root.parent))
    return file


@pytest.mark.parametrize("pack", [packed, zipped, lambda runs, file: runs.root])
def test_an_archive_or_a_folder_is_taken_in_with_its_ledger(
    ndrepro: Callable[..., Answer],
    elsewhere: RunsFolder,
    key: str,
    tmp_path: Path,
    pack: Callable[[RunsFolder, Path], Path],
) -> None:
    answer = ndrepro("import", str(pack(elsewhere, tmp_path / "b.tar.gz")), "--name", "lab-b", "--key", key, "--json")
    assert answer.code == 0, answer.err
    assert [run["whole"] for run in answer.json["runs"]] == [True, True]
    folder = Path(answer.json["folder"])
    assert (folder / "ledger.jsonl").is_file()
    names = sorted(path.parent.name for path in folder.glob("*/*/manifest.dsse.json"))
    assert names == sorted(run.root.name for run in elsewhere.runs())


def test_what_was_taken_in_is_listed_verified_and_compared_like_ones_own(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str, tmp_path: Path
) -> None:
    assert ndrepro("keys", "trust", key, "--name", "lab b").code == 0
    taken = ndrepro("import", str(packed(elsewhere, tmp_path / "lab-b.tar.gz")))
    assert taken.code == 0 and "2 runs signed by lab b" in taken.out and "imported/lab-b" in taken.out
    listed = ndrepro("list", "--runs", "imported/lab-b", "--json").json["runs"]
    assert [row["outcome"] for row in listed] == ["completed", "completed"]
    theirs = next(Path("imported/lab-b/lenet_bn_1_digits").iterdir())
    assert ndrepro("verify", theirs.name, "--runs", "imported/lab-b").code == 0
    compared = ndrepro("diff", str(theirs), str(elsewhere.runs()[0].root), "--json").json
    assert compared["identical"] is True


def test_a_run_of_an_author_who_is_not_trusted_is_left_out(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, tmp_path: Path
) -> None:
    answer = ndrepro("import", str(packed(elsewhere, tmp_path / "b.tgz")))
    assert answer.code == 1
    assert "left out" in answer.out and "keys trust" in answer.out
    assert not Path("imported/b").exists()


def test_a_changed_file_leaves_its_run_out_and_no_other(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str
) -> None:
    run = next((elsewhere.root / "lenet_bn_1_digits").iterdir())
    metrics = RunFolder(run).metrics
    metrics.write_text(metrics.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 0.9'))
    assert "0.9" in metrics.read_text()
    answer = ndrepro("import", str(elsewhere.root), "--name", "b", "--key", key, "--json")
    assert answer.code == 1
    assert {row["path"].split("/")[0]: row["taken"] for row in answer.json["runs"]} == {
        "lenet_bn_1_digits": False,
        "lenet_nd_1_digits": True,
    }
    assert "metrics.jsonl" in next(row["problem"] for row in answer.json["runs"] if not row["taken"])
    assert not list(Path("imported/b").glob("lenet_bn*/*/manifest.dsse.json"))
    for changed in elsewhere.runs():
        changed.metrics.write_text("")
    none = ndrepro("import", str(elsewhere.root), "--name", "c", "--key", key)
    assert "none of 2 runs verifies" in none.out and "keys trust" not in none.out, "no key helps a changed file"


def test_a_manifest_without_its_files_is_taken_in_as_that(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str
) -> None:
    for run in elsewhere.runs():
        run.weights.unlink()
    answer = ndrepro("import", str(elsewhere.root), "--name", "b", "--key", key, "--json")
    assert answer.code == 0
    assert [(row["taken"], row["whole"]) for row in answer.json["runs"]] == [(True, False)] * 2


def test_a_run_counts_once_and_only_the_ledger_itself_is_kept(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str
) -> None:
    """Before: its copy in another folder was a second run, and any file named ledger.… stayed without a word."""
    first = elsewhere.runs()[0].root
    shutil.copytree(first, first.with_name("20260101-000000"))
    RunFolder(first).weights.unlink()
    (elsewhere.root / "ledger.results.html").write_text("99.99 %")
    answer = ndrepro("import", str(elsewhere.root), "--name", "b", "--key", key, "--json")
    rows = {row["path"]: row for row in answer.json["runs"]}
    copy, own = (rows[f"{first.parent.name}/{name}"] for name in ("20260101-000000", first.name))
    assert (copy["taken"], own["taken"]) == (True, False), "the one with all its files"
    assert own["problem"] == f"the same run as {copy['path']}"
    assert "ledger.results.html" in answer.json["unlisted"]
    assert sorted(path.name for path in Path("imported/b").glob("*.*")) == ["ledger.jsonl"]


def test_a_single_run_gets_the_folders_of_a_folder_of_runs(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str, tmp_path: Path
) -> None:
    run = tmp_path / "one"
    shutil.copytree(elsewhere.runs()[0].root, run)
    answer = ndrepro("import", str(run), "--key", key)
    assert answer.code == 0, answer.err
    assert len(ndrepro("list", "--runs", "imported/one", "--json").json["runs"]) == 1


def test_a_name_that_leads_out_and_a_link_are_refused_and_nothing_is_written(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str, tmp_path: Path
) -> None:
    link = tarfile.TarInfo("runs/x/y/manifest.dsse.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    out = tarfile.TarInfo("../escaped")
    out.size = 4
    for name, member, content in (("link", link, None), ("out", out, io.BytesIO(b"evil"))):
        file = tmp_path / f"{name}.tar"
        with tarfile.open(file, "w") as archive:
            archive.addfile(member, content)
        answer = ndrepro("import", str(file), "--key", key)
        assert answer.code == 2, name
    assert not Path("escaped").exists() and not Path("imported/escaped").exists()
    assert list(Path("imported").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda folder: folder / "none.tar", 3, "not there"),
        (lambda folder: folder / "text", 2, "neither a folder nor an archive"),
        (lambda folder: folder / "torn.tar.gz", 2, ""),
        (lambda folder: folder / "empty", 2, "no manifest.dsse.json"),
    ],
)
def test_what_holds_no_runs_is_said(
    ndrepro: Callable[..., Answer],
    elsewhere: RunsFolder,
    tmp_path: Path,
    make: Callable[[Path], Path],
    code: int,
    said: str,
) -> None:
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").mkdir()
    whole = packed(elsewhere, tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "torn.tar.gz").write_bytes(whole[: len(whole) // 2])
    answer = ndrepro("import", str(make(tmp_path)))
    assert answer.code in (code, 3) if not said else answer.code == code
    assert said in answer.err and "hint:" in answer.err


def test_a_name_that_is_taken_is_not_written_over(
    ndrepro: Callable[..., Answer], elsewhere: RunsFolder, key: str
) -> None:
    assert ndrepro("import", str(elsewhere.root), "--name", "b", "--key", key).code == 0
    again = ndrepro("import", str(elsewhere.root), "--name", "b", "--key", key)
    assert again.code == 2 and "--name" in again.err
