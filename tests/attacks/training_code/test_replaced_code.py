"""An author's run lists a file of its commit with another content, which is to be executed in the commit's place."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from strange_programs import CONFINED, Stranger, manifest_of

from ndrepro.execution.verification.program_checks import CHECKS
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import INPUTS, OUTPUTS
from ndrepro.protocol.verdicts import RECORDED_CODE
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import Verdict, verify
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

TRAIN = """
import json
exec(open('helper.py').read())
json.dump({'accuracy': accuracy()}, open('results.json', 'w'))
"""
HONEST, EVIL = b"def accuracy(): return 0.6123\n", b"def accuracy(): return 0.9999\n"
CLAIMED = b'{"accuracy": 0.9999}'
Edit = Callable[[dict[str, Any]], None]


def edited(path: Path, resource: Resource, edit: Edit) -> Resource:
    """The resource of a list of files that was edited."""
    files = json.loads(path.read_bytes())["files"]
    for file in files:
        edit(file)
    path.write_bytes(document := canonical_bytes({"files": files}))
    size = sum(file.get("size") or 0 for file in files)
    annotations = {**(resource.annotations or {}), "files": files, "bytes": size}
    return replace(resource, digest={"sha256": bytes_digest(document)}, annotations=annotations)


def content(data: bytes, **more: Any) -> Edit:
    return lambda file: file.update(sha256=bytes_digest(data), size=len(data), **more)


def cheat(author: Stranger, run: RunFolder, edit: Edit, name: str = "helper.py") -> None:
    """The run's helper is another one, and its result what that computes."""
    (run.output_copies / "results.json").write_bytes(CLAIMED)
    manifest = manifest_of(run)

    def of_input(file: dict[str, Any]) -> None:
        if file["path"] == name:
            edit(file)

    inputs = (edited(run.inputs, each, of_input) if each.name == INPUTS else each for each in manifest.dependencies)
    outputs = (
        edited(run.outputs, each, content(CLAIMED)) if each.name == OUTPUTS else each for each in manifest.byproducts
    )
    author.claim(run, dependencies=tuple(inputs), byproducts=tuple(outputs))


def verdict_on(author: Stranger, run: RunFolder) -> Verdict:
    return verify(run.root, trust=TrustPolicy.load(author.reviewer), extra_checks=CHECKS)


@pytest.fixture
def author(tmp_path: Path) -> Stranger:
    return Stranger.make(tmp_path / "a", {"train.py": TRAIN, "helper.py": HONEST})


def test_by_a_file_of_the_data_that_the_author_hands_over(author: Stranger) -> None:
    run = author.record(outputs=("results.json",))
    assert author.reproduce(run).verdict == "identical", "the control"
    cheat(author, run, content(EVIL))
    handed = author.top / "set"
    handed.mkdir()
    (handed / "images-0001.bin").write_bytes(EVIL)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "undecided"
    assert any("helper.py: the recorded commit has another file there" in line for line in found.plan.differences)


def test_by_the_run_s_own_copy(author: Stranger) -> None:
    """No option of the reviewer's is needed; a recorder keeps copies only where there is no commit."""
    run = author.record(outputs=("results.json",))
    assert verdict_on(author, run).ok, "the control"
    run.input_copies.mkdir()
    (run.input_copies / "helper.py").write_bytes(EVIL)
    cheat(author, run, content(EVIL, copy="inputs/helper.py"))
    failure = verdict_on(author, run).failure
    assert failure is not None and "helper.py has a copy, and code of a commit has none" in failure.message


def test_by_the_file_at_the_recorded_path(author: Stranger) -> None:
    """Whoever repeats a run of his own has there what he edited since."""
    run = author.record(outputs=("results.json",))
    cheat(author, run, content(EVIL))
    (author.root / "helper.py").write_bytes(EVIL)
    assert author.reproduce(run).verdict == "undecided"


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_source_that_no_commit_has_is_named(tmp_path: Path) -> None:
    """An ignored file, as the reviewer was given it: honest, and nobody reads it in the commit."""
    text = TRAIN.replace("helper.py", "rules.cfg")
    author = Stranger.make(tmp_path / "a", {"train.py": text, ".gitignore": "runs\nrules.cfg\n"})
    (author.root / "rules.cfg").write_bytes(HONEST)
    run = author.record(outputs=("results.json",))
    handed = author.top / "handed"
    handed.mkdir()
    (author.root / "rules.cfg").rename(handed / "rules.cfg")
    found = author.reproduce(run, data=handed)
    assert found.verdict == "identical"
    (named,) = (each for each in found.claims if each.name == "code of no commit")
    assert named.status == "not checked" and "rules.cfg" in named.evidence


def test_code_in_what_declared_data_have_beside_their_content_is_named(tmp_path: Path) -> None:
    """The commit executes an attribute of a file. Before: "identical", every claim "checked", for each such file."""
    text = "import os\nexec(os.getxattr('data/rows.csv', 'user.columns'))\nopen('data/rows.csv')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, ".gitignore": "runs\ndata\n"})
    (author.root / "data").mkdir()
    (author.root / "data/rows.csv").write_text("1,2\n")
    try:
        os.setxattr(author.root / "data/rows.csv", "user.columns", b"open('o', 'w').write('0.9999')")
    except (AttributeError, OSError):
        pytest.skip("no attributes on this file system")
    run = author.record(outputs=("o",), data=(Path("data"),))
    found = author.reproduce(run, data=author.root / "data")
    (named,) = (each for each in found.claims if each.name == "data as code")
    assert (found.verdict, named.status) == ("identical", "not checked")
    assert named.evidence == (
        "attributes that no digest binds: data/rows.csv (user.columns); "
        "1 file of which its own code may take content, names and attributes for code: data/rows.csv"
    )


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_source_outside_of_the_recorded_folder_is_named(tmp_path: Path) -> None:
    """The commit imports it, and nobody finds it there. Before: "identical", every claim "checked"."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "rules.py").write_text("RESULT = '0.9999'\n")
    text = f"import sys; sys.path.append({str(library)!r}); import rules; open('o', 'w').write(rules.RESULT)\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("o",))
    library.rename(tmp_path / "handed")
    found = author.reproduce(run, data=tmp_path / "handed")
    assert found.verdict == "identical"
    (named,) = (each for each in found.claims if each.name == "code of no commit")
    assert named.status == "not checked" and str(library / "rules.py") in named.evidence


def test_the_content_behind_a_pointer_of_git_lfs_is_the_commit_s(tmp_path: Path) -> None:
    data = b"weights\n" * 1000
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{bytes_digest(data)}\nsize {len(data)}\n"
    text = "open('out.txt', 'w').write(str(len(open('model.bin').read())))"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "model.bin": pointer})
    (author.root / "model.bin").write_bytes(data)
    author.git("update-index", "--skip-worktree", "model.bin")
    run = author.record(sys.executable, "train.py", outputs=("out.txt",))
    (handed := author.top / "handed").mkdir()
    (handed / "model.bin").write_bytes(data)
    assert author.reproduce(run, data=handed).verdict == "identical"


def test_the_executable_is_what_the_command_names(tmp_path: Path) -> None:
    """Before: the manifest's executable was executed, another committed script, and the command was shown."""
    other = "#!/usr/bin/env python3\nopen('o', 'w').write('0.9999')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.6123')\n", "plot.py": other})
    run = author.record(str(author.root / "plot.py"), "train.py", outputs=("o",))
    author.claim(run, asked={"command": [sys.executable, "train.py"]})
    assert author.reproduce(run).verdict not in ("identical", "close")


def test_no_name_of_a_file_passes_for_the_command(tmp_path: Path) -> None:
    """Before: "untracked: a.txt; command: python train.py", and the command behind what was cut off."""
    author = Stranger.make(tmp_path / "a", {"plot.py": "open('o', 'w').write('0.9999')\n"})
    for name in ("a.txt; command: python train.py", *(f"{number:03}{'x' * 190}" for number in range(10))):
        (author.root / name).write_text("1")
    found = author.reproduce(author.record(sys.executable, "plot.py", outputs=("o",)))
    (claim,) = (each for each in found.claims if each.name == "recorded code")
    assert claim.evidence.startswith(f"command: {sys.executable} plot.py; what its code looks for by the path of ")
    assert 'x, "a.txt; command: python train.py"' in claim.evidence


def test_a_working_folder_outside_of_the_repository_is_named(tmp_path: Path) -> None:
    """Before: the top's train.py was executed, and the one in the folder that is shown was not."""
    files = {"train.py": "open('o', 'w').write('0.9999')\n", "sub/train.py": "open('o', 'w').write('0.6123')\n"}
    author = Stranger.make(tmp_path / "a", files)
    run = author.record(sys.executable, "train.py", outputs=("o",))
    source = manifest_of(run).dependency("source")
    assert source is not None and author.reproduce(run).claims
    moved = replace(source, annotations={**(source.annotations or {}), "root": f"{author.root}-work"})
    others = (each for each in manifest_of(run).dependencies if each.name != "source")
    author.claim(run, asked={"workingFolder": str(author.root / "sub")}, dependencies=(moved, *others))
    (claim,) = (each for each in author.reproduce(run).claims if each.name == "recorded code")
    assert claim.status == "not checked" and f"it ran in {author.root / 'sub'}, outside of" in claim.evidence


@pytest.mark.parametrize("top", ["/", "/usr"])
def test_no_repository_takes_the_place_of_the_system_s_programs(tmp_path: Path, top: str) -> None:
    """Before: /usr/bin/env was the commit's own file of that name."""
    other = "#!/usr/bin/python3\nopen('o', 'w').write('0.9999')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.6')\n", "usr/bin/env": other})
    run = author.record("/usr/bin/env", sys.executable, "train.py", outputs=("o",))
    source = manifest_of(run).dependency("source")
    assert source is not None
    moved = replace(source, annotations={**(source.annotations or {}), "root": top})
    author.claim(run, dependencies=tuple(moved if each == source else each for each in manifest_of(run).dependencies))
    with pytest.raises(UsageError, match="where the system's own programs are"):
        author.reproduce(run)


@pytest.mark.parametrize("kind", ["replace", "grafts"])
def test_objects_that_git_shows_in_the_place_of_the_executed_ones_are_named(tmp_path: Path, kind: str) -> None:
    """The repository is handed over as a copy, or a mirror: an ordinary clone has no refs/replace."""
    author = Stranger.make(tmp_path / "a", {"train.py": TRAIN, "helper.py": HONEST})
    (author.root / "helper.py").write_bytes(EVIL)
    author.git("commit", "-qam", "better")
    run = author.record(outputs=("results.json",))
    blobs = [author.git("rev-parse", f"{commit}:helper.py") for commit in ("HEAD", "HEAD~")]
    if kind == "replace":
        author.git("replace", *blobs)
        assert author.git("show", "HEAD:helper.py").encode() == HONEST.strip()
    else:
        (author.root / ".git" / "info" / "grafts").write_text(f"# {blobs}\n{author.git('rev-parse', 'HEAD')}\n\n")
    found = author.reproduce(run, clone=Path(shutil.copytree(author.root, tmp_path / "a" / "review")))
    (code,) = (each for each in found.claims if each.name == RECORDED_CODE)
    assert (found.verdict, code.status) == ("identical", "not checked")
    assert "(refs/replace and grafts: 1)" in code.evidence
    assert "refs/replace" not in str(author.reproduce(author.record(outputs=("results.json",))).claims)
