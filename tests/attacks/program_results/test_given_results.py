"""Attacks: results that no code computes, which reach a repetition by what the author hands in or records.

The verdict is "identical", since the code does write them; each row is named by a claim that is not "checked".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from program_projects import current_folder
from strange_programs import CONFINED, Stranger

from ndrepro import api
from ndrepro.execution.programs.command import resolve_command
from ndrepro.execution.programs.program_run import ProgramRequest, record_program
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.reproduction import outputs_computed

RESULT = "accuracy 0.9999\n"


def evidence(found: api.Reproduction, name: str) -> str:
    """What a claim says that is not checked."""
    (claim,) = (each for each in (*found.claims, *found.judgements[0].claims) if each.name == name)
    assert (found.verdict, claim.status) == ("identical", "not checked")
    return claim.evidence


@pytest.mark.parametrize("name", ["node_modules/r.txt", ".ipynb_checkpoints/r.txt", "venv/r.txt", "large.txt"])
def test_a_committed_result_is_named_wherever_it_is_and_however_large(tmp_path: Path, name: str) -> None:
    """Before: folders that hold no results of a recording were not looked through, nor files of more than 1 MiB."""
    text = RESULT * 90_000 if name == "large.txt" else RESULT
    files = {"train.py": f"import shutil; shutil.copyfile({name!r}, 'o')\n", name: text, "venv/pyvenv.cfg": ""}
    author = Stranger.make(tmp_path / "a", files)
    assert f"o is {name}" in evidence(author.reproduce(author.record(outputs=("o",))), "outputs computed")


def test_a_result_among_the_inputs_is_named(tmp_path: Path) -> None:
    """Before: what was shown where it is, outside of the code, was not looked at."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels.txt").write_text(RESULT)
    text = f"open('o', 'w').write(open({str(data / 'labels.txt')!r}).read())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    found = author.reproduce(author.record(outputs=("o",), data=(data,)), data=data)
    assert f"o is {data / 'labels.txt'}" in evidence(found, "outputs computed")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(".")])
def test_a_result_that_is_the_name_of_a_folder_without_files_is_named(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Declared data are compared by the digests of their files, and such a folder has none."""
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "x.txt").write_text("1\n")
    make(data / "0.9999")
    text = f"import os; open({str(data / 'train' / 'x.txt')!r}); open('o', 'w').write(min(os.listdir({str(data)!r})))\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("o",), data=(data,))
    assert f"folders without files: {data}: 0.9999; " in evidence(author.reproduce(run, data=data), "inputs")
    (data / "0.9999").unlink() if (data / "0.9999").is_symlink() else (data / "0.9999").rmdir()
    assert author.reproduce(run, data=data).verdict == "undecided"


@pytest.mark.parametrize(
    "words", ["/proc/self/cwd/labels.txt", "../../project/labels.txt", "sub/up/../../labels.txt"], ids=str
)
def test_data_with_a_link_that_leads_out_are_not_available(tmp_path: Path, words: str) -> None:
    """To the file with the recorded digest where it is compared, and to another in the sandbox. Before: "identical"."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "x.txt").write_text("1\n")
    (data / "sub" / "up").symlink_to("..")
    (data / "labels.txt").symlink_to(words)
    (tmp_path / "labels.txt").write_text("0.5\n")
    text = f"open('o', 'w').write(open({str(data / 'labels.txt')!r}).read())\n"
    author = Stranger.make(tmp_path, {"train.py": text, "labels.txt": "0.5\n"})
    found = author.reproduce(author.record(outputs=("o",), data=(data,)), data=data)
    (inputs,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert found.verdict == "undecided" and "a link that leads out of them: labels.txt" in inputs.evidence


def test_links_that_stay_in_the_data_are_named(tmp_path: Path) -> None:
    """What a link is called, and what it leads to by which words, is in no digest."""
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "x.txt").write_text("1\n")
    (data / "sub" / "link.txt").symlink_to("../sub/x.txt")
    (data / "absolute.txt").symlink_to(data / "sub" / "x.txt")
    author = Stranger.make(
        tmp_path / "a", {"train.py": f"open('o', 'w').write(open({str(data / 'sub/link.txt')!r}).read())\n"}
    )
    found = author.reproduce(author.record(outputs=("o",), data=(data,)), data=data)
    assert f"{data}: absolute.txt, {data}: sub/link.txt; " in evidence(found, "inputs")


@pytest.mark.skipif(not CONFINED, reason="without a sandbox the home folder is the reviewer's")
@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("OMP_RESULT", "0.9999", "os.environ['OMP_RESULT']"),
        ("HOME", "/home/0.9999", "os.environ['HOME']"),
        ("OMP_RESULT", "0.9999", "dict(os.environ)['OMP_RESULT']"),
        ("OMP_RESULT", "0.9999", "open('/proc/self/environ').read().split('OMP_RESULT=')[1].split(chr(0))[0]"),
        ("PYTHONINTMAXSTRDIGITS", "9999", "str(sys.flags.int_max_str_digits)"),
        ("TZ", "<+9999>0", "time.tzname[0]"),
    ],
    ids=["asked for", "home", "copied", "of the kernel", "flag", "zone"],
)
def test_a_result_in_a_recorded_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: str
) -> None:
    """As an argument is, which the command shows. Before: where it was read as Python code mostly does."""
    text = f"import os, sys, time; open('o', 'w').write({read})\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    with monkeypatch.context() as authors:
        authors.setenv(name, value)
        run = author.record(outputs=("o",))
    assert f", variable {name}" in evidence(author.reproduce(run), "outputs computed")


@pytest.mark.skipif(not CONFINED, reason="without a sandbox the home folder is the reviewer's")
def test_a_home_folder_of_the_recorded_code_is_named_whatever_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python executes start-up files there. Before: not where the reviewer's home folder has this path."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.5')\n"})
    monkeypatch.setenv("HOME", str(author.root))
    run = author.record(outputs=("o",))
    assert "variable HOME" in evidence(author.reproduce(run), "outputs computed")


def test_a_working_folder_that_the_recorded_code_does_not_have_is_named(tmp_path: Path) -> None:
    """As if the honest script of that name had run. Before: the one at the top was executed, and no folder named."""
    files = {"train.py": "open('o', 'w').write('0.9999')\n", "experiments/train.py": "open('o', 'w').write('0.5')\n"}
    author = Stranger.make(tmp_path / "a", files)
    run = author.record(outputs=("o",))
    author.claim_inputs(run, lambda files: [])
    author.claim(run, asked={"workingFolder": (said := f"{author.root}-work/experiments")})
    assert f"folder {said}, which is not in the recorded code" in evidence(author.reproduce(run), "outputs computed")


def test_a_result_in_the_name_of_the_run_or_of_its_folder_is_named(tmp_path: Path) -> None:
    """The run's name is in a path of the hook's; a folder without files is in no commit. Before: in no claim."""
    text = "import os; open('o', 'w').write(os.environ['NDREPRO_HOOK_OUT'] + os.getcwd())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text.replace("open('o', 'w').write", "open('o', 'w'), len")})
    (author.root / "folder-0.9999").mkdir()
    with current_folder(author.root / "folder-0.9999"):
        command = resolve_command((sys.executable, "../train.py"), "run-0.9999")
        request = ProgramRequest(command, outputs=("o",), trail="off")
        run = record_program(request, RunsFolder(author.top / "runs"), author.home).folder
    named = evidence(author.reproduce(run), "outputs computed")
    assert f" name run-0.9999, folder {author.root}/folder-0.9999, trail off" in named


def test_a_result_in_a_search_path_that_is_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Stranger.make(
        tmp_path / "a", {"train.py": "import sys; open('o', 'w').write(str('0.9999' in sys.path[1]))\n"}
    )
    with monkeypatch.context() as authors:
        authors.setenv("PYTHONPATH", "0.9999")
        run = author.record(outputs=("o",))
    assert ", PYTHONPATH 0.9999" in evidence(author.reproduce(run), "outputs computed")


def test_a_result_in_the_trail_that_was_asked_for_is_named(tmp_path: Path) -> None:
    """Behind more other words than a claim used to name."""
    author = Stranger.make(
        tmp_path / "a", {"train.py": "import os; open('o', 'w').write(os.environ['NDREPRO_HOOK_TRAIL'])\n"}
    )
    assert " trail every=9999" in evidence(
        author.reproduce(author.record(outputs=("o",), trail="every=9999")), "outputs computed"
    )


def test_a_result_in_the_mode_of_an_untracked_copy_is_not_there(tmp_path: Path) -> None:
    """It is in no digest; the content says whether a file is to be executed."""
    text = "import os\nopen('o', 'w').write(f'0.{[os.access(name, os.X_OK) for name in (\"u.txt\", \"u.sh\")]}')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, ".gitignore": "runs\no\n"})
    for name, content in (("u.txt", "1\n"), ("u.sh", "#!/bin/sh\n")):
        (author.root / name).write_text(content)
        (author.root / name).chmod(0o755)
    run = author.record(outputs=("o",))
    assert (author.root / "o").read_text() == "0.[True, True]", "the control"
    (code,) = (each for each in author.reproduce(run).claims if each.name == "recorded code")
    assert "; untracked: u.sh, u.txt" in code.evidence, "before, of many only the first were shown"
    found = (author.top / "review" / "runs" / "fit").glob("*/outputs/o")
    assert sorted(path.read_text() for path in found) == ["0.[False, True]", "0.[True, True]"]


def test_inputs_of_no_commit_are_named_and_written_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Else their times and inodes have the order that the record says."""
    text = "open('o', 'w').write(open('b.json').read() + open('a.json').read())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "a.json": "1", "b.json": "2"})
    shutil.rmtree(author.root / ".git")
    run = author.record(outputs=("o",))
    author.claim_inputs(run, lambda files: files[::-1])
    named = evidence(author.reproduce(run, clone=False), "outputs computed")
    assert named.endswith("input a.json, input b.json")


@pytest.mark.parametrize(("many", "found"), [("", True), ("1", False)], ids=["empty", "small"])
def test_many_files_hide_no_copied_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: str, found: bool
) -> None:
    """The smallest are read first, as far as a limit. Before: nothing said that the others were not compared."""
    monkeypatch.setattr(outputs_computed, "_EARLIER_FILES", 5)
    text = "open('o', 'w').write(open('committed.txt').read())\n"
    files = {"train.py": text, "committed.txt": RESULT, **{f"many/{number}": many for number in range(9)}}
    author = Stranger.make(tmp_path / "a", files)
    named = evidence(author.reproduce(author.record(outputs=("o",))), "outputs computed")
    assert ("o is committed.txt" in named) == found
    assert ("files of code and inputs were not compared with them" in named) != found


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_a_result_in_the_recorded_name_of_an_input_is_named(tmp_path: Path) -> None:
    """The reviewer was given it under another name."""
    handed = tmp_path / "handed"
    handed.mkdir()
    text = "import os; (name,) = os.listdir('data'); open(f'data/{name}').read(); open('o', 'w').write(name)\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, ".gitignore": "runs\ndata\n"})
    (author.root / "data").mkdir()
    (author.root / "data" / "0.9999").write_text("pixels\n")
    run = author.record(outputs=("o",))
    (author.root / "data" / "0.9999").rename(handed / "pixels.txt")
    named = evidence(author.reproduce(run, data=handed), "outputs computed")
    assert f"{author.root / 'data' / '0.9999'}: from {handed / 'pixels.txt'}" in named


def test_a_copy_with_more_behind_it_is_named_in_a_folder_of_the_code_too(tmp_path: Path) -> None:
    """Before: outputs were looked for at the top of the code."""
    text = "open('o', 'w').write(open('committed.txt').read() + '.')\n"
    author = Stranger.make(tmp_path / "a", {"sub/train.py": text, "sub/committed.txt": RESULT})
    with current_folder(author.root / "sub"):
        request = ProgramRequest(resolve_command((sys.executable, "train.py")), outputs=("o",), trail="off")
        run = record_program(request, RunsFolder(author.top / "runs"), author.home).folder
    assert "sub/o begins with sub/committed.txt" in evidence(author.reproduce(run), "outputs computed")


# as nbclient does: a cell with the tag is left out, and keeps the outputs that it has
EXECUTE = """
import datetime, json
notebook = json.load(open("n.ipynb"))
for cell in notebook["cells"]:
    if "skip-execution" not in cell["metadata"].get("tags", []):
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["0.1\\n"]}]
        cell["metadata"]["execution"] = {"iopub.execute_input": datetime.datetime.now().isoformat()}
json.dump(notebook, open("o.ipynb", "w"))
"""


def test_a_notebook_whose_cells_may_not_be_executed_is_named(tmp_path: Path) -> None:
    """Before: "identical", with a number that the shown code of the cell does not print."""
    stored = {"output_type": "stream", "name": "stdout", "text": "0.9999\n"}
    cell = {"cell_type": "code", "metadata": {"tags": ["skip-execution"]}, "outputs": [stored], "source": "print(0.1)"}
    text = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    author = Stranger.make(tmp_path / "a", {"train.py": EXECUTE, "n.ipynb": text})
    found = author.reproduce(author.record(outputs=("o.ipynb",)))
    assert "a notebook, whose metadata are not shown (1): n.ipynb" in evidence(found, "files that are not plain text")


def test_the_log_of_a_committed_run_that_a_script_copies_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: metrics were in no claim but their own, which is "checked"."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    home = tmp_path / "a" / "author"
    text = f"""
import os, shutil
import ndrepro
if os.path.exists({str(home)!r}):
    with ndrepro.record(name="fit", home={str(home)!r}) as run:
        run.log(step=1, accuracy=0.9999)
else:
    shutil.copytree("old", "runs/fit/new")
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    for _ in range(2):
        subprocess.run([sys.executable, "train.py"], cwd=author.root, check=True)
        (run,) = (author.root / "runs" / "fit").iterdir()
        if not (author.root / "old").exists():
            run.rename(author.root / "old")
            author.git("add", "-A", "-f", "old"), author.git("commit", "-qm", "a run")
    assert "is old/metrics.jsonl" in evidence(author.reproduce(RunFolder(run)), "outputs computed")


def test_what_looks_like_something_else_is_spelled_in_claims(tmp_path: Path) -> None:
    """Cyrillic letters in the command and in the name of a branch. Before: printed as they are, or not at all."""
    text = "import sys; open('o', 'w').write('0.95' if sys.argv[1] == 'le\u0430ked' else '0.61')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    author.git("checkout", "-qb", "cle\u0430ned")
    found = author.reproduce(author.record(sys.executable, "train.py", "le\u0430ked", outputs=("o",)))
    claims = {each.name: each.evidence for each in (*found.claims, *found.judgements[0].claims)}
    assert found.verdict == "identical"
    assert "train.py 'le\\u0430ked'" in claims["recorded code"]
    assert "branch cle\\u0430ned" in claims["outputs computed"]


def test_rows_that_were_committed_and_are_left_in_place_are_named(tmp_path: Path) -> None:
    """One row is written over, the others stay: the file is another, and does not begin as it was."""
    rows = "".join(json.dumps({"epoch": number, "accuracy": 0.9999}) + "\n" for number in range(4))
    text = "with open('log.jsonl', 'r+') as log: log.write('{\"epoch\": 0, \"accuracy\": 0.6123}\\n')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "log.jsonl": rows})
    run = author.record(metrics=("log.jsonl",))
    assert len(run.metrics.read_text().splitlines()) == 4, "the control"
    words = evidence(author.reproduce(run), "outputs computed")
    assert "log.jsonl was another file, of which parts may be left" in words


def test_a_file_that_could_not_be_made_was_not_replaced(tmp_path: Path) -> None:
    """Before: what an opening that failed would have made new counted as new, with the rows that were committed."""
    row = '{"epoch": 0, "accuracy": 0.9999}\n'
    text = f"""
try:
    open('log.jsonl', 'x')
except FileExistsError:
    open('log.jsonl', 'a').write({row!r}.replace('0,', '1,'))
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text, "log.jsonl": row})
    run = author.record(metrics=("log.jsonl",))
    assert [json.loads(line)["epoch"] for line in run.metrics.read_text().splitlines()] == [1]
