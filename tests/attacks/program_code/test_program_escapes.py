"""Attacks by a recorded program on whoever executes it again: what runs or is read outside of the sandbox."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of
from tiny_wheels import make_wheel

from ndrepro import api
from ndrepro.execution.environments.interpreters import find_python, run_uv
from ndrepro.execution.programs.declared_files import declared_files
from ndrepro.execution.sandbox.confinement import INSIDE, Confinement
from ndrepro.protocol.errors import EnvironmentMissing, SandboxError, UsageError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import write_json
from ndrepro.protocol.program_record import ProgramRecord
from provenance.attestation import packages
from provenance.attestation.manifest import SOURCE

WRITES = "open('out.txt', 'w').write('0.6')\n"
FILTER = ["config", "filter.evil.smudge", "sh -c 'echo escaped > {0}; cat'"]
needs_sandbox = pytest.mark.skipif(not CONFINED, reason="without a sandbox the code was allowed to do anything")


def test_a_recorded_interpreter_of_somebody_else_is_never_executed(tmp_path: Path) -> None:
    escaped = tmp_path / "escaped"
    evil = f'#!/bin/sh\necho escaped > {escaped}\nexec python3 "$@"\n'
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES, "bin/python3": evil})
    run = author.record(outputs=("out.txt",))
    seen = dict(manifest_of(run).internal_parameters)
    path = {**seen["interpreters"][0], "executable": "/proc/self/cwd/bin/python3"}  # the reviewer's clone of it
    author.claim(run, internal_parameters={**seen, "interpreters": [path]})
    author.reproduce(run)
    assert not escaped.exists()


FORGES_PROCESSES = """
import glob, json, os
open('out.txt', 'w').write('0.6')
folder = os.environ['NDREPRO_HOOK_OUT']
seen = json.load(open(glob.glob(folder + '/process-*.json')[0]))
for number in range(90000, 90005):
    forged = {**seen, 'pid': number, 'executable': '/proc/self/cwd/bin/python3', 'forked_from': None}
    forged['started_ns'] += number
    json.dump(forged, open(f"{folder}/process-{number}-{forged['started_ns']}.json", 'w'))
"""


def test_a_repetition_is_no_run_of_the_reviewer_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recorder signed it, with the interpreter that the confined program named."""
    escaped = tmp_path / "escaped"
    evil = f'#!/bin/sh\necho escaped > {escaped}\nexec python3 "$@"\n'
    author = Stranger.make(tmp_path / "a", {"train.py": FORGES_PROCESSES, "bin/python3": evil})
    (again,) = author.reproduce(author.record(outputs=("out.txt",))).folders
    review = tmp_path / "a" / "review"
    repetition = RunFolder(review / again)
    assert ProgramRecord.of(manifest_of(repetition)).interpreters[0].executable == "/proc/self/cwd/bin/python3"
    monkeypatch.setenv("NDREPRO_HOME", str(author.reviewer))
    monkeypatch.chdir(review)
    api.reproduce(repetition.root, trust_code=not CONFINED)
    assert not escaped.exists()


def test_the_interpreter_of_an_own_run_is_not_the_program_s_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's program, which the reviewer recorded himself, names a file of his clone of it."""
    escaped = tmp_path / "escaped"
    evil = f'#!/bin/sh\necho escaped > {escaped}\nexec python3 "$@"\n'
    reviewer = Stranger.make(tmp_path / "a", {"train.py": FORGES_PROCESSES, "bin/python3": evil})
    run = reviewer.record(outputs=("out.txt",))
    assert ProgramRecord.of(manifest_of(run)).interpreters[0].executable == "/proc/self/cwd/bin/python3"
    monkeypatch.setenv("NDREPRO_HOME", str(reviewer.home))
    monkeypatch.chdir(reviewer.root)
    assert api.reproduce(run.root, trust_code=not CONFINED).verdict == "identical"
    assert not escaped.exists()


def test_a_recorded_version_of_python_is_no_option_of_uv_s(tmp_path: Path) -> None:
    """uv would go to the folder that it names, and start the Python of the environment there."""
    escaped, evil = tmp_path / "escaped", tmp_path / "evil" / ".venv" / "bin" / "python"
    evil.parent.mkdir(parents=True)
    (evil.parents[1] / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.11.7\n")
    evil.write_text(f'#!/bin/sh\necho escaped > {escaped}\nexec python3 "$@"\n')
    evil.chmod(0o755)
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    seen = dict(manifest_of(run).internal_parameters)
    option = f"--directory={evil.parents[2]}"
    author.claim(run, internal_parameters={**seen, "interpreters": [{**seen["interpreters"][0], "version": option}]})
    with pytest.raises(UsageError, match="ran no Python"):
        author.reproduce(run, rebuild_env=True)
    with pytest.raises(EnvironmentMissing, match="no version of Python"):
        find_python(option)
    assert not escaped.exists()


@needs_sandbox
def test_no_recorded_path_leads_out_of_the_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH names a tracked link, and a path that is below the repository by its words; so is an input."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "diary.txt").write_text("dear diary")
    text = f"""
import os
open('out.txt', 'w').write('0.6')
if not os.path.exists({str(tmp_path / "a" / "author")!r}):
    open('seen.txt', 'w').write(str(os.path.exists({str(private / "diary.txt")!r})))
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text, "src/a.py": ""})
    (author.root / "vendor").symlink_to(private)
    author.git("add", "-A")
    author.git("commit", "-qm", "second")
    src, link = str(author.root / "src"), str(author.root / "vendor")
    above = f"{author.root}{'/..' * 20}{author.root}/vendor"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([src, link, above]))
    run = author.record(sys.executable, "train.py", "vendor/diary.txt", outputs=("out.txt", "seen.txt"))
    monkeypatch.delenv("PYTHONPATH")
    author.claim(run, {"outputs": ["seen.txt"]})
    found = author.reproduce(run)
    again = RunFolder(tmp_path / "a" / "review" / found.folders[0])
    assert (again.output_copies / "seen.txt").read_text() == "False"
    differences = found.plan.differences
    assert [line for line in differences if "PYTHONPATH" in line] == [
        f"PYTHONPATH: {each} then, not now" for each in (link, above)
    ]
    assert any("vendor/diary.txt: a link of the recorded code leads out of it" in line for line in differences)


def test_no_folder_is_made_outside_of_the_private_one(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    elsewhere = (
        replace(each, annotations={**(each.annotations or {}), "root": str(outside)}) if each.name == SOURCE else each
        for each in manifest_of(run).dependencies
    )
    below = f"{outside}{'/..' * 20}{outside}/made"
    author.claim(run, {"workingFolder": below}, dependencies=tuple(elsewhere))
    with pytest.raises(UsageError, match="no path that a recorder writes"):
        author.reproduce(run)
    assert not list(outside.iterdir())


@needs_sandbox
def test_git_is_not_asked_about_what_a_program_left(tmp_path: Path) -> None:
    """A repository with a filter, and the metadata of an editable installation that lead to it."""
    escaped = tmp_path / "escaped"
    text = f"""
import json, os, pathlib, subprocess
open('out.txt', 'w').write('0.6')
if not os.path.exists({str(tmp_path / "a" / "author")!r}):
    source = pathlib.Path('source')
    source.mkdir()
    def git(*words):
        subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words], cwd=source, check=True)
    git('init', '-q')
    (source / 'a.txt').write_text('1')
    (source / '.gitattributes').write_text('a.txt filter=evil')
    git('add', '.')
    git('commit', '-qm', 'x')
    (source / 'a.txt').write_text('2')
    git({FILTER[0]!r}, {FILTER[1]!r}, {FILTER[2].format(escaped)!r})
    info = pathlib.Path('evil-1.0.dist-info')
    info.mkdir()
    (info / 'METADATA').write_text('Name: evil\\nVersion: 1.0\\n')
    (info / 'RECORD').write_text('')
    url = 'file://' + str(source.resolve())
    (info / 'direct_url.json').write_text(json.dumps({{'url': url, 'dir_info': {{'editable': True}}}}))
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    author.reproduce(author.record(outputs=("out.txt",)))
    assert not escaped.exists()


def test_git_is_not_asked_in_a_tree_that_is_a_repository(tmp_path: Path) -> None:
    escaped = tmp_path / "escaped"
    inner = Stranger.make(tmp_path / "inner", {"a.txt": "1", ".gitattributes": "a.txt filter=evil"})
    inner.git(*(word.format(escaped) for word in FILTER))
    inner.git("config", "core.worktree", ".")
    repository = inner.root / ".git"
    kept = [path for path in repository.rglob("*") if path.is_file() and path.name != "index"]
    tree: dict[str, str | bytes] = {
        str(path.relative_to(repository)): path.read_bytes() for path in kept if "hooks" not in path.parts
    }
    author = Stranger.make(
        tmp_path / "a", {"train.py": WRITES, "a.txt": "2", ".gitattributes": "a.txt filter=evil", **tree}
    )
    found = author.reproduce(author.record(outputs=("out.txt",)), repository=author.root)
    assert found.verdict == "identical" and not escaped.exists()


@pytest.mark.slow
def test_programs_of_a_rebuilt_environment_are_none_of_the_recorder_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped, index = tmp_path / "escaped", tmp_path / "index"
    index.mkdir()
    make_wheel(index, "tinydep", "1.0")
    (wheel,) = index.iterdir()
    with zipfile.ZipFile(wheel, "a") as archive:
        script = zipfile.ZipInfo("tinydep-1.0.data/scripts/git")
        script.external_attr = 0o755 << 16
        archive.writestr(script, f'#!/bin/sh\necho escaped > {escaped}\nexec /usr/bin/git "$@"\n')
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    place = tmp_path / "environment"
    assert run_uv("venv", "--no-project", str(place)).returncode == 0
    assert run_uv("pip", "install", "--python", str(place / "bin" / "python"), "tinydep").returncode == 0
    author = Stranger.make(tmp_path / "a", {"train.py": f"import tinydep\n{WRITES}"})
    run = author.record(str(place / "bin" / "python"), "train.py", outputs=("out.txt",))
    found = author.reproduce(run, rebuild_env=True)
    assert found.verdict == "identical" and not escaped.exists()


@pytest.mark.slow
def test_no_setting_of_the_reviewer_s_has_uv_execute_what_it_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To compile bytecode, uv starts the new environment's Python, which executes a wheel's ``.pth`` file; and packages
    may be named that it is to build. Before: executed outside of the sandbox, "identical"."""
    escaped, index, settings = tmp_path / "escaped", tmp_path / "index", tmp_path / "settings"
    for folder in (index, settings / "uv", tmp_path / "tinydep-1.0"):
        folder.mkdir(parents=True)
    escapes = f"import os; os.system('touch {escaped}')\n"
    make_wheel(index, "tinydep", "1.0", more={"tinydep.pth": escapes})
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    place = tmp_path / "environment"
    assert run_uv("venv", "--no-project", str(place)).returncode == 0
    assert run_uv("pip", "install", "--python", str(place / "bin" / "python"), "tinydep").returncode == 0
    author = Stranger.make(tmp_path / "a", {"train.py": f"import tinydep\n{WRITES}"})
    run = author.record(str(place / "bin" / "python"), "train.py", outputs=("out.txt",))
    for name, text in {"setup.py": escapes, "PKG-INFO": "Metadata-Version: 2.1\nName: tinydep\nVersion: 1.0\n"}.items():
        (tmp_path / "tinydep-1.0" / name).write_text(text)
    with tarfile.open(index / "tinydep-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "tinydep-1.0", "tinydep-1.0")
    escaped.unlink()
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    assert author.reproduce(run, rebuild_env=True).verdict == "identical" and not escaped.exists()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings))
    (settings / "uv" / "uv.toml").write_text("[pip]\ncompile-bytecode = true\n")
    assert author.reproduce(run, rebuild_env=True).verdict == "identical" and not escaped.exists()
    for wrong in ('no-binary = ["tinydep"]', 'only-binary = [":none:"]', f'target = "{tmp_path / "mine"}"'):
        (settings / "uv" / "uv.toml").write_text(f"[pip]\n{wrong}\n")
        assert author.reproduce(run, rebuild_env=True).verdict == "identical", wrong
    assert not escaped.exists() and not (tmp_path / "mine").exists()


@pytest.mark.parametrize("table", ["", "[pip]"])
def test_where_packages_come_from_is_the_reviewer_s_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The control: of the own settings those count that name an index; no other decides where uv installs."""
    index, place = tmp_path / "index", tmp_path / "environment"
    (tmp_path / "uv").mkdir()
    index.mkdir()
    make_wheel(index, "tinydep", "1.0")
    settings = [f'find-links = ["{index}"]', "no-index = true", f'cache-dir = "{tmp_path / "cache"}"']
    top = settings[2:] if table else settings
    below = [table or "[pip]", *(settings[:2] if table else []), f'target = "{tmp_path / "mine"}"']
    named = ["[[index]]", 'name = "own"', f'url = "{index.as_uri()}"', 'format = "flat"', "authenticate = 'never'"]
    (tmp_path / "uv" / "uv.toml").write_text("\n".join([*top, *named, *below]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run_uv("venv", "--no-project", str(place)).returncode == 0
    done = run_uv("pip", "install", "--python", str(place / "bin" / "python"), "tinydep")
    assert done.returncode == 0 and [*place.glob("lib/python*/site-packages/tinydep*")], done.stderr
    assert not (tmp_path / "mine").exists()


def test_uv_obeys_no_configuration_of_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.toml").write_text("no TOML")
    below = tmp_path / "below"
    below.mkdir()
    for place in (tmp_path, below):
        monkeypatch.chdir(place)
        assert run_uv("python", "find", "--no-project").returncode == 0


def test_a_name_leads_no_repetition_out_of_the_folder_of_runs(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    author.claim(run, {"name": "../../outside"})
    with pytest.raises(UsageError, match="no name for a folder of runs"):
        author.reproduce(run)
    assert not list(tmp_path.rglob("outside"))


def test_no_link_glob_or_path_of_a_program_shows_a_file_of_the_reviewer_s(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "diary.csv").write_text("dear,diary\nI,confess\n")
    home = tmp_path / "a" / "reviewer"
    text = f"""
import os, pathlib
if os.path.exists({str(tmp_path / "a" / "author")!r}):
    pathlib.Path('m.csv').write_text('a,b\\n1,2\\n')
    pathlib.Path('out.txt').write_text('0.6')
else:
    os.symlink({str(private / "diary.csv")!r}, 'm.csv')
    os.symlink({str(private / "diary.csv")!r}, 'out.txt')
    os.symlink({str(home)!r}, 'keys')
    for path in ({str(private / "diary.csv")!r}, {str(home / "signing-key.pem")!r}):
        for mode in 'rw':
            try:
                open(path, mode)
            except OSError:
                pass
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("out.txt", "keys/*", f"{home}/*"), metrics=("m.csv",))
    found = author.reproduce(run)
    again = RunFolder(tmp_path / "a" / "review" / found.folders[0])
    assert found.verdict == "undecided" and not again.metrics.exists() and not again.output_copies.exists()
    for document in (again.outputs, again.inputs):
        assert "diary" not in document.read_text() and "signing-key" not in document.read_text()


def test_recorded_inputs_ask_nothing_about_the_reviewer_s_files(tmp_path: Path) -> None:
    """Many digests of one path would say which content it has; a folder that others may write would be a way out."""
    hidden, shared = tmp_path / ".config", tmp_path / "shared"
    for place in (hidden, shared):
        place.mkdir()
        (place / "pin.txt").write_text("42")
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    paths = [str(place / "pin.txt") for place in (hidden, shared)]
    run = author.record(sys.executable, "train.py", *paths, outputs=("out.txt",), data=(shared,))
    shared.chmod(0o777)
    found = author.reproduce(run)
    inputs = next(item for item in found.judgements[0].claims if item.name == "inputs")
    assert inputs.status == "not checked" and inputs.evidence.startswith("1 of 3 that"), inputs.evidence
    assert "hidden folders" in str(found.plan.differences) and "everybody may write" in str(found.plan.differences)


@needs_sandbox
def test_recorded_variables_reach_nothing_outside_of_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TZ names a FIFO of the reviewer's: what made the sandbox opened it, outside, and hung for good."""
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    monkeypatch.setenv("TZ", "UTC")
    run = author.record(outputs=("out.txt",))
    monkeypatch.delenv("TZ")
    os.mkfifo(tmp_path / "fifo")
    document = json.loads(run.environment.read_text())
    document["variables"]["recorded"]["TZ"] = f":{tmp_path / 'fifo'}"
    write_json(run.environment, document)
    author.claim(run, machine={**manifest_of(run).machine, **packages.machine(document, {})})
    assert author.reproduce(run).verdict == "identical"


@pytest.mark.parametrize(
    "recorded",
    ["/.ndrepro", "/.ndrepro/x", "/tmp", "/tmp/.local/lib/python3.11/site-packages", "/opt/env/pyvenv.cfg", "/"],
)
def test_data_of_the_author_s_take_no_place_that_the_sandbox_or_python_looks_at(tmp_path: Path, recorded: str) -> None:
    """Handed over as a folder, and named by the reviewer: the first process of the sandbox was the author's own."""
    data = tmp_path / "set"
    data.mkdir()
    (data / "inside.py").write_text("print('0.9999')\n")
    with pytest.raises(SandboxError, match="cannot be shown as"):
        Confinement((), (), Path("/"), mapped={Path(recorded): data}).words(INSIDE)
    shown = Confinement((), (), Path("/"), mapped={Path("/tmp/sets/a"): data}).words(INSIDE)
    assert "/tmp/sets/a" in shown and str(INSIDE) in shown, "the control"


def test_globs_of_an_author_s_are_not_looked_for_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "other.txt").touch(), (tmp_path / "place" / "own.txt").touch()
    globs = [f"{tmp_path}/**/*", "../**/*", "*/../../**/*", "*.txt"]
    assert [*declared_files(tmp_path / "place", globs).files] != ["own.txt"], "the control"
    found = declared_files(tmp_path / "place", globs, within=[tmp_path.resolve()])
    assert [*found.files] == ["own.txt"] and len(found.unmatched) == 3


@needs_sandbox
def test_a_program_that_cannot_be_confined_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('1')\n"})
    run = author.record(outputs=("out.txt",))
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(SandboxError):
        author.reproduce(run)


def test_a_command_with_a_nul_character_is_refused(tmp_path: Path) -> None:
    """In the manifest itself, and behind the bytes of a word that is not UTF-8. Before: called a defect of ndrepro."""
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    for word in ("a\0b", "[bytes:ff00]"):
        author.claim(run, {"command": [sys.executable, "train.py", word]})
        with pytest.raises(UsageError, match="NUL character"):
            author.reproduce(run)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/" + "y/" * 3000])
def test_a_recorded_path_that_no_file_can_have_is_refused(tmp_path: Path, path: str) -> None:
    """Before: called a defect of ndrepro."""
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    author.claim_inputs(run, lambda files: [*files, {"path": path, "how": "opened", "size": 1, "sha256": "0" * 64}])
    with pytest.raises(UsageError, match="no file can have"):
        author.reproduce(run)


def test_a_glob_that_looks_through_the_code_again_and_again_is_refused(tmp_path: Path) -> None:
    """In folders that are nested deeply it takes longer than anybody waits."""
    author = Stranger.make(tmp_path / "a", {"train.py": WRITES})
    run = author.record(outputs=("out.txt",))
    author.claim(run, {"outputs": ["**/" * 12 + "nothing"]})
    with pytest.raises(UsageError, match="more than 3 times"):
        author.reproduce(run)


NAMES_A_NUL = """
import glob, os
open('out.txt', 'w').write('0.6')
(mine,) = glob.glob(os.environ['NDREPRO_HOOK_OUT'] + '/opened-*')
open(mine, 'a').write('{"path":"/a\\\\u0000b","mode":"w"}\\n')
"""


def test_an_opened_path_with_a_nul_character_is_no_entry(tmp_path: Path) -> None:
    """Before: nothing was judged, for a defect of ndrepro."""
    author = Stranger.make(tmp_path / "a", {"train.py": NAMES_A_NUL})
    assert author.reproduce(author.record(outputs=("out.txt",))).verdict == "identical"
