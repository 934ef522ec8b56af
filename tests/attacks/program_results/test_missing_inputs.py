"""Attacks: a recorded input is not here, and the program computes something else without it.

Its author records what the program does without the file, and lists the file as an input by a path that the reviewer
does not expect to have. Before: "identical", and "1 of 1 that it is known to have read are here".
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro import api
from ndrepro.execution.programs import input_files
from provenance.formats.digest import file_digest

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")


def reads(path: Path) -> dict[str, str | bytes]:
    text = f"try:\n    found = open({str(path)!r}).read()\nexcept OSError:\n    found = '0.9999'\n"
    return {"train.py": f"{text}open('o', 'w').write(found)\n"}


def named(found: api.Reproduction) -> str:
    """What is named of the inputs that were not compared."""
    return " ".join(each.evidence for each in found.claims if each.name == "other inputs")


def handed_in(author: Stranger, path: Path, python: str = "") -> api.Reproduction:
    """The run without the file, with a record of one that had it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0.5")
    files = json.loads(author.record(outputs=("o",)).inputs.read_text())["files"]
    listed = [{"path": str(path), "how": "opened", "size": 3, "sha256": file_digest(path).sha256}]
    path.unlink()
    run = author.record(outputs=("o",))
    author.claim_inputs(run, lambda _: sorted([*files, *listed], key=lambda each: str(each["path"])))
    if python:
        seen = manifest_of(run).internal_parameters
        author.claim(
            run, internal_parameters={**seen, "interpreters": [{**seen["interpreters"][0], "executable": python}]}
        )
    return author.reproduce(run)


@pytest.mark.parametrize(
    "name",
    [
        "bench/site-packages/x.txt",
        "bench/.git/x.txt",
        "project/.git/x.txt",
        "project/__pycache__/x.txt",
        "bench/.cache/matplotlib/fontlist-x.json",
    ],
)
def test_an_input_that_belongs_to_something_by_its_path_alone_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a" / name
    found = handed_in(Stranger.make(tmp_path / "a", reads(path)), path)
    assert found.verdict == "identical" and str(path) in named(found)


def test_an_input_beside_a_python_that_is_said_to_have_been_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bench" / "x.txt"
    found = handed_in(Stranger.make(tmp_path / "a", reads(path)), path, python=str(tmp_path / "bench" / "python3"))
    assert found.verdict == "identical" and str(path) in named(found)


def test_a_declared_folder_of_which_no_digest_was_recorded_is_missing(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", reads(tmp_path / "bench" / "x.txt"))
    run = author.record(outputs=("o",))
    assert author.reproduce(run).verdict == "identical", "the control"
    author.claim(run, asked={"data": [str(tmp_path / "bench")]})
    assert author.reproduce(run).verdict == "undecided"


def test_what_the_system_or_the_repository_here_has_is_not_named(tmp_path: Path) -> None:
    """No attack: a program of the system, and questions to git without git."""
    read = ["/usr/bin/env", ".git/HEAD"]
    text = "import contextlib\n"
    text += "".join(f"with contextlib.suppress(OSError): open({str(path)!r}, 'rb').read()\n" for path in read)
    author = Stranger.make(tmp_path / "a", {"train.py": f"{text}open('o', 'w').write('0.5')\n"})
    run = author.record(outputs=("o",))
    listed = [each["path"] for each in json.loads(run.inputs.read_text())["files"]]
    assert {*read} <= {*listed}
    found = author.reproduce(run)
    assert (found.verdict, named(found)) == ("identical", ""), (found.claims, found.judgements)
    assert statuses(found)["inputs"] == "checked", [
        each for each in found.judgements[0].claims if each.name == "inputs"
    ]


def test_a_file_of_another_installation_that_is_here_at_another_path_was_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the file beside the packages here counted, which the program looks for elsewhere."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    packages = tmp_path / "venv" / "lib" / "python" / "site-packages"
    path = packages / "pytest" / "py.typed"
    here = Path(sysconfig.get_path("purelib"), "pytest", "py.typed")
    path.parent.mkdir(parents=True)
    path.write_bytes(here.read_bytes())
    author = Stranger.make(tmp_path / "a", reads(path))
    listed = json.loads(author.record(outputs=("o",)).inputs.read_text())["files"]
    path.unlink()
    run = author.record(outputs=("o",))
    author.claim_inputs(run, lambda _: listed)
    found = author.reproduce(run)
    (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert claim.status == "not checked" and f"not read this time, as far as was seen: {path}" in claim.evidence


def test_files_beyond_the_list_are_said_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module behind many harmless files. Before: "4 of 4 that it is known to have read are here", and checked."""
    monkeypatch.setattr(input_files, "FILES", 4)
    text = "for number in range(9): open(f'{number}.txt').read()\nopen('o', 'w').write('0.5')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, **{f"{number}.txt": "1" for number in range(9)}})
    found = author.reproduce(author.record(outputs=("o",)))
    (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert (found.verdict, claim.status) == ("identical", "not checked")
    assert "not listed now: 6 more files were opened" in claim.evidence


def test_what_is_read_after_the_working_folder_was_removed_is_an_input(tmp_path: Path) -> None:
    """Before: the look at opened files ended there, and "1 of 1 that it is known to have read" was checked."""
    text = """
import contextlib, os, tempfile
here = os.getcwd()
with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
with contextlib.suppress(OSError): open('x.txt')
os.chdir(here)
open('o', 'w').write(open('y.txt').read())
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text, "y.txt": "0.5"})
    found = author.reproduce(author.record(outputs=("o",)))
    (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert (found.verdict, claim.status) == ("identical", "checked")
    assert "2 of 2" in claim.evidence


def test_an_input_that_is_handed_in_and_never_opened_is_named(tmp_path: Path) -> None:
    """Before: whatever the sandbox showed under another path counted as read."""
    path = tmp_path / "orig" / "x.txt"
    path.parent.mkdir()
    path.write_text("0.5")
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.9999')\n"})
    run = author.record(outputs=("o",))
    listed = {"path": str(path), "how": "opened", "size": 3, "sha256": file_digest(path).sha256}
    author.claim_inputs(run, lambda files: sorted([*files, listed], key=lambda each: str(each["path"])))
    path.parent.rename(tmp_path / "handed")
    for reads_it in (False, True):
        if reads_it:
            path.parent.mkdir()
            (tmp_path / "handed/x.txt").rename(path)
            author = Stranger.make(tmp_path / "b", reads(path))
            run = author.record(outputs=("o",))
            path.parent.rename(tmp_path / "again")
        found = author.reproduce(run, data=tmp_path / ("again" if reads_it else "handed"))
        (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
        assert found.verdict == "identical" and (claim.status == "checked") is reads_it, claim
        assert reads_it or f"not read this time, as far as was seen: {path}" in claim.evidence


@pytest.mark.parametrize("folder", ["/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages"])
def test_a_file_of_a_folder_of_the_system_is_not_that_of_the_environment(tmp_path: Path, folder: str) -> None:
    """Nobody has it. Before: the environment's file of that name counted for the system's as here, and as read."""
    path, here = Path(folder, "_pytest", "py.typed"), Path(sysconfig.get_path("purelib"), "_pytest", "py.typed")
    author = Stranger.make(tmp_path / "a", reads(path))
    run = author.record(outputs=("o",))
    listed = {"path": str(path), "how": "opened", "size": here.stat().st_size, "sha256": file_digest(here).sha256}
    author.claim_inputs(run, lambda files: sorted([listed, *files], key=lambda each: str(each["path"])))
    found = author.reproduce(run)
    (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert found.verdict == "identical" and str(path) in (named(found) or claim.evidence)
    assert named(found) or claim.status == "not checked"


BESIDE = """
import os
path = '../shared/folds.json' if not os.path.exists(AUTHOR) else '../aside/folds.json'
LOOKS
open('o', 'w').write(open(path).read() if found else '0.9999')
"""
LOOKS = {
    "opens": "try: found = open(path)\nexcept OSError: found = None",
    "asks": "found = os.path.exists(path)",
}


@pytest.mark.parametrize("looks", LOOKS)
def test_data_that_are_beside_the_code_and_declared_by_another_path_are_named(tmp_path: Path, looks: str) -> None:
    """Their author moves them aside while it runs. Before: inputs "2 of 2" and checked."""
    top = tmp_path / ".a"  # which is not shown
    there, shared = top / "author's machine", top / "shared"
    text = BESIDE.replace("LOOKS", LOOKS[looks]).replace("AUTHOR", repr(str(there)))
    author = Stranger.make(top, {"train.py": text})
    shared.mkdir()
    (shared / "folds.json").write_text("0.5")
    claims = {}
    for data in (Path("../shared"), shared):
        if data == shared:
            there.touch()
        found = author.reproduce(author.record(outputs=("o",), data=(data,)), data=shared)
        (claims[data],) = (each for each in found.judgements[0].claims if each.name == "inputs")
        assert found.verdict == "identical", (found.judgements, found.claims)
    honest, named = claims.values()
    assert honest.status == "checked" and "no file was seen" not in honest.evidence
    assert named.status == "not checked"
    assert f"of declared data no file was seen to be opened: {shared}" in named.evidence
    beside = "looked for beside the recorded folder, and not there: ../shared/folds.json"
    assert (beside in named.evidence) is (looks == "opens")


def test_files_of_declared_data_that_are_not_opened_are_named(tmp_path: Path) -> None:
    """Such as those that code looks for by another path, which is not shown, and does without. Before: in no claim."""
    shared = tmp_path / "shared"
    (shared / "meta").mkdir(parents=True)
    for name in ("rows.csv", "meta/folds.json"):
        (shared / name).write_text("0.5")
    text = f"open('o', 'w').write(open({str(shared / 'rows.csv')!r}).read())\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    found = author.reproduce(author.record(outputs=("o",), data=(shared,)), data=shared)
    (named,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert (found.verdict, named.status) == ("identical", "checked")
    assert f"of declared data {shared} 1 of 2 files not seen to be opened: meta/folds.json" in named.evidence


FALLS_BACK = """
import os, sys
path = sys.argv[1].lstrip('@').rpartition(',')[2]
open('o', 'w').write('0.5' if os.path.exists(path) else '0.9999')
"""


@pytest.mark.parametrize("word", ["@{}/full.json", "a.json,{}/full.json", "/{}/full.json"])
def test_a_word_that_names_the_recorded_folder_in_another_way_is_named(tmp_path: Path, word: str) -> None:
    """The recorded command gives 0.5; the repetition has nothing at that path, and falls back to what was signed.
    Before: "recorded code" was checked, with this command.
    """
    author = Stranger.make(tmp_path / ".a", {"train.py": FALLS_BACK, "full.json": "{}"})  # which is not shown
    (author.root / "full.json").rename(tmp_path / "aside")
    run = author.record(sys.executable, "train.py", word.format(author.root), outputs=("o",))
    (tmp_path / "aside").rename(author.root / "full.json")
    found = author.reproduce(run)
    (claim,) = (each for each in found.claims if each.name == "recorded code")
    assert (found.verdict, claim.status) == ("identical", "not checked")
    assert f"words that name {author.root}, which is not there" in claim.evidence


def test_that_the_recorded_folder_and_linked_data_are_elsewhere_is_said(tmp_path: Path) -> None:
    """What looks for a path of the recorded folder finds nothing, and a walk passes data by that are a link."""
    files = {"train.py": "import os\nopen('o', 'w').write(str(len([*os.walk('.')])))\n"}
    author = Stranger.make(tmp_path / "a", files)
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.csv").write_text("1")
    (author.root / "data").symlink_to(data)
    (author.root / ".git/info/exclude").write_text("data\n")
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("o",), data=(Path("data"),)))
    claims = {each.name: each.evidence for each in (*found.claims, *found.judgements[0].claims)}
    assert f"what its code looks for by the path of {author.root} is not there" in claims["recorded code"]
    assert "by links, which a walk through folders does not follow: data" in claims["inputs"]


def test_that_the_recorded_folder_is_there_without_a_sandbox_is_said(tmp_path: Path) -> None:
    """It has another commit's code. Before: "is not there", and checked."""
    author = Stranger.make(tmp_path / "a", {"src/model.py": "RESULT = '0.5'\n", "train.py": ""})
    text = f"import sys; sys.path.insert(0, {str(author.root / 'src')!r}); import model\n"
    (author.root / "train.py").write_text(f"{text}open('o', 'w').write(model.RESULT)\n")
    author.git("commit", "-qam", "train")
    run = author.record(outputs=("o",))
    for sandbox in ("none", "auto"):
        found = author.reproduce(run, sandbox=sandbox, trust_code=sandbox == "none")
        (claim,) = (each for each in found.claims if each.name == "recorded code")
        words = f"what its code looks for by the path of {author.root} is "
        there = "there as it is now, of whatever commit" if sandbox == "none" else "of the recorded code"
        assert f"{words}{there}" in claim.evidence
        assert claim.status == ("not checked" if sandbox == "none" else "checked")
