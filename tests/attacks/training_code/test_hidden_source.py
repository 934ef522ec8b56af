"""An author signs that the source was clean, or hides a file of its patch, while patch and copies are in the folder.

The files that are put over the commit when the run is made again decide what may be said of it: verify refuses every
other claim, and what a verdict signs of the code is read from the patch.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import copied, manifest_of, sign_again, verified
from real_runs import Bench

from ndrepro.cli.display import facts
from ndrepro.execution.reproduce.code_execution import RecordedCode
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.manifest import Resource
from provenance.capture import source

State = dict[str, Any]
UNKNOWN = {"unavailable": "git is not installed"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one commit with a submodule, all clean."""
    place = tmp_path_factory.mktemp("checkout")
    for folder in (place / "part", place):
        folder.mkdir(exist_ok=True)
        for name in ("a.py", "žlutý kůň.py"):
            (folder / name).write_text("x = 1\n")
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
            subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return place


def edited(checkout: Path, tmp_path: Path, *names: str) -> Path:
    """The checkout with these files written anew."""
    place = tmp_path / "edited"
    shutil.copytree(checkout, place, symlinks=True)
    for name in names:
        (place / name).write_text("x = 2\n")
    return place


def recorded(run: RunFolder, bench: Bench, place: Path, **claims: Any) -> RunFolder:
    """The run, as if it had been made with the source in ``place``; what it says of it changed by ``claims``."""
    state = {**source.capture(place, run.root), **claims}
    sign_with(run, bench, state)
    return run


def sign_with(run: RunFolder, bench: Bench, state: State) -> None:
    others = tuple(item for item in manifest_of(run).dependencies if item.name != "source")
    described = Resource("source", digest={"gitCommit": state["commit"]}, annotations=state)
    sign_again(run, bench, dependencies=(described, *others))


def copy_of(honest: Finished, tmp_path: Path) -> RunFolder:
    run = copied(honest.folder, tmp_path)
    for name in ("source.patch", "untracked", "submodules"):
        source.remove(run.root / name)
    return run


FORMS = {
    "clean": (),
    "patched": ("a.py", "žlutý kůň.py"),
    "untracked": ("new.py",),
    "both": ("a.py", "new.py"),
    "submodule": ("part/a.py", "part/new.py"),
    "not kept": ("keys.netrc",),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_honest_form_verifies(form: str, honest: Finished, author: Bench, checkout: Path, tmp_path: Path) -> None:
    run = recorded(copy_of(honest, tmp_path), author, edited(checkout, tmp_path, *FORMS[form]))
    verdict = verified(run, author)
    assert verdict.ok, verdict.failure
    code = RecordedCode.of(manifest_of(run), run.root)
    assert code.dirty is (form != "clean")
    assert code.changed == (FORMS[form] if form == "patched" else code.changed)


def test_a_patch_that_was_not_kept_verifies(honest: Finished, author: Bench, checkout: Path, tmp_path: Path) -> None:
    run = copy_of(honest, tmp_path)
    state = source.capture(edited(checkout, tmp_path, "a.py"), run.root, limit_bytes=1)
    assert not (run.root / "source.patch").exists()
    sign_with(run, author, state)
    assert verified(run, author).ok


# what the author claims of a source with a patch and an untracked file
CLEAN: State = {"dirty": False, "changed": {"count": 0, "files": []}}
NOTHING = {"none": "the tracked files are those of the commit"}
CLAIMS: dict[str, Callable[[State], State]] = {
    "clean": lambda s: CLEAN,
    "clean, with the changes": lambda s: {"dirty": False},
    "nothing changed": lambda s: {"changed": CLEAN["changed"]},
    "another file changed": lambda s: {"changed": {"count": 1, "files": [{"path": "b.py", "how": "changed"}]}},
    "no patch": lambda s: {"patch": NOTHING},
    "a patch that is unknown": lambda s: {"patch": UNKNOWN},
    "a file of the commit removed": lambda s: {"patch": {**s["patch"], "whole_files": ["žlutý kůň.py"]}},
    "a patch left out": lambda s: {"patch": {**s["patch"], "left_out": True}},
    "another patch": lambda s: {"patch": {**s["patch"], "sha256": "0" * 64}},
    "no untracked file": lambda s: {"untracked": {"copied": [], "left_out": []}},
    "another untracked file": lambda s: {"untracked": {"copied": [{"path": "b.py", "sha256": "0" * 64}]}},
    "no submodule": lambda s: {"submodules": {"dirty": False, "changed": []}},
    "a clean submodule": lambda s: {
        "submodules": {"dirty": True, "changed": [{**each, **CLEAN} for each in s["submodules"]["changed"]]}
    },
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_change_that_is_kept_cannot_be_hidden(
    claim: str, honest: Finished, author: Bench, checkout: Path, tmp_path: Path
) -> None:
    place = edited(checkout, tmp_path, "a.py", "new.py", "part/a.py")
    run = copy_of(honest, tmp_path)
    state = source.capture(place, run.root)
    sign_with(run, author, state)
    assert verified(run, author).ok
    sign_with(run, author, {**state, **CLAIMS[claim](state)})
    verdict = verified(run, author)
    assert verdict.failure is not None and verdict.failure.name == "predicate", claim
    print(f"{claim}: {verdict.failure.message}")


def test_a_rename_hides_no_file(honest: Finished, author: Bench, checkout: Path, tmp_path: Path) -> None:
    run = copy_of(honest, tmp_path)
    state = source.capture(edited(checkout, tmp_path, "a.py"), run.root)
    patch = "diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n"
    (run.root / "source.patch").write_text(patch)
    digest = source.file_digest(run.root / "source.patch").sha256
    files = [{"path": "b.py", "how": "changed"}]
    sign_with(run, author, {**state, "patch": {"sha256": digest}, "changed": {"count": 1, "files": files}})
    failure = verified(run, author).failure
    assert failure is not None and "renames" in failure.message


def test_nothing_shown_or_signed_believes_the_claim(
    honest: Finished, author: Bench, checkout: Path, tmp_path: Path
) -> None:
    """Also of a run that was not verified."""
    run = recorded(copy_of(honest, tmp_path), author, edited(checkout, tmp_path, "a.py"), **CLEAN)
    manifest = manifest_of(run)
    rows = dict(facts.manifest_rows(manifest))
    assert "WITH UNCOMMITTED CHANGES: patched" in rows["source"] and "clean" not in rows["source"]
    signed = RecordedCode.of(manifest, run.root).to_json()
    assert signed["dirty"] is True and signed["changed"] == ["a.py"]
