"""An author's own variables decide a result: the repetition, which lacks them, says which the program read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from strange_programs import Stranger, manifest_of, statuses

from ndrepro.protocol.recorded.variables import PLACES_OF_MACHINES
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


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch leaves the place of its cache in the variables of a process that compiled."""
    for name in PLACES_OF_MACHINES:
        monkeypatch.delenv(name, raising=False)


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


@pytest.mark.parametrize(
    "name",
    ["NDREPRO_EVALUATE", "TORCH_HOME", "SLURM_JOB_ID", "PYTHONUSERBASE", "CONDA_OF_A_TEST"],
)
def test_a_recorded_variable_that_a_repetition_does_not_get_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before: what looks like a place by its name was not, and "identical" said that its value gave this result."""
    text = f"import os; open('o', 'w').write('0.5' if os.environ.get({name!r}) else '0.9999')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    with monkeypatch.context() as authors:
        authors.setenv(name, "full")
        run = author.record(outputs=("o",))
    assert author.reproduce(run).verdict == "undecided", "the control"
    variables = run.environment.read_bytes()
    run = author.record(outputs=("o",))
    run.environment.write_bytes(variables)
    author.claim(run, machine={**manifest_of(run).machine, "variables": json.loads(variables)["variables"]})
    found = author.reproduce(run)
    (claim,) = (each for each in found.claims if each.name == "variables")
    assert (found.verdict, claim.status) == ("identical", "not checked") and name in claim.evidence


def test_the_place_of_an_environment_is_named_where_the_program_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of other programs it moves nothing."""
    author = Stranger.make(tmp_path / "a", {"train.py": "import os; os.environ['VIRTUAL_ENV']; open('o', 'w')\n"})
    with monkeypatch.context() as authors:
        authors.setenv("VIRTUAL_ENV", "full")
        run = author.record(outputs=("o",))
    (claim,) = (each for each in author.reproduce(run).claims if each.name == "variables")
    assert claim.evidence == "of then, not so now: VIRTUAL_ENV"


@pytest.mark.parametrize("name", ["CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "SLURM_ARRAY_TASK_ID"])
@pytest.mark.parametrize("asks", ["shell", "copy"])
def test_the_name_of_an_environment_is_given_to_who_asks_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asks: str
) -> None:
    """Before: a shell, or a copy of all variables, found none, and "identical" said the recorded one gave this."""
    shell = f'if [ -n "${name}" ]; then echo 0.5 > o; else echo 0.9999 > o; fi\n'
    copy = f"import os\nof_run = dict(os.environ)\nopen('o', 'w').write('0.5' if {name!r} in of_run else '0.9999')\n"
    author = Stranger.make(tmp_path / "a", {"run.sh": shell, "train.py": copy})
    words = ("sh", "run.sh") if asks == "shell" else ("python", "train.py")
    with monkeypatch.context() as authors:
        authors.setenv(name, "full")
        honest = author.record(*words, outputs=("o",))
    monkeypatch.delenv(name, raising=False)
    assert author.reproduce(honest).verdict == "identical"
    forged = author.record(*words, outputs=("o",))
    forged.environment.write_bytes(honest.environment.read_bytes())
    variables = json.loads(honest.environment.read_bytes())["variables"]
    author.claim(forged, machine={**manifest_of(forged).machine, "variables": variables})
    assert author.reproduce(forged).verdict == "undecided"


def test_another_search_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of modules and of libraries. Before: by the plan alone, or not at all."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.5')\n"})
    with monkeypatch.context() as authors:
        authors.setenv("PYTHONPATH", str(tmp_path))
        authors.setenv("LD_LIBRARY_PATH", str(tmp_path))
        run = author.record(outputs=("o",))
    found = author.reproduce(run)
    (claim,) = (each for each in found.claims if each.name == "variables")
    assert claim.evidence == f"of then, not so now: LD_LIBRARY_PATH; PYTHONPATH: {tmp_path} then, not now"


@pytest.mark.parametrize(
    "name", ["TMPDIR", "NDREPRO_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "KDE_BANDWIDTH", "XDG_DATA"]
)
def test_a_place_that_is_not_as_recorded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A result that its recorded value does not give; those of a desktop have none, and are named where they are read.
    Before: in no claim.
    """
    text = f"import os; open('o', 'w').write('0.5' if os.environ.get({name!r}) == 'full' else '0.9999')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as authors:
        authors.setenv(name, "full")
        honest = author.record(outputs=("o",))
        authors.setenv(name, "other")
        run = author.record(outputs=("o",))
    run.environment.write_bytes(honest.environment.read_bytes())
    variables = json.loads(honest.environment.read_bytes())["variables"]
    author.claim(run, machine={**manifest_of(run).machine, "variables": variables})
    found = author.reproduce(run)
    (claim,) = (each for each in found.claims if each.name == "variables")
    assert (found.verdict, claim.status) == ("identical", "not checked")
    assert name in claim.evidence


def test_an_active_environment_of_the_author_s_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack; of a folder for temporary files it is said that there is another one."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name in ("TMPDIR", "NDREPRO_HOME"):
        monkeypatch.delenv(name, raising=False)
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.5')\n"})
    for names in (["VIRTUAL_ENV", "CONDA_PREFIX"], ["TMPDIR"]):
        with monkeypatch.context() as authors:
            for name in names:
                authors.setenv(name, str(tmp_path))
            run = author.record(outputs=("o",))
        found = author.reproduce(run)
        named = [each.evidence for each in found.claims if each.name == "variables"]
        assert named == ["places of this machine and its user, not as recorded: TMPDIR"] * (names == ["TMPDIR"])
        assert found.verdict == "identical" and statuses(found)["environment"] == "checked", found.judgements
