"""Every command of every runbook, of the tutorial and of the page on studies runs, in the order of the page.

Those that need podman, Apptainer or Slurm are run by tests/engines/test_runbooks.py.
"""

import os
from pathlib import Path

import pytest
from runbook_commands import ROOT, RUNBOOKS, WITH_ENGINES, commands, run_all


def test_commands_are_found() -> None:
    assert commands("text\n\n   ```sh\n   one a\n   two\n   ```\n```sh\nthree\n```\n```python\nfour\n```\n") == [
        "one a",
        "two",
        "three",
    ]
    assert {"reviewer", *WITH_ENGINES} <= {runbook.stem for runbook in RUNBOOKS}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "NDREPRO_HOME": str(tmp_path / "keys"),
        "NDREPRO_RUNS": str(tmp_path / "runs"),
        "WORK": str(tmp_path),
        "ARGS": "",
    }


@pytest.mark.parametrize(
    "runbook", [each for each in RUNBOOKS if each.stem not in WITH_ENGINES], ids=lambda path: path.stem
)
def test_a_runbooks_commands_run(runbook: Path, variables: dict[str, str]) -> None:
    run_all(runbook, variables)


def test_what_the_readme_records_can_be_typed(variables: dict[str, str], tmp_path: Path) -> None:
    readme, index = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/index.md"))
    assert commands(readme) == commands(index)
    first, *others = (line for line in commands(readme) if not line.startswith("#"))
    assert first == "make run"  # as in the tutorial, whose test trains
    (tmp_path / "page.md").write_text("```sh\n" + "\n".join(others) + "\n```\n", encoding="utf-8")
    run_all(tmp_path / "page.md", variables)


@pytest.mark.slow
def test_the_tutorials_commands_run(variables: dict[str, str], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    # the folder of runs is not the checkout's own
    (tmp_path / "tutorial.md").write_text(page.replace("cp -r runs/", 'cp -r "$NDREPRO_RUNS"/'), encoding="utf-8")
    run_all(tmp_path / "tutorial.md", variables)


@pytest.mark.slow
def test_the_commands_of_ones_own_study_run(variables: dict[str, str]) -> None:
    page = (ROOT / "docs" / "how-to" / "studies.md").read_text(encoding="utf-8")
    assert "--grid main\n" in page
    # two of the six runs: seconds of every continuous integration
    (Path(variables["WORK"]) / "page.md").write_text(page.replace("--grid main\n", "--grid main --only 1,4\n"), "utf-8")
    run_all(Path(variables["WORK"]) / "page.md", variables)
    assert Path(variables["WORK"], "report", "index.html").is_file()
