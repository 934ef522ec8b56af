"""Programs whose code is in submodules: the recorded commits of these run again, and nothing else of the clone's."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from strange_programs import Stranger, manifest_of

from ndrepro.api import Reproduction
from ndrepro.protocol.layout import RunFolder

TRAINS = "from lib import model\nopen('out.txt', 'w').write(str(model.accuracy()))\n"
HONEST, EVIL = "def accuracy(): return 0.6123\n", "def accuracy(): return 0.9999\n"


def project(tmp_path: Path, model: str = HONEST) -> Stranger:
    library = Stranger.make(tmp_path / "library", {"__init__.py": "", "model.py": model})
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS})
    author.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library.root), "lib")
    author.git("commit", "-qm", "a submodule")
    return author


def reproduce(author: Stranger, run: RunFolder, *clone: str, data: Path | None = None) -> Reproduction:
    """In the reviewer's clone, made with these options; nothing is left where the author read his submodule."""
    place = author.top / "review-of-submodules"
    words = ["git", "-c", "protocol.file.allow=always", "clone", "-q", *clone, str(author.root), str(place)]
    subprocess.run(words, check=True)
    shutil.rmtree(author.root / "lib")
    return author.reproduce(run, clone=False, repository=place, data=data)


@pytest.mark.parametrize("state", ["clean", "changed"])
def test_the_code_of_submodules_is_had_from_the_reviewer_s_clone(tmp_path: Path, state: str) -> None:
    """Before: missing, unless the reviewer named the folder with --data."""
    author = project(tmp_path)
    if state == "changed":
        (author.root / "lib" / "model.py").write_text("def accuracy(): return 0.5\n")
        (author.root / "lib" / "more.py").write_text("")
    run = author.record(outputs=("out.txt",))
    assert (run.output_copies / "out.txt").read_text() == ("0.5" if state == "changed" else "0.6123")
    found = reproduce(author, run, "--recurse-submodules")
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)
    assert "submodule" not in str(found.plan.differences)
    code = found.plan.execution.code
    assert (code.changed, [each.path for each in code.untracked]) == (
        (("lib/model.py",), ["lib/more.py"]) if state == "changed" else ((), [])
    )
    assert "code of no commit" not in [each.name for each in found.claims]


def test_another_commit_of_a_submodule_than_the_repository_s_is_named(tmp_path: Path) -> None:
    """What git says there is that commit's, also where the files are the same. Before: in no claim."""
    author = project(tmp_path)
    first = author.git("-C", "lib", "rev-parse", "HEAD")
    author.git("-C", "lib", "commit", "--allow-empty", "-qm", "0.9999")
    author.git("-C", "lib", "push", "-q", "origin", "HEAD:refs/heads/later")
    later = author.git("-C", "lib", "rev-parse", "HEAD")
    found = reproduce(author, author.record(outputs=("out.txt",)), "--recurse-submodules")
    (computed,) = (each for each in found.claims if each.name == "outputs computed")
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)
    assert f"submodule lib: commit {later}" in computed.evidence and first not in computed.evidence


def test_a_submodule_that_is_not_there_is_named(tmp_path: Path) -> None:
    author = project(tmp_path)
    found = reproduce(author, author.record(outputs=("out.txt",)))
    assert found.verdict == "undecided"
    assert "submodule lib: not checked out here" in str(found.plan.differences)


def test_nothing_replaces_a_file_of_a_submodule_s_commit(tmp_path: Path) -> None:
    """The author says that an honest commit ran; what did is in the data that he hands over."""
    author, handed = project(tmp_path, EVIL), tmp_path / "handed"
    run = author.record(outputs=("out.txt",))
    handed.mkdir()
    shutil.copy(author.root / "lib" / "model.py", handed)
    library = Stranger(tmp_path / "library")
    (library.root / "model.py").write_text(HONEST)
    library.git("commit", "-qam", "honest")
    subprocess.run(["git", "-C", author.root / "lib", "pull", "-q", "--ff-only"], check=True)
    author.git("commit", "-qam", "honest")
    source = manifest_of(run).dependency("source")
    assert source is not None
    commit, tree = author.git("rev-parse", "HEAD"), author.git("rev-parse", "HEAD^{tree}")
    facts = {**(source.annotations or {}), "commit": commit, "tree": tree}
    changed = replace(source, digest={**(source.digest or {}), "gitCommit": commit}, annotations=facts)
    author.claim(
        run, dependencies=tuple(changed if each.name == "source" else each for each in manifest_of(run).dependencies)
    )
    found = reproduce(author, run, "--recurse-submodules", data=handed)
    assert found.verdict == "undecided" and "nothing replaces" in str(found.plan.differences)
