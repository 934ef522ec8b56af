"""A folder of runs that came from somebody else lists jobs of Slurm: a number of a job is no option of its commands.

Before, ``ndrepro study cancel`` there gave ``--me`` to scancel, which ends every job that the reviewer has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ndrepro.execution.slurm.submissions import ArrayTask, Submission, SubmittedArray, cancel, study_folder
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import write_json

TASK = {"runs": ["a"], "identities": ["a"]}


@pytest.mark.parametrize(
    "document",
    [
        {"arrays": [{"array": "7", "tasks": [TASK]}, {"array": "--me", "tasks": [TASK]}]},
        {"array": "--user=me", "tasks": [["a"]]},
        {"arrays": [{"array": "7,8", "tasks": [TASK]}]},
        {"arrays": [{"array": "7", "tasks": [3]}]},
        {"arrays": 3},
        [],
    ],
)
def test_what_is_no_number_of_a_job_is_refused(document: Any, tmp_path: Path) -> None:
    folder = study_folder(RunsFolder(tmp_path), "smoke") / "once"
    folder.mkdir(parents=True)
    write_json(folder / "submission.json", document)
    with pytest.raises(UsageError, match=r"submission\.json: no list of what was submitted"):
        cancel(RunsFolder(tmp_path), "smoke")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = Submission(tmp_path, (SubmittedArray("7", (ArrayTask(("a", "b"), ("x", "y")),)),))
    written.write()
    assert Submission.read(tmp_path) == written
