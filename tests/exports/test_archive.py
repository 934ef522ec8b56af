"""An archive verifies where nothing of its maker is, has the same bytes every time, and holds what was signed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import process

from ndrepro.cli.app import invoke
from ndrepro.execution.imports.archive import unpack
from ndrepro.exports.archive import ArchiveText, archive_members
from ndrepro.exports.members import SUFFIXES, Member, write_archive
from ndrepro.exports.run_facts import NotExported
from ndrepro.protocol.errors import UsageError
from provenance.attestation.trust import TrustPolicy
from provenance.errors import NotFoundError

PERSON = ("--author", "Author, Ada", "--license", "CC-BY-4.0")


def archived(run: Any, out: Path, *words: str | Path, code: int = 0) -> Path:
    assert invoke(["archive", str(run.runs), "-o", str(out), *map(str, words)]) == code
    return out


def unpacked(archive: Path, folder: Path) -> Path:
    """The one folder that is in an archive, unpacked by the standard library's tools."""
    shutil.unpack_archive(archive, folder, **({} if archive.suffix == ".zip" else {"filter": "data"}))
    (top,) = folder.iterdir()
    return top


def names_in(archive: Path) -> list[str]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            return packed.namelist()
    with tarfile.open(archive) as file:
        return file.getnames()


def copied(run: Any, folder: Path) -> Any:
    shutil.copytree(run.runs, folder / "runs")
    return replace(run, root=folder, run=folder / "runs" / run.run.relative_to(run.runs))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_runs_give_the_same_bytes(script: Any, tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / "1" / f"runs{suffix}", tmp_path / "2" / f"runs{suffix}"
    for path in (first, second):
        path.parent.mkdir()
    archived(script, first, *PERSON)
    elsewhere = copied(script, tmp_path / "another place")
    for path in elsewhere.runs.rglob("*"):
        path.touch()
    archived(elsewhere, second, *PERSON)
    assert first.read_bytes() == second.read_bytes()
    assert archived(script, tmp_path / f"more{suffix}", "--title", "x").read_bytes() != first.read_bytes(), (
        "the control"
    )
    names = names_in(first)
    assert names == sorted(names) and {name.partition("/")[0] for name in names} == {"runs"}


@pytest.mark.parametrize("kind", ["script", "program"])
def test_it_verifies_in_a_clean_home_by_the_commands_in_its_readme(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = request.getfixturevalue(kind)
    monkeypatch.setenv("NDREPRO_HOME", str(run.home))
    top = unpacked(archived(run, tmp_path / "runs.zip", *PERSON), tmp_path / "there")
    (command,) = re.findall(r"(?m)^    (ndrepro verify .*)$", (top / "README.txt").read_text(encoding="utf-8"))
    _, *words = shlex.split(command)
    words = [str(top / word) if (top / word).exists() else word for word in words]
    home: dict[str, str | None] = {"HOME": str(tmp_path / "home"), "NDREPRO_HOME": None, "XDG_CONFIG_HOME": None}
    answer = process(*words, **home)
    assert (answer.code, "verified: " in answer.out) == (0, True), answer.out + answer.err
    assert re.search(r"8 ok +ledger", answer.out), "the ledger is checked too"
    assert process(*words[:2], **home).code == 1, "the control: without the key"
    (top / words[1] / "metrics.jsonl").write_text("{}\n")
    assert process(*words, **home).code == 1


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_import_takes_it_in_and_refuses_one_with_another_byte(script: Any, tmp_path: Path, suffix: str) -> None:
    archive = archived(script, tmp_path / f"runs{suffix}", *PERSON)
    top = unpacked(archive, tmp_path / "there")
    (key,) = (top / "keys").glob("*.pub")
    into = ["--key", str(key), "--into", str(tmp_path / "imported")]
    assert invoke(["import", str(archive), *into]) == 0
    (taken,) = (tmp_path / "imported").glob("runs/*/*/manifest.dsse.json")
    assert (tmp_path / "imported" / "runs" / "ledger.jsonl").is_file()
    assert invoke(["verify", str(taken.parent), "--key", str(key)]) == 0
    with (top / "runs" / taken.parent.relative_to(tmp_path / "imported" / "runs") / "metrics.jsonl").open("a") as file:
        file.write("{}\n")
    assert invoke(["import", str(top), "--name", "altered", *into]) == 1


def test_the_crate_names_every_file_and_each_run(script: Any, tmp_path: Path) -> None:
    top = unpacked(archived(script, tmp_path / "runs.tar", *PERSON), tmp_path / "there")
    graph = json.loads((top / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    files = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    named = {part["@id"] for part in entities["./"]["hasPart"]}
    assert named == files - {"ro-crate-metadata.json"}
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert [entity["name"] for entity in graph if entity["@type"] == "CreateAction"] == [f"Run {script.facts().title}"]
    citation = (top / "CITATION.cff").read_text(encoding="utf-8")
    assert 'family-names: "Author"' in citation and 'license: "CC-BY-4.0"' in citation


def test_without_authors_the_citation_names_the_key_and_says_so(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = unpacked(archived(script, tmp_path / "runs.tar"), tmp_path / "there")
    assert f"holder of the signing key {script.facts().keyids[0]}" in (top / "CITATION.cff").read_text(encoding="utf-8")
    assert "--author or --citation names people" in capsys.readouterr().out


def test_a_run_that_does_not_verify_is_left_out_and_named(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(script, tmp_path / "copy")
    broken = shutil.copytree(copy.run, copy.run.with_name("two"))
    (broken / "metrics.jsonl").write_text("{}\n")
    top = unpacked(archived(copy, tmp_path / "runs.tar", code=1), tmp_path / "there")
    assert [path.name for path in (top / "runs" / "fit").iterdir()] == ["one"]
    assert f"left out: {broken}: does not verify" in capsys.readouterr().err


def test_what_is_handed_in_is_in_it(script: Any, tmp_path: Path) -> None:
    (tmp_path / "report" / "figures").mkdir(parents=True)
    given = {
        "report/index.html": "<p>",
        "report/figures/a.svg": "<svg/>",
        "my.toml": "title = 'x'",
        "my.cff": "cff-version",
    }
    for name, text in given.items():
        (tmp_path / name).write_text(text)
    words = ["--policy", tmp_path / "my.toml", "--citation", tmp_path / "my.cff", "--report", tmp_path / "report"]
    top = unpacked(archived(script, tmp_path / "runs.tar", *words), tmp_path / "there")
    names = {"policy.toml": "my.toml", "CITATION.cff": "my.cff", **{name: name for name in given if "report" in name}}
    assert {name: (top / name).read_text() for name in names} == {name: given[source] for name, source in names.items()}


@pytest.mark.parametrize(
    ("words", "error", "problem"),
    [
        (["-o", "runs.rar"], UsageError, "expected a name that ends in .tar"),
        (["-o", "there.zip"], UsageError, "exists already"),
        (["-o", "a.zip", "--policy", "none.toml"], NotFoundError, "none.toml: no such file"),
        (["-o", "a.zip", "--citation", "none.cff"], NotFoundError, "none.cff: no such file"),
        (["-o", "a.zip", "--report", "."], NotFoundError, "no report in it"),
        (["-o", "a.zip", "{copy}"], UsageError, "runs of 2 ledgers"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_left(
    words: list[str], error: type[Exception], problem: str, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copied(script, tmp_path / "copy")
    work = tmp_path / "work"
    work.mkdir()
    (work / "there.zip").write_text("mine")
    monkeypatch.chdir(work)
    with pytest.raises(error, match=problem):
        invoke(["archive", str(script.runs), *(word.replace("{copy}", str(copy.runs)) for word in words)])
    assert [path.read_text() for path in work.iterdir()] == ["mine"]


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_any_time_that_an_author_signs_can_be_archived(tmp_path: Path, suffix: str, moment: datetime) -> None:
    file = tmp_path / f"runs{suffix}"
    write_archive([Member("a", b"text")], file, "runs", moment.replace(tzinfo=UTC))
    unpack(file, tmp_path / "there")
    assert (tmp_path / "there" / "runs" / "a").read_bytes() == b"text"


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip"])
def test_a_file_that_changes_meanwhile_leaves_no_archive(script: Any, tmp_path: Path, suffix: str) -> None:
    copy = copied(script, tmp_path / "copy")
    facts = replace(script, root=script.root, run=copy.run).facts()
    members = archive_members([facts], ArchiveText(), TrustPolicy.load(script.home))
    model = copy.run / "artifacts" / "model.safetensors"
    model.write_bytes(model.read_bytes()[::-1])
    with pytest.raises(NotExported, match="changed while it was exported"):
        write_archive(members, tmp_path / f"runs{suffix}", "runs", datetime(2026, 11, 21, tzinfo=UTC))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
