"""The commands of a runbook: what stands in its fenced sh blocks, line by line."""

import re
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted((ROOT / "runbooks").glob("*.md"))
# those whose commands need podman, Apptainer or Slurm: tests/engines runs them
WITH_ENGINES = ("cluster", "laptop")
# the arguments of `make test ARGS=…` are not those of the runbook's own make
_OF_AN_OUTER_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS")


def commands(text: str) -> list[str]:
    """The lines of the fenced sh blocks."""
    blocks = re.findall(r"(?ms)^( *)```sh\n(.*?)^\1```", text)
    return [line for _, block in blocks for line in textwrap.dedent(block).splitlines() if line.strip()]


def pyxis_line() -> str:
    """The cluster's command for a single run in Pyxis, on one line."""
    page = (ROOT / "runbooks" / "cluster.md").read_text(encoding="utf-8")
    line = page.partition("    srun --container-image")[2].partition("\n\n")[0]
    return "srun --container-image" + line.replace("\\\n", " ")


def run_all(runbook: Path, variables: Mapping[str, str]) -> None:
    """Run every command of a runbook, in order; the first that fails is the failure."""
    found = commands(runbook.read_text(encoding="utf-8"))
    assert found
    own = {name: value for name, value in variables.items() if name not in _OF_AN_OUTER_MAKE}
    for command in found:
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=own, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
