"""Files for contributors name what is there: targets, tools, commands; the list of targets fits a terminal."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from docs_site import badges, commands
from recorded_runs import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"(?m)^([a-z-]+):", MAKEFILE))
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def made(text: str) -> set[str]:
    return set(re.findall(r"(?m)\bmake ([a-z]+(?:-[a-z]+)*)", re.sub(r"(?m)^\s*#.*$", "", text)))


def test_the_list_of_targets_fits_80_columns() -> None:
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, check=True)
    lines = done.stdout.decode("utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[1] for line in lines if line.startswith("  make ")} <= TARGETS


def test_the_workflow_has_every_step_of_ci() -> None:
    text = read(".github/workflows/ci.yml")
    jobs = yaml.safe_load(text)["jobs"]
    steps = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert made(CI) - made(steps) == set() and made(steps) <= TARGETS
    assert all((ROOT / name).is_file() for name in re.findall(r"\.ci/\w+", text))


def test_hooks_are_the_tools_of_lint() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        words = hook["entry"].split()
        assert words[:2] == [".venv/bin/python", "-m"] and words[2] in ("ruff", "mypy", "pytest")
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))


def test_templates_of_issues_can_be_read() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 3
    for form in forms:
        found = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.name != "config.yml":
            assert found["name"] and found["description"]
            assert {each["type"] for each in found["body"]} <= {"textarea", "checkboxes", "markdown", "input"}


def test_what_the_pages_name_is_there() -> None:
    known = {name for name, _ in commands.all_commands(commands.root())} | {
        f"ndrepro {name}" for name in commands.root().commands
    }
    changelog, contributing = read("CHANGELOG.md"), read("CONTRIBUTING.md")
    named = set(re.findall(r"`(ndrepro [a-z]+)", changelog))
    assert len(named) >= 12 and named <= known, named - known
    assert re.findall(r"(?m)^## (.+)$", changelog) == ["[Unreleased]"]
    assert made(contributing) <= TARGETS and len(made(contributing)) >= 3
    links = re.findall(r"\]\((?!http)([^)#]+)\)", contributing)
    paths = re.findall(r"`((?:ndrepro|docs|provenance)/[\w/.]+)`", contributing)
    assert links and paths and [name for name in (*links, *paths) if not (ROOT / Path(name)).exists()] == []


def test_the_badges_say_what_the_project_s_files_say() -> None:
    assert badges.FILE.read_text(encoding="utf-8") == badges.picture(), "python tools/docs_site/badges.py"
    assert f"![{badges.sentence()}](docs/figures/badges.svg)" in read("README.md")
