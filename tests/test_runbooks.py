"""Every command of every runbook runs, in the order in which it stands there."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNBOOKS = sorted((ROOT / "runbooks").glob("*.md"))


def commands(text: str) -> list[str]:
    """The lines of the fenced sh blocks."""
    blocks = re.findall(r"(?ms)^( *)```sh\n(.*?)^\1```", text)
    return [line for _, block in blocks for line in textwrap.dedent(block).splitlines() if line.strip()]


def test_commands_are_found() -> None:
    assert commands("text\n\n   ```sh\n   one a\n   two\n   ```\n```sh\nthree\n```\n```python\nfour\n```\n") == [
        "one a",
        "two",
        "three",
    ]
    assert RUNBOOKS


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbooks_commands_run(runbook: Path, tmp_path: Path) -> None:
    found = commands(runbook.read_text(encoding="utf-8"))
    assert found
    variables = {
        **os.environ,
        "NDREPRO_HOME": str(tmp_path / "keys"),
        "NDREPRO_RUNS": str(tmp_path / "runs"),
        "WORK": str(tmp_path),
    }
    for command in found:
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
