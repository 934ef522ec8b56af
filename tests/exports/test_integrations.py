"""The files in ``integrations/`` do what they say: their own commands are run, on runs that verify and on others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import validators
import yaml
from recorded_runs import ROOT

from provenance.attestation.key_home import KeyRing

ACTION = ROOT / "integrations" / "verify-runs" / "action.yml"
HOOKS = ROOT / "integrations" / "pre-commit"
BIN = Path(sys.executable).parent


@pytest.fixture
def repository(script: Any, tmp_path: Path) -> Path:
    """A git repository with the run, its ledger and the signer's key in its first commit."""
    folder = tmp_path / "repository"
    shutil.copytree(script.runs, folder / "runs", ignore=shutil.ignore_patterns("*.lock", ".lock"))
    (folder / "author.pub").write_text(KeyRing(script.home).public_key().pem, encoding="ascii")
    shutil.copytree(HOOKS, folder / "integrations" / "pre-commit")
    shutil.copy(HOOKS / "pre-commit-config.yaml", folder / ".pre-commit-config.yaml")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def steps(**inputs: str) -> list[tuple[str, dict[str, str]]]:
    """The commands of the action's steps with their variables, as a runner substitutes the inputs."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    given = {name: str(inputs.get(name, known.get("default", ""))) for name, known in action["inputs"].items()}
    assert {name for name, known in action["inputs"].items() if known.get("required")} <= set(inputs)
    found = []
    for step in action["runs"]["steps"]:
        assert "${{" not in step["run"], "an input in a command could be a command"
        variables = {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: given[match[1]], text)
            for name, text in step["env"].items()
        }
        found.append((step["run"], variables))
    return found


def run_step(step: tuple[str, dict[str, str]], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A step as GitHub's runner starts bash."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step[0]]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **step[1], **variables}, capture_output=True, text=True
    )


def test_the_action_installs_and_verifies_and_refuses(repository: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    (tmp_path / "policy.toml").write_text('title = "no author"\n[signatures]\nauthor = 1\n')
    # what ndrepro depends on is this environment's, so that no package index is needed
    (site,) = (Path(path) for path in sys.path if path.endswith("site-packages") and Path(path, "typer").exists())
    here = {"RUNNER_TEMP": str(tmp_path), "NDREPRO_HOME": str(tmp_path / "nobody")}
    here |= {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PATH": f"{BIN}:/usr/bin:/bin", "PYTHONPATH": str(site)}
    install, verify = steps(ndrepro=str(wheel), keys="author.pub\n")
    assert run_step(install, repository, **here).returncode == 0
    done = run_step(verify, repository, **here)
    assert (done.returncode, "1 verified, 0 refused" in done.stdout) == (0, True), done.stdout + done.stderr
    for inputs in ({"keys": ""}, {"policy": str(tmp_path / "policy.toml")}, {"runs": "integrations"}):
        _, other = steps(**{"ndrepro": "", "keys": "author.pub", **inputs})
        assert run_step(other, repository, **here).returncode == 1, inputs
    (repository / "runs" / "fit" / "one" / "metrics.jsonl").write_text("{}\n")
    done = run_step(verify, repository, **here)
    assert done.returncode == 1
    assert "::error file=runs/fit/one/manifest.dsse.json::this run does not verify" in done.stdout


def test_the_hooks_let_a_sound_commit_pass_and_stop_others(repository: Path, script: Any) -> None:
    config = yaml.safe_load((HOOKS / "pre-commit-config.yaml").read_text(encoding="utf-8"))
    runs_hook, ledger_hook = config["repos"][0]["hooks"]
    variables = {**os.environ, "NDREPRO_HOME": str(script.home), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def passes(hook: Any) -> bool:
        command = [*hook["entry"].split(), *hook.get("args", [])]
        done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    assert passes(runs_hook) and passes(ledger_hook), "nothing is staged: everything is verified"
    run, ledger = repository / "runs" / "fit" / "one", repository / "runs" / "ledger.jsonl"
    (repository / "README").touch()
    git(repository, "add", "README")
    (run / "added").touch()
    assert passes(runs_hook), "no file of a run is staged"
    git(repository, "add", ".")
    assert not passes(runs_hook), "a file was added"
    git(repository, "rm", "-qf", "runs/fit/one/added", "runs/fit/one/metrics.jsonl")
    assert not passes(runs_hook), "a file was removed"
    git(repository, "reset", "-q", "--hard")
    git(repository, "rm", "-q", "runs/fit/one/manifest.dsse.json")
    assert not passes(runs_hook), "the manifest was removed"
    git(repository, "rm", "-qr", "runs/fit/one")
    assert passes(runs_hook), "the whole run was removed"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[1:]))
    assert not passes(ledger_hook), "an entry of the ledger was removed"


@pytest.mark.slow
def test_pre_commit_and_the_schema_of_actions_take_the_files(
    repository: Path, script: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    place = validators.environment("integrations", tmp_path_factory.getbasetemp()) / "bin"
    schema = [place / "check-jsonschema", "--builtin-schema", "vendor.github-actions"]
    assert subprocess.run([*schema, ACTION], capture_output=True).returncode == 0
    broken = tmp_path / "action.yml"
    broken.write_text(ACTION.read_text(encoding="utf-8").replace("      shell: bash\n", ""), encoding="utf-8")
    assert subprocess.run([*schema, broken], capture_output=True).returncode == 1, "the control"
    variables = {**os.environ, "NDREPRO_HOME": str(script.home), "PATH": f"{BIN}:{os.environ['PATH']}"}
    variables["PRE_COMMIT_HOME"] = str(tmp_path / "pre-commit")
    command = [place / "pre-commit", "run", "--all-files"]
    done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("Passed") == 2, done.stdout + done.stderr
    (repository / "runs" / "fit" / "one" / "metrics.jsonl").write_text("{}\n")
    git(repository, "add", ".")
    done = subprocess.run(command, cwd=repository, env=variables, capture_output=True, text=True)
    assert done.returncode == 1 and "metrics.jsonl" in done.stdout
