"""Declared data, and files of the working folder, that a program finds by another path than their recorded one.

Before, nothing was at such a path in a repetition: code that looks there fell back, and an honest run was undecided.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from program_projects import current_folder
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import OTHER_PATHS, ProgramRecord, other_paths
from provenance.attestation.manifest import DATASET
from provenance.errors import ProvenanceError

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
# what falls back where a path leads nowhere
READS = """
import pathlib
found = [pathlib.Path(name) for name in {names}]
open('o.txt', 'w').write(repr([path.read_text() if path.exists() else None for path in found]))
"""
LINKS = {"all": "imagenet", "above": "", "train": "imagenet/train", "one.txt": "imagenet/one.txt"}
NAMES = ("all/train/1.txt", "above/imagenet/one.txt", "train/1.txt", "one.txt")


def _author(top: Path, names: tuple[str, ...] = NAMES) -> tuple[Stranger, Path]:
    """A repository in which links, which git ignores, lead to a disk's data; and that disk."""
    disk = top / "disk"
    (disk / "imagenet" / "train").mkdir(parents=True)
    for name in ("imagenet/train/1.txt", "imagenet/one.txt"):
        (disk / name).write_text(f"0.5 of {name}")
    ignored = "\n".join(("runs", *LINKS))
    author = Stranger.make(top / "a", {".gitignore": ignored, "train.py": READS.format(names=names)})
    for name, leads in LINKS.items():
        (author.root / name).symlink_to(disk / leads)
    return author, disk


def _claim(author: Stranger, run: RunFolder, paths: list[dict[str, str]], only: str = "") -> None:
    """Sign the run again with other paths of its declared data, or of those alone."""
    changed = [
        replace(each, annotations={**(each.annotations or {}), OTHER_PATHS: paths})
        if each.name.startswith(f"{DATASET}{only}")
        else each
        for each in manifest_of(run).dependencies
    ]
    author.claim(run, dependencies=tuple(changed))


@pytest.mark.parametrize("declared", ["as they lie", "by a link"])
def test_data_are_at_every_path_by_which_they_were_found(tmp_path: Path, declared: str) -> None:
    """Wherever the reviewer has them, and by the digests of the declared ones alone."""
    (tmp_path / "other").symlink_to("disk")
    direct = tmp_path / "disk" / "imagenet" / "one.txt"
    names = (*NAMES, str(direct), str(tmp_path / "other" / "imagenet" / "one.txt"))
    author, disk = _author(tmp_path, names)
    data = Path("all") if declared == "by a link" else disk / "imagenet"
    run = author.record(outputs=("o.txt",), data=(data,))
    (described,) = ProgramRecord.of(manifest_of(run)).datasets
    found = {each.path: each.part for each in other_paths(described.annotations)}
    links = {"above/imagenet": ".", "train": "train", "one.txt": "one.txt", str(tmp_path / "other" / "imagenet"): "."}
    assert found == links | ({str(disk / "imagenet"): "."} if declared == "by a link" else {"all": "."})
    handed = disk.rename(tmp_path / "handed")
    again = author.reproduce(run, data=handed)
    assert again.verdict == "identical", (again.plan.differences, again.judgements[0].claims)
    (inputs,) = (each for each in again.judgements[0].claims if each.name == "inputs")
    assert (
        "by links, which a walk through folders does not follow: above/imagenet, all, one.txt, train" in inputs.evidence
    )
    assert "also read now" not in inputs.evidence, "all are of the declared data"
    missing = author.reproduce(run)
    assert missing.verdict == "undecided" and "data" in str(missing.plan.differences)


def test_a_part_of_declared_data_that_is_not_listed_does_not_verify(tmp_path: Path) -> None:
    """Control: what a link is said to have led to is a file or folder of the listing."""
    author, disk = _author(tmp_path)
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    for part in ("..", "../..", "/etc", "none", "train/2.txt"):
        _claim(author, run, [{"path": "train", "part": part}])
        with pytest.raises(ProvenanceError, match="which is not listed"):
            author.reproduce(run)


PLACES = ("/etc/passwd", "/usr/lib/x.py", "/.ndrepro", "/proc/self", "relative/../../up", ".git/hooks/post-checkout")


@pytest.mark.parametrize("path", PLACES)
def test_data_take_the_place_of_nothing_that_a_sandbox_has(tmp_path: Path, path: str) -> None:
    """The path is its author's: it is refused, or nothing but the data's own files is there."""
    author, disk = _author(tmp_path)
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    named = [{"path": path, "part": "one.txt"}]
    _claim(author, run, named)
    try:
        found = author.reproduce(run)
    except ProvenanceError:
        return
    assert found.verdict == "undecided", "the links that led to the data are not there"


def test_a_part_of_data_that_are_linked_is_an_input_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack: a file of declared data on standard input, and data that are declared with a part of them."""
    reads = (
        "import sys, pathlib\nopen('o.txt', 'w').write(sys.stdin.read() + pathlib.Path('all/one.txt').read_text())\n"
    )
    author, disk = _author(tmp_path)
    (author.root / "train.py").write_text(reads)
    author.git("commit", "-qam", "second")
    with (disk / "imagenet" / "one.txt").open() as file:
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            run = author.record(outputs=("o.txt",), data=(Path("all"), disk / "imagenet" / "train"))
        finally:
            os.dup2(before, 0)
            os.close(before)
    found = author.reproduce(run, data=disk.rename(tmp_path / "handed"))
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].claims)


@pytest.mark.parametrize("moved", [False, True], ids=["there", "elsewhere"])
def test_data_and_a_part_of_them_are_found_by_one_link(tmp_path: Path, moved: bool) -> None:
    """No attack: both are declared, and the link is outside of the working folder."""
    (tmp_path / "lnk").symlink_to("disk")
    author, disk = _author(tmp_path, (str(tmp_path / "lnk" / "imagenet" / "train" / "1.txt"),))
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet", disk / "imagenet" / "train"))
    options = {"data": disk.rename(tmp_path / "handed")} if moved else {}
    found = author.reproduce(run, **options)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].claims)


@pytest.mark.parametrize("taken", ["by the commit", "by other data", "by other data elsewhere"])
def test_what_else_is_at_such_a_path_is_not_taken_for_the_data(tmp_path: Path, taken: str) -> None:
    """Its author says that declared data were found where the code reads easier ones. Before: "identical", and every
    file that was opened there counted as one of the declared data.
    """
    author, disk = _author(tmp_path, ("here/one.txt",) if taken != "by other data elsewhere" else ("/x/data/one.txt",))
    easy = tmp_path / "easy"
    (author.root / "here").mkdir()
    (author.root / "here" / "one.txt").write_text("easy")
    if taken == "by the commit":
        author.git("add", "-f", "here"), author.git("commit", "-qm", "easy")
        data = (disk / "imagenet",)
    else:
        (author.root / "here").rename(easy)
        (author.root / "here").symlink_to(easy)
        (author.root / ".git" / "info" / "exclude").write_text("here\n")
        data = (easy, disk / "imagenet")
    run = author.record(outputs=("o.txt",), data=data)
    named = [{"path": "/x/data" if taken == "by other data elsewhere" else "here", "part": "."}]
    _claim(author, run, named)
    found = author.reproduce(run, data=tmp_path)
    assert found.verdict == "undecided" and "by which it was found" in str(found.plan.differences)


@pytest.mark.parametrize("named", ["below", "above"])
def test_data_are_not_said_to_be_where_other_data_are(tmp_path: Path, named: str) -> None:
    """Below the place of others, which the sandbox shows there, or above it. Before: "identical", and both counted."""
    easy = tmp_path / "m"
    author, disk = _author(tmp_path, (str(easy / "one.txt"),))
    easy.mkdir()
    (easy / "one.txt").write_text("easy")
    (easy / "two.txt").write_text("more")
    run = author.record(outputs=("o.txt",), data=(easy, disk / "imagenet"))
    other = (
        {"path": str(easy / "one.txt"), "part": "one.txt"} if named == "below" else {"path": str(tmp_path), "part": "."}
    )
    _claim(author, run, [other], only=str(disk / "imagenet"))
    handed = tmp_path / "handed"
    handed.mkdir()
    for path in (easy, disk):
        path.rename(handed / path.name)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "undecided" and "other data are" in str(found.plan.differences)


def test_a_link_that_a_program_makes_itself_is_not_there_before(tmp_path: Path) -> None:
    """No attack. Before: "File exists"."""
    author, disk = _author(tmp_path)
    text = f"import os\nos.symlink({str(disk / 'imagenet')!r}, 'own')\n"
    text += "open('o.txt', 'w').write(open('own/one.txt').read())\n"
    (author.root / "train.py").write_text(text)
    author.git("commit", "-qam", "second")
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    found = author.reproduce(run)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].claims)


def test_an_input_does_not_take_the_place_of_data(tmp_path: Path) -> None:
    """Its author says that they were found where the code reads an easier file, which is an input by its digest."""
    easy = tmp_path / "x" / "one.txt"
    author, disk = _author(tmp_path, (str(easy),))
    easy.parent.mkdir()
    easy.write_text("easy")
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    named = [{"path": str(easy), "part": "one.txt"}]
    _claim(author, run, named)
    handed = tmp_path / "handed"
    handed.mkdir()
    for path in (disk, easy.parent):
        path.rename(handed / path.name)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "undecided" and "other data are there" in str(found.plan.differences)


def test_a_link_of_the_commit_that_leads_to_the_data_is_such_a_path(tmp_path: Path) -> None:
    """Control: wherever the reviewer has them, since they are shown where the link leads."""
    author, disk = _author(tmp_path, ("tracked/one.txt", "above2/imagenet/one.txt"))
    (author.root / "tracked").symlink_to(disk / "imagenet")
    (author.root / "above2").symlink_to(disk)
    author.git("add", "-A"), author.git("commit", "-qm", "links")
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    handed = disk.rename(tmp_path / "handed")
    found = author.reproduce(run, data=handed)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].claims)


def test_data_that_are_found_under_the_name_of_a_module_are_named(tmp_path: Path) -> None:
    """As those that are declared under such a name: their text is in no commit."""
    author, disk = _author(tmp_path)
    (disk / "imagenet" / "one.txt").write_text("VALUE = 1\n")
    (author.root / "helper.py").symlink_to(disk / "imagenet" / "one.txt")
    (author.root / "train.py").write_text("import helper\nopen('o.txt', 'w').write(str(helper.VALUE))\n")
    (author.root / ".gitignore").write_text("runs\nhelper.py\n" + "\n".join(LINKS))
    author.git("commit", "-qam", "second")
    found = author.reproduce(author.record(outputs=("o.txt",), data=(disk / "imagenet",)))
    assert found.verdict == "identical"
    assert any("helper.py" in each.evidence for each in found.claims if each.name == "code of no commit")


def test_without_a_sandbox_what_cannot_be_shown_is_missing(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.symlink_to("disk")
    author, disk = _author(tmp_path, (str(other / "imagenet" / "one.txt"),))
    run = author.record(outputs=("o.txt",), data=(disk / "imagenet",))
    assert author.reproduce(run, sandbox="none", trust_code=True).verdict == "identical"
    other.unlink()
    found = author.reproduce(run, sandbox="none", trust_code=True)
    assert found.verdict == "undecided" and "nothing but a sandbox can show" in str(found.plan.differences)


def test_files_by_the_shell_s_name_of_the_working_folder_are_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``$PWD`` leads through a link, and the reviewer's program finds its own working folder by it."""
    absolute = str(tmp_path / "link" / "train.py")
    names = f"[os.environ['PWD'] + '/data.txt', {absolute!r}]"
    reads = READS.format(names=names).replace("import pathlib", "import os, pathlib")
    author = Stranger.make(tmp_path / "a", {".gitignore": "runs\ndata.txt\n", "train.py": reads})
    (author.root / "data.txt").write_text("0.5")
    (tmp_path / "link").symlink_to(author.root)
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    with current_folder(tmp_path / "link"):
        run = author.record(sys.executable, "train.py", outputs=("o.txt",))
    assert {file.path for file in ProgramRecord.of(manifest_of(run)).inputs} == {"train.py", "data.txt"}
    os.rename(author.root / "data.txt", tmp_path / "data.txt")
    (tmp_path / "link").unlink()  # nor is it there for the reviewer
    found = author.reproduce(run, data=tmp_path / "data.txt")
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].claims)
    assert statuses(found)["inputs"] == "checked"
    (code,) = (each for each in found.claims if each.name == "recorded code")
    assert f"{author.root}, {tmp_path / 'link'} is of the recorded code" in code.evidence
