"""Every command of every runbook runs, in the order in which it stands there.

Those that need podman, Apptainer or Slurm are run by tests/engines/test_runbooks.py.
"""

import os
from pathlib import Path

import pytest
from runbook_commands import RUNBOOKS, WITH_ENGINES, commands, run_all


def test_commands_are_found() -> None:
    assert commands("text\n\n   ```sh\n   one a\n   two\n   ```\n```sh\nthree\n```\n```python\nfour\n```\n") == [
        "one a",
        "two",
        "three",
    ]
    assert {"reviewer", *WITH_ENGINES} <= {runbook.stem for runbook in RUNBOOKS}


@pytest.mark.parametrize(
    "runbook", [each for each in RUNBOOKS if each.stem not in WITH_ENGINES], ids=lambda path: path.stem
)
def test_a_runbooks_commands_run(runbook: Path, tmp_path: Path) -> None:
    variables = {
        **os.environ,
        "NDREPRO_HOME": str(tmp_path / "keys"),
        "NDREPRO_RUNS": str(tmp_path / "runs"),
        "WORK": str(tmp_path),
        "ARGS": "",
    }
    run_all(runbook, variables)
