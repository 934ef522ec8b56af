"""Every level, trained twice: the same bits where it promises them; and what each level says it set is what was set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, write_json
from ndrepro.protocol.project_folders import CODE
from provenance.formats.trail import Trail, compare

pytestmark = pytest.mark.numerics

# both trainings in one process: torch is loaded once
TRAIN = "import sys; from ndrepro.training.__main__ import main; sys.exit(max(main([f]) for f in sys.argv[1:]))"
FEW = {"train_images": "32", "test_images": "16", "batch_size": "16", "threads": "1", "device": "cpu"}


def train(request: Request, folders: list[RunFolder]) -> None:
    for folder in folders:
        folder.root.mkdir(parents=True)
        write_json(folder.request, request.to_json())
    words = [sys.executable, "-c", TRAIN, *(str(folder.root) for folder in folders)]
    variables = child_variables(request, CODE, os.environ)
    done = subprocess.run(words, env=variables, cwd=folders[0].root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# "deterministic" is the level of every run that tests repeat (test_reexecute.py)
@pytest.mark.slow
@pytest.mark.parametrize("level", ["seeded", "canonical"])
def test_a_level_repeats_itself_bit_for_bit(level: str, tmp_path: Path) -> None:
    """On one processor; "free" promises nothing, and is not asked."""
    experiment = Experiment.from_name("lenet_nd_1_digits", {**FEW, "determinism": level})
    request = Request(experiment, str(data_check.locate(experiment, None)))
    folders = [RunFolder(tmp_path / name) for name in ("first", "second")]
    train(request, folders)
    compared = compare(*(Trail(folder.trail) for folder in folders))
    assert compared.identical and compared.compared == 3
    for folder in folders:
        flags = json.loads(folder.environment.read_text())["end"]["flags"]
        assert flags["deterministic_algorithms"] is (level == "canonical")
        assert flags["mkldnn_enabled"] is (level != "canonical")
        plain = level == "canonical" or os.environ.get("ATEN_CPU_CAPABILITY") == "default"
        assert (flags["cpu_capability"] == "DEFAULT") is plain
