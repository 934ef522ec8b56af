"""No attack: honest programs that are started by a script of their environment, as ``pytest`` and ``torchrun`` are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro import api
from ndrepro.protocol.layout import RunFolder

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
# as different installers write it
STARTS = "import sys\nfrom pytest import console_main\nsys.exit(console_main())\n"
ALSO_STARTS = "# -*- coding: utf-8 -*-\nimport pytest\nraise SystemExit(pytest.console_main())\n"
TEST = "def test_a():\n    open('o', 'w').write('0.6')\n"
WORDS = ("-q", "-p", "no:cacheprovider")


def make_environment(folder: Path, name: str, text: str) -> Path:
    """A virtual environment with the packages of this one and a script, whose path it returns."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "these.pth").write_text(sysconfig.get_path("purelib"))
    (information := packages / "starts-1.0.dist-info").mkdir()
    (information / "METADATA").write_text("Name: starts\nVersion: 1.0\n")
    (information / "RECORD").write_text(f"starts-1.0.dist-info/METADATA,,\n../../../bin/{name},,\n")
    script = folder / "bin" / name
    script.write_text(f"#!{folder}/bin/python\n{text}")
    script.chmod(0o755)
    return script


@pytest.fixture(autouse=True)
def _no_options_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def use(monkeypatch: pytest.MonkeyPatch, script: Path) -> None:
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


def inputs_of(run: RunFolder) -> list[str]:
    return [each["path"] for each in json.loads(run.inputs.read_text())["files"]]


def reproduced(author: Stranger, run: RunFolder, environment: Path) -> api.Reproduction:
    """On another machine, which does not have the author's environment."""
    environment.rename(aside := environment.with_name("aside"))
    found = author.reproduce(run)
    aside.rename(environment)
    return found


@pytest.mark.parametrize("place", ["elsewhere", "project/.venv"])
@pytest.mark.parametrize("typed", ["name", "path", "by a shell"])
def test_a_script_of_the_environment_is_that_of_the_environment_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, typed: str
) -> None:
    """Before: an input that is not here, or in a hidden folder, which is refused; another file, whose text differs."""
    author = Stranger.make(tmp_path / "a", {"test_a.py": TEST, ".gitignore": "runs\n.venv\n", "run.sh": '"$@"\n'})
    script = make_environment(author.top / place, "pytest", STARTS)
    with monkeypatch.context() as authors:
        use(authors, script)
        start = {"name": ["pytest"], "path": [str(script)], "by a shell": ["sh", "run.sh", "pytest"]}[typed]
        run = author.record(*start, *WORDS, outputs=("o",))
    assert any(path.endswith("bin/pytest") for path in inputs_of(run))
    use(monkeypatch, make_environment(tmp_path / "here", "pytest", ALSO_STARTS))
    found = reproduced(author, run, author.top / place)
    assert found.verdict == "identical", found.judgements[0].because
    assert {name: statuses(found)[name] for name in ("inputs", "environment")} == {
        "inputs": "checked",
        "environment": "not checked" if typed == "by a shell" else "checked",
    }, found.judgements[0].claims


def test_a_script_of_no_distribution_is_named_where_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Stranger.make(tmp_path / "a", {"test_a.py": TEST})
    script = make_environment(author.top / "venv", "starts-tests", STARTS)
    run = author.record(str(script), *WORDS, outputs=("o",))
    use(monkeypatch, here := make_environment(tmp_path / "here", "starts-tests", ALSO_STARTS))
    found = reproduced(author, run, author.top / "venv")
    assert (found.verdict, statuses(found)["environment"]) == ("identical", "not checked")
    assert f"{script} then, {here} now" in str(found.plan.differences)


def test_what_the_commit_has_beside_a_claimed_python_stays_an_input(tmp_path: Path) -> None:
    """An author who says that his Python was beside his data leaves no other file unnoticed."""
    author = Stranger.make(
        tmp_path / "a", {"train.py": "open('o', 'w').write(open('data.txt').read())\n", "data.txt": "0.6"}
    )
    run = author.record(outputs=("o",))
    author.claim_inputs(
        run, lambda files: [{**each, "sha256": "0" * 64} if each["path"] == "data.txt" else each for each in files]
    )
    seen = manifest_of(run).internal_parameters
    python = {**seen["interpreters"][0], "executable": str(author.root / "python")}
    author.claim(run, internal_parameters={**seen, "interpreters": [python]})
    found = author.reproduce(run)
    assert found.verdict == "undecided" and "input data.txt" in str(found.plan.differences)
