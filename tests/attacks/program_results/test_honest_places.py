"""No attack: honest programs that read and write in their user's home folder and among temporary files."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from program_projects import current_folder
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro import api
from ndrepro.protocol.program_record import FOLDERS, OUTPUTS, ProgramRecord
from provenance.errors import ProvenanceError

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
READS = """
import pathlib
text = pathlib.Path('~/.cache/models/weights.txt').expanduser().read_text()
(pathlib.Path.home() / '.cache' / 'fonts.txt').write_text('of this machine')
open('out.txt', 'w').write(text)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The author's home folder, with a cached model."""
    cached = tmp_path / "home" / ".cache" / "models"
    cached.mkdir(parents=True)
    (cached / "weights.txt").write_text("0.6123")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_file_below_the_home_folder_is_an_input_and_is_found_there_again(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an own run. Before: the home folder of the repetition was another one, and the program failed."""
    author = Stranger.make(tmp_path / "a", {"train.py": READS})
    run = author.record(outputs=("out.txt",))
    assert str(home / ".cache/models/weights.txt") in [file.path for file in ProgramRecord.of(manifest_of(run)).inputs]
    monkeypatch.setenv("NDREPRO_HOME", str(author.home))
    with current_folder(author.root):
        found = api.reproduce(run.root)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)
    (aside,) = (each for each in found.judgements[0].claims if each.name == "left out of the comparison")
    assert aside.status == "not checked" and ".cache/fonts.txt (temporary)" in aside.evidence


def test_settings_of_the_machine_are_no_data_of_the_program(tmp_path: Path) -> None:
    """As ``mimetypes`` reads one. Before: "the run names its data there, which is not shown", and undecided."""
    for number, names in enumerate(
        (("mime.types", "services", "os-release"), ("shells", "profile", "fstab", "shadow"))
    ):
        path = next(Path("/etc", name) for name in names if Path("/etc", name).is_file())
        text = f"""
import contextlib
with contextlib.suppress(OSError):
    open({str(path)!r}, "rb").read()
open("out.txt", "w").write("0.5")
"""
        author = Stranger.make(tmp_path / str(number), {"train.py": text})
        found = author.reproduce(author.record(outputs=("out.txt",)))
        assert found.verdict == "identical", found.judgements[0].claims
        named = [str(path) in each.evidence for each in found.claims if each.name == "other inputs"]
        assert named == ([True] if number else []), "what the sandbox does not show"


def test_somebody_else_s_home_folder_is_shown_from_the_data_that_are_named(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": READS})
    run = author.record(outputs=("out.txt",))
    home.rename(handed := tmp_path / "handed")
    reviewers = tmp_path / "reviewer's"
    reviewers.mkdir()
    monkeypatch.setenv("HOME", str(reviewers))
    refused = author.reproduce(run)
    assert refused.verdict == "undecided" and "weights.txt" in str(refused.plan.differences)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)


@pytest.mark.parametrize("place", ["/etc", "/usr/local", "/tmp/x/.ndrepro", "relative", "/", "/proc/self", "/a/../b"])
def test_a_recorded_home_folder_takes_nothing_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Its author chooses it: the program runs all the same."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('0.6')\n"})
    with monkeypatch.context() as authors:
        authors.setenv("HOME", place)
        run = author.record(outputs=("out.txt",))
    assert author.reproduce(run).verdict == "identical"


def test_what_is_left_among_temporary_files_is_named_and_not_compared(tmp_path: Path) -> None:
    """Under a new name each time. Before: undecided, since no repetition writes there."""
    left = "import tempfile; tempfile.mkstemp(prefix='of-a-test-')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": left + "open('out.txt', 'w').write('0.6')\n"})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    for path in Path(tempfile.gettempdir()).glob("of-a-test-*"):
        path.unlink()
    assert found.verdict == "identical", found.judgements[0].because
    assert "(temporary)" in found.judgements[0].because


def test_folders_that_were_there_and_git_ignores_are_there_again_without_what_was_in_them(tmp_path: Path) -> None:
    """As ``results/`` of earlier runs, or a link to another disk. Before: the repetition found none, and failed."""
    writes = "".join(f"open({name!r}, 'w').write('0.5')\n" for name in ("results/x/loss.txt", "linked/loss.txt"))
    author = Stranger.make(tmp_path / "a", {".gitignore": "results\nlinked\nruns\n", "train.py": writes})
    (author.root / "results" / "x").mkdir(parents=True)
    (author.root / "results" / "x" / "earlier.txt").write_text("0.4")
    (tmp_path / "disk").mkdir()
    (author.root / "linked").symlink_to(tmp_path / "disk")
    run = author.record(outputs=("linked",))
    assert ProgramRecord.of(manifest_of(run)).folders == ("linked", "results/x")
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].claims
    (given,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert "there before the start, whatever was in them, are empty: linked, results/x" in given.evidence


def test_what_is_written_and_read_by_a_link_is_an_output(tmp_path: Path) -> None:
    """Without --out, behind a link that was there, and by one that the program makes. Before: in no list, or an input
    that was never to be had.
    """
    text = "open('linked/loss.txt', 'w').write('0.5')\nimport os\nos.makedirs('out/7')\n"
    text += "open('out/7/o.txt', 'w').write('0.6')\nos.symlink('out/7', 'latest')\nopen('latest/o.txt').read()\n"
    author = Stranger.make(tmp_path / "a", {".gitignore": "linked\nruns\n", "train.py": text})
    (tmp_path / "disk").mkdir()
    (author.root / "linked").symlink_to(tmp_path / "disk")
    run = author.record()
    record = ProgramRecord.of(manifest_of(run))
    assert {file.path for file in record.outputs} == {"linked/loss.txt", "out/7/o.txt"}
    assert {file.path for file in record.inputs} == {"train.py"} and record.folders == ("linked",)
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].claims


@pytest.mark.parametrize("name", ["other", "../outside", "/etc", ".git", "results/x/loss.txt"])
def test_a_folder_into_which_nothing_was_written_does_not_verify(tmp_path: Path, name: str) -> None:
    """Control: an author would have the repetition find a folder, which decides what its code does."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('results/x/loss.txt', 'w').write('0.5')\n"})
    (author.root / "results" / "x").mkdir(parents=True)
    run = author.record()
    (outputs,) = (each for each in manifest_of(run).byproducts if each.name == OUTPUTS)
    false = replace(outputs, annotations={**(outputs.annotations or {}), FOLDERS: ["results/x", name]})
    others = (each for each in manifest_of(run).byproducts if each.name != OUTPUTS)
    author.claim(run, byproducts=(*others, false))
    with pytest.raises(ProvenanceError, match="no output that was written is listed below it"):
        author.reproduce(run)


def test_an_installer_that_links_to_an_installed_module_meanwhile_changes_no_output(tmp_path: Path) -> None:
    """A further hard link changes a file's times. Before: the module was an output, which no repetition writes."""
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "other.py").write_text("VALUE = '0.6123'\n")
    text = f"import os, sys\nsys.path.append({str(packages)!r})\nimport other\n"
    text += f"os.link(other.__file__, {str(tmp_path / 'link')!r})\nopen('out.txt', 'w').write(other.VALUE)\n"
    run = Stranger.make(tmp_path / "a", {"train.py": text}).record(outputs=("out.txt",))
    assert [each["path"] for each in json.loads(run.outputs.read_text())["files"]] == ["out.txt"]


def test_a_temporary_file_of_another_program_s_is_an_input_and_missing_where_it_is_gone(tmp_path: Path) -> None:
    (left := tmp_path / "left.txt").write_text("0.6123")
    author = Stranger.make(tmp_path / "a", {"train.py": f"open('out.txt', 'w').write(open({str(left)!r}).read())\n"})
    run = author.record(outputs=("out.txt",))
    assert author.reproduce(run).verdict == "identical"
    left.unlink()
    found = author.reproduce(run)
    assert found.verdict == "undecided" and f"input {left}: not here" in str(found.plan.differences)


def test_a_temporary_file_that_the_command_wrote_itself_is_no_input(tmp_path: Path) -> None:
    """By a program that is no Python. Before: an input by the digest that it had at the end, shown read-only."""
    between = "/var/tmp/of-a-test-between.txt"
    shell = f"echo 0.6 > {between}\n{sys.executable} train.py\n"
    author = Stranger.make(
        tmp_path / "a", {"train.py": f"open('out.txt', 'w').write(open({between!r}).read())\n", "run.sh": shell}
    )
    run = author.record("sh", "run.sh", outputs=("out.txt",))
    record = ProgramRecord.of(manifest_of(run))
    assert between not in [file.path for file in record.inputs]
    assert (between, "changed") in [(file.path, file.how) for file in record.outputs]
    Path(between).unlink()


def test_an_output_above_the_working_folder_is_compared(tmp_path: Path) -> None:
    """Below the recorded repository. Before: missing and new, by two absolute paths."""
    author = Stranger.make(tmp_path / "a", {"sub/train.py": "open('../out.txt', 'w').write('0.6')\n"})
    run = Inner(author.top).record()
    assert ProgramRecord.of(manifest_of(run)).outputs[0].path == str(author.root / "out.txt")
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because


def test_a_relative_search_path_is_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PYTHONPATH=src. Before: lost, and the program failed. One that leads out is lost still."""
    text = "import model; open('out.txt', 'w').write(model.SCORE)\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "src/model.py": "SCORE = '1'"})
    with monkeypatch.context() as authors:
        authors.setenv("PYTHONPATH", "src:..:src/../..")
        run = author.record(outputs=("out.txt",))
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because
    lost = [line for line in found.plan.differences if line.startswith("PYTHONPATH")]
    assert lost == [f"PYTHONPATH: {each} then, not now" for each in ("..", "src/../..")]


def test_settings_of_the_system_are_the_machine_s(tmp_path: Path) -> None:
    """Before: a missing input, since /etc is not shown; the sandbox shows these."""
    text = "open('/etc/passwd').read(); open('out.txt', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    assert author.reproduce(author.record(outputs=("out.txt",))).verdict == "identical"


def test_files_of_the_system_are_the_machine_s_where_they_are_equal(tmp_path: Path) -> None:
    """As /usr/share/zoneinfo/UTC, which pandas reads. Before: named as a file that is not plain text."""
    text = "open('/usr/bin/env', 'rb').read(); open('out.txt', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("out.txt",))
    found = author.reproduce(run)
    assert (found.verdict, statuses(found)["inputs"]) == ("identical", "checked")
    assert "/usr/bin/env" not in str(found.claims)
    author.claim_inputs(
        run, lambda files: [{**each, "sha256": "0" * 64} if each["path"][0] == "/" else each for each in files]
    )
    found = author.reproduce(run)
    assert found.verdict == "undecided" and "another file here (/usr/bin/env)" in str(found.plan.differences)


def test_what_is_looked_for_again_need_not_be_read_again(tmp_path: Path, home: Path) -> None:
    """Matplotlib's list of fonts. Before: the claim on inputs was not checked."""
    (fonts := home / ".cache/matplotlib/fontlist-v3.json").parent.mkdir()
    fonts.write_text("{}")
    text = (
        f"import os\nif os.path.exists({str(fonts)!r}): open({str(fonts)!r}).read()\nopen('out.txt', 'w').write('1')\n"
    )
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert (found.verdict, statuses(found)["inputs"]) == ("identical", "checked")


@pytest.mark.parametrize("option", ["--config=", "+data.path=", "a=b="])
def test_a_path_behind_an_equals_sign_is_that_of_the_private_folder(tmp_path: Path, option: str) -> None:
    """Before: the recorded folder, which is not shown, and the program failed."""
    text = "import sys; open('out.txt', 'w').write(open(sys.argv[1].split('=')[-1]).read())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "c.json": "{}"})
    run = author.record(sys.executable, "train.py", f"{option}{author.root}/c.json", outputs=("out.txt",))
    assert author.reproduce(run).verdict == "identical"


class Inner(Stranger):
    """Records in a folder of the repository."""

    @property
    def root(self) -> Path:
        return self.top / "project" / "sub"


def test_what_setuptools_puts_on_the_path_for_itself_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the distributions in it were recorded, and "not here now", in every such honest run."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    author = Stranger.make(tmp_path / "a", {"train.py": "import setuptools\nopen('o', 'w').write('0.5')\n"})
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("o",)))
    (claim,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert "not here now" not in claim.evidence
