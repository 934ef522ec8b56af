"""Attack: what a program starts, or the command itself, is seen by nobody, and the environment is "checked"."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from strange_programs import Stranger

from ndrepro.api import Reproduction
from provenance.observation import collection
from provenance.observation.process_record import read_processes

CHILD = "#!/usr/bin/python3 -I\nprint('0.9999')\n"
# a word that names each -> how it is started; none of the programs needs to be there to be seen
UNSEEN = {
    "a shell": "os.system('true a shell')",
    "a shell of subprocess": "run('true a shell of subprocess', shell=True)",
    "another language": "run(['perl', '-e', '1', 'another language'])",
    "a script": "run(['./child.py', 'a script'])",
    "a tool of that name": "run(['uname', 'a tool of that name'], env={**os.environ, 'PATH': f'{os.getcwd()}/bin'})",
    "in another folder": "run(['uname', 'in another folder'], cwd='bin', env={**os.environ, 'PATH': '.:/usr/bin'})",
    "in the place of its first word": "run(['uname', 'in the place of its first word'], executable='/bin/sh')",
    "a value before -I": "run([sys.executable, '--check-hash-based-pycs', 'always', '-I', 'a value before -I'])",
    "joined letters": "run([sys.executable, '-uI', 'joined letters'])",
    "another Python": "sys.executable = './child.py'; run([sys.executable, 'another Python'])",
    "another list": "run([PYTHON, 'another list'], env={**os.environ, 'NDREPRO_HOOK_OUT': '/nowhere'})",
    "another hook": "run([PYTHON, 'another hook'], env={**os.environ, 'PYTHONPATH': f'bin:{PATH}'})",
    "settings of git": "run(['git', '-c', 'core.pager=cat', 'log', 'settings of git'])",
    "a variable of git": "run(['git', 'diff', 'a variable of git'], env={**os.environ, 'GIT_EXTERNAL_DIFF': 'sh'})",
    "an editor": "run(['git', 'tag', '-a', 'an editor'])",
}
SEEN = """
run([sys.executable, '-W', 'ignore', '-c', 'pass', '-I'])
run([sys.executable, '-X', 'dev', 'child.py', '-I'])
run([sys.executable, '-Wignore', '--', 'child.py'])
run(['uname', '-S'], env={})
run(['git', '-C', '.', 'rev-parse', 'HEAD'])
run(['git', 'tag', '-l'])
run(['/no/such/program'])
"""
RUN = """
import os, subprocess, sys
PYTHON, PATH = sys.executable, os.environ['PYTHONPATH']
def run(words, **options):
    try:
        subprocess.run(words, capture_output=True, **options)
    except OSError:
        pass
"""


def claims_of(found: Reproduction) -> dict[str, tuple[str, str]]:
    return {each.name: (each.status, each.evidence) for each in found.judgements[0].claims}


def test_each_program_that_is_not_known_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: one whose variables or options were seen to keep the hook out."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    text = "\n".join([RUN, *UNSEEN.values(), "open('out.txt', 'w').write('0.9999')"])
    files = {"train.py": text, "child.py": CHILD, "bin/uname": "#!/bin/sh\necho 0.9999\n", "bin/sitecustomize.py": ""}
    author = Stranger.make(tmp_path / "a", files)
    run = author.record(sys.executable, "train.py", outputs=("out.txt",))
    problems = [problem for each in read_processes(run.processes) for problem in each.problems]
    named = {word for word in UNSEEN if any(word in problem for problem in problems)}
    assert named == UNSEEN.keys() and all("started without the hook: " in problem for problem in problems)
    found = author.reproduce(run)
    status, evidence = claims_of(found)["environment"]
    assert (found.verdict, status) == ("identical", "not checked")
    assert all(word in evidence for word in UNSEEN) and "no sign of a fault" in evidence


def test_programs_that_are_known_and_inputs_of_a_rare_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack but the settings of pdb, which it executes: the input of a rare kind is named among many. Before: only
    how many they are.
    """
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    reads = "for number in range(300):\n    open(f'data/image-{number}.dat').close()\n"
    files = {"train.py": f"{RUN}{SEEN}{reads}open('out.txt', 'w').write('0.6')\n", "child.py": "", ".pdbrc": "p 1\n"}
    author = Stranger.make(tmp_path / "a", {**files, **{f"data/image-{number}.dat": "1" for number in range(300)}})
    words = ("-m", "pdb", "-c", "continue", "-c", "quit", "train.py")
    found = author.reproduce(author.record(sys.executable, *words, outputs=("out.txt",)))
    claims = claims_of(found)
    print("DBG", claims["environment"], claims["inputs"])
    assert found.verdict == "identical" and claims["environment"][0] == "checked", claims
    status, evidence = claims["inputs"]
    assert status == "checked" and "by digest; recorded: child.py, train.py, .pdbrc, data/image-" in evidence
    assert evidence.count("data/image-") < 300 and " more" in evidence


def test_a_command_that_is_no_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell reads and starts is seen by nobody, whatever Python it starts as well. Before: checked."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    files = {"run.sh": "python train.py\necho 0.9999 > out.txt\n", "train.py": "open('out.txt', 'w').write('0.6')\n"}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record("sh", "run.sh", outputs=("out.txt",)))
    status, evidence = claims_of(found)["environment"]
    assert (found.verdict, status) == ("identical", "not checked")
    assert "sh run.sh (no Python that was seen): what it read and started itself" in evidence


def test_processes_beyond_those_that_are_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their inputs, imports and starts are in no record. Before: "checked", and nothing said so."""
    monkeypatch.setattr(collection, "PROCESS_LIMIT", 3)  # 2,000 take long
    text = "import os\nfor _ in range(5):\n    if not os.fork():\n        os._exit(0)\n    os.wait()\n"
    author = Stranger.make(tmp_path / "a", {"train.py": f"{text}open('out.txt', 'w').write('0.6')\n"})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    status, evidence = claims_of(found)["environment"]
    assert (found.verdict, status) == ("identical", "not checked")
    assert "3 more Python processes are not listed" in evidence
