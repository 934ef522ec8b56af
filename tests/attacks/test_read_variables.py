"""An author's own variables decide a result: the repetition, which lacks them, says which the program read."""

from __future__ import annotations

from pathlib import Path

import pytest
from strange_programs import Stranger

from provenance.observation.process_record import read_processes

READS = """
import os
copied = dict(os.environ) and os.environ.copy() and {**os.environ, 'MORE': '1'}
for name, value in os.environ.items():
    pass
rate = os.environ.get('OF_A_TEST_RATE', '0.1')
os.environ['SET_HERE'] = '1'
os.getenvb(b'OF_A_TEST_BYTES'), 'OF_A_TEST_THERE' in os.environ, os.environ.get('OF_A_TEST_ABSENT')
pid = os.fork()
if pid == 0:
    os.environ['OF_A_TEST_CHILD']
    raise SystemExit
os.waitpid(pid, 0)
open('out.txt', 'w').write(rate)
"""


def test_variables_that_the_program_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: undecided, and nothing said that its author had set one."""
    author = Stranger.make(tmp_path / "a", {"train.py": READS})
    with monkeypatch.context() as authors:
        for name in ("RATE", "BYTES", "THERE", "NOT_READ", "CHILD"):
            authors.setenv(f"OF_A_TEST_{name}", "0.9999")
        run = author.record(outputs=("out.txt",))
    first, *_ = read_processes(run.processes)
    assert {name for name in first.variables if name.startswith("OF_A")} == {
        f"OF_A_TEST_{name}" for name in ("RATE", "BYTES", "THERE")
    }
    assert "0.9999" not in run.processes.read_text()
    found = author.reproduce(run)
    assert found.verdict == "undecided"
    (read,) = (line for line in found.plan.differences if line.startswith("variables that it read"))
    assert "OF_A_TEST_RATE" in read and "NOT_READ" not in read and "ABSENT" not in read


def test_a_repetition_whose_variables_were_recorded_names_none(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": "import os; open('o', 'w').write(os.environ['HOME'][:1])\n"})
    found = author.reproduce(author.record(outputs=("o",)))
    assert found.verdict == "identical"
    assert not [line for line in found.plan.differences if line.startswith("variables that")]
