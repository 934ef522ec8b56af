"""No attack: honest runs under conditions that some systems have, which the recorder once refused or waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from strange_programs import CONFINED, Stranger, manifest_of

from ndrepro.analysis.verdicts.metadata_times import without_times
from ndrepro.analysis.verdicts.timed_names import pairs
from ndrepro.execution.program_reproduction.launchers import started_by
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.program_record import ProgramRecord
from ndrepro.protocol.recorded.environment import CAPTURED
from ndrepro.protocol.recorded.logged_rows import text_rows
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import StorageError
from provenance.formats.digest import bytes_digest
from provenance.formats.strict_json import Field

STARTED = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.mark.parametrize(("words", "code"), [("pass", 0), ("raise SystemExit(3)", 3)])
def test_a_recorder_that_is_started_with_ends_of_children_ignored_sees_its_program_end(
    tmp_path: Path, words: str, code: int
) -> None:
    """As some supervisors and wrappers of cron leave it. Before: it waited for ever, and only SIGKILL ended it."""
    recorder = [sys.executable, "-m", "ndrepro", "record", "--name", "fit", "--", sys.executable, "-c", words]
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *recorder],
        cwd=tmp_path,
        env={**os.environ, "NDREPRO_HOME": str(tmp_path / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.wait(120) == code
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert len(list((tmp_path / "runs" / "fit").glob("*/manifest.dsse.json"))) == 1


def test_a_variable_as_long_as_the_kernel_allows_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONPATH of a thousand folders, as some build systems set it. Before: signed as failed, and check 10 failed."""
    monkeypatch.setenv("PYTHONPATH", ":".join(f"/opt/packages/{number:060d}" for number in range(1700)))
    author = Stranger.make(tmp_path / "author", {"train.py": "open('out.txt', 'w').write('0.5')\n"})
    run = author.record(outputs=("out.txt",))
    verdict = verify(run.root, trust=TrustPolicy.load(author.home), extra_checks=checks_of)
    assert manifest_of(run).outcome == "completed" and verdict.ok, verdict.failure


def test_a_file_that_became_a_link_or_a_link_that_became_a_file_is_one_change(tmp_path: Path) -> None:
    """Git writes two sections of one path. Before: signed as failed, since the manifest was said to hide a change."""
    author = Stranger.make(tmp_path / "author", {"train.py": "open('out.txt', 'w').write('0.5')\n", "data.txt": "1\n"})
    (author.root / "link.txt").symlink_to("train.py")
    author.git("add", "link.txt"), author.git("commit", "-qm", "a link")
    for name, make in (("data.txt", Path.symlink_to), ("link.txt", Path.write_text)):
        (author.root / name).unlink()
        make(author.root / name, "train.py")
    run = author.record(outputs=("out.txt",))
    verdict = verify(run.root, trust=TrustPolicy.load(author.home), extra_checks=checks_of)
    assert manifest_of(run).outcome == "completed" and verdict.ok, verdict.failure
    assert author.reproduce(run).verdict == "identical"


def test_python_without_its_global_lock_is_recorded() -> None:
    """Its sys.flags.gil is None unless somebody asks for it. Before: check 10 of a script's run failed."""
    captured: dict[str, Any] = {"interpreter": {"flags": {"gil": None, "utf8_mode": 1, "dev_mode": False}}}
    CAPTURED(Field(captured, "$", StorageError))
    captured["interpreter"]["flags"]["gil"] = "no"
    with pytest.raises(StorageError, match="gil"):
        CAPTURED(Field(captured, "$", StorageError))


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_a_program_that_starts_python_through_a_shim_is_reproduced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyenv, asdf and mise install them. Before: exit code 127, since the sandbox does not show what a shim runs."""
    shims = tmp_path / "shims"
    shims.mkdir()
    (tmp_path / "libexec").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (shims / "python3").write_text(f'#!/bin/sh\nexec {tmp_path / "libexec"} "$@"\n')
    for path in (tmp_path / "libexec", shims / "python3"):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    text = "import sys; open('out.txt', 'w').write(sys.version)\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text, "run.sh": "exec python3 train.py\n"})
    found = author.reproduce(author.record("sh", "run.sh", outputs=("out.txt",)))
    assert found.verdict == "identical", found.judgements[0].because


@pytest.mark.skipif(not CONFINED, reason="outside of a sandbox every interpreter is there")
def test_a_tool_with_an_environment_of_its_own_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pipx and uv install one. Before: it never started, since the sandbox did not show its interpreter."""
    environment, tool = tmp_path / "tools" / "env", tmp_path / "tools" / "fit"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    tool.write_text(f"#!{environment}/bin/python\nimport sys\nopen('out.txt', 'w').write(sys.prefix)\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    author = Stranger.make(tmp_path / "author", {"README": "x\n"})
    found = author.reproduce(author.record("fit", outputs=("out.txt",)))
    assert found.verdict == "identical", found.judgements[0].because


def test_an_output_whose_name_is_not_utf_8_is_referenced(tmp_path: Path) -> None:
    """As old archives hold them. Before: its copy made check 7 fail for good, and the run was signed as failed."""
    text = "open(b'\\xff\\xfe.txt', 'w').write('1'); open('out.txt', 'w').write('2')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    run = author.record(outputs=("*.txt",))
    verdict = verify(run.root, trust=TrustPolicy.load(author.home), extra_checks=checks_of)
    assert manifest_of(run).outcome == "completed" and verdict.ok, verdict.failure
    assert "its name is not UTF-8" in run.outputs.read_text()
    assert author.reproduce(run).verdict == "identical"


@pytest.mark.parametrize("ending", ["sys.exit(0)", "sys.exit()", "os.chdir('/')", "pass"])
def test_a_script_that_exits_or_changes_its_folder_is_recorded_whole(tmp_path: Path, ending: str) -> None:
    """A main that ends with sys.exit was signed with an error; one that changes its folder was not signed at all."""
    (tmp_path / "train.py").write_text(
        f"import os, sys, ndrepro\nwith ndrepro.record(name='s') as run:\n    run.log(step=1, loss=0.5)\n    {ending}\n"
    )
    home = tmp_path / "home"
    given = {**os.environ, "NDREPRO_HOME": str(home)}
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, env=given, check=True)
    (run,) = (tmp_path / "runs" / "s").iterdir()
    verdict = verify(run, trust=TrustPolicy.load(home), extra_checks=checks_of)
    assert verdict.ok and verdict.manifest is not None and verdict.manifest.outcome == "completed", verdict.failure


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_a_command_line_of_more_than_one_word_may_hold_is_reproduced(tmp_path: Path) -> None:
    """All that is executed in the sandbox was one word of a command line, which Linux limits to 128 KiB."""
    author = Stranger.make(tmp_path / "author", {"train.py": "import sys; open('o', 'w').write(str(len(sys.argv)))\n"})
    run = author.record(sys.executable, "train.py", *["x" * 5000] * 30, outputs=("o",))
    assert author.reproduce(run).verdict == "identical"


def test_texts_that_python_takes_for_numbers_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\ufeffrun,id,loss,git\n2024_01,0012,0.5,1e10x\n1_2,7,-1.5e-3,nan\n")
    (tmp_path / "m.jsonl").write_text('{"note": "a\u2028b", "loss": 1, "file": "other"}\n{"loss": 2}\n')
    files = tmp_path / "log.csv", tmp_path / "m.jsonl"
    logged: list[dict[str, Any]] = [dict(row) for path in files for row in text_rows(path, path.read_bytes())]
    assert logged[0] == {"run": "2024_01", "id": "0012", "loss": 0.5, "git": "1e10x"}
    assert logged[1]["run"] == "1_2" and logged[1]["id"] == 7 and logged[1]["loss"] == -0.0015
    assert [row["loss"] for row in logged[2:]] == [1, 2]


READS = "read = open('h.txt').read(); open('h.txt', 'w').write(read + 'x'); open('o', 'w').write(read)\n"


@pytest.mark.parametrize("outputs", [("o",), ("o", "h.txt")])
def test_a_file_that_is_read_and_then_written_is_an_input_as_it_was(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    """A history in the commit. Before: removed from the checkout, or looked for as it was afterwards."""
    author = Stranger.make(tmp_path / "author", {"train.py": READS, "h.txt": "1, 2, 3"})
    run = author.record(outputs=outputs)
    (before,) = (file for file in ProgramRecord.of(manifest_of(run)).inputs if file.path == "h.txt")
    assert before.sha256 == bytes_digest(b"1, 2, 3")
    assert author.reproduce(run).verdict == "identical"


def test_what_a_program_wrote_and_read_again_is_no_input(tmp_path: Path) -> None:
    """As the best checkpoint at the end. Before: elsewhere than on its author's machine it was a missing input."""
    text = "open('best', 'w').write('1'); open('o', 'w').write(open('best').read())\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    run = author.record(outputs=("best", "o"))
    assert [file.path for file in ProgramRecord.of(manifest_of(run)).inputs] == ["train.py"]
    (author.root / "best").unlink()
    assert author.reproduce(run).verdict == "identical"


NOTEBOOK = """
import datetime, json, secrets
now = datetime.datetime.now(datetime.timezone.utc).isoformat()
execution = {{"iopub.execute_input": now, "shell.execute_reply": now}}
papermill = {{"start_time": now, "end_time": now, "duration": secrets.randbelow(1000) / 7, "status": "completed"}}
output = {{"output_type": "stream", "name": "stdout", "text": [{printed}]}}
times = {{"execution": execution, "papermill": papermill}}
cell = {{"cell_type": "code", "id": secrets.token_hex(4), "metadata": times, "execution_count": 1,
        "outputs": [output], "source": ["print(0.6)"]}}
document = {{"cells": [cell], "metadata": {{"papermill": papermill}}, "nbformat": 4, "nbformat_minor": 5}}
json.dump(document, open("done.ipynb", "w"))
"""


@pytest.mark.parametrize(("printed", "verdict"), [("'0.6'", "identical"), ("now", "undecided")])
def test_an_executed_notebook_is_compared_without_the_times_of_its_cells(
    tmp_path: Path, printed: str, verdict: str
) -> None:
    """As nbconvert and papermill write it. Before: undecided, since each execution has its own times."""
    author = Stranger.make(tmp_path / "author", {"train.py": NOTEBOOK.format(printed=printed)})
    found = author.reproduce(author.record(outputs=("done.ipynb",)))
    assert found.verdict == verdict, found.judgements[0].because
    assert ("times in its metadata" in found.judgements[0].because) == (verdict == "identical")


DRAWS = """
import os, time, uuid
now = os.environ.get("SOURCE_DATE_EPOCH") or time.time_ns()
drawn = uuid.uuid4().hex[:10] if {drawn} else "0" * 10
open("a.svg", "w").write(f'<dc:date>{{now}}</dc:date><path id="m{{drawn}}" d="{{{path}}}"/>')
open("a.pdf", "w").write(f"<< /CreationDate (D:{{now}}) >>")
"""


@pytest.mark.parametrize(
    ("drawn", "path", "words"),
    [
        (False, "1", "a.pdf, a.svg only in the date of the metadata: set SOURCE_DATE_EPOCH"),
        (True, "1", "a.svg only in the date of the metadata and drawn ids: set SOURCE_DATE_EPOCH, and svg.hashsalt"),
        (False, "now", "a.pdf only in the date of the metadata"),
    ],
)
def test_drawings_that_differ_in_their_date_alone_are_named_with_the_cure(
    tmp_path: Path, drawn: bool, path: str, words: str
) -> None:
    author = Stranger.make(tmp_path / "author", {"train.py": DRAWS.format(drawn=drawn, path=path)})
    found = author.reproduce(author.record(outputs=("a.*",)))
    (outputs,) = (each.evidence for each in found.judgements[0].claims if each.name == "outputs")
    assert found.verdict == "undecided" and words in outputs
    assert ("a.svg only" not in outputs and ", a.svg only" not in outputs) == (path == "now")


def test_the_recorded_date_of_outputs_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a variable that was lost."""
    author = Stranger.make(tmp_path / "author", {"train.py": DRAWS.format(drawn=False, path="1")})
    with monkeypatch.context() as authors:
        authors.setenv("SOURCE_DATE_EPOCH", "1")
        run = author.record(outputs=("a.*",))
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because
    assert "variable SOURCE_DATE_EPOCH" in str(found.claims)


def test_a_command_that_names_its_interpreter_behind_another_is_decided(tmp_path: Path) -> None:
    """Before: the interpreter was an input, in a hidden folder, and missing."""
    author = Stranger.make(tmp_path / "author", {"train.py": "open('o', 'w').write('0.6')\n"})
    run = author.record("env", "A=1", sys.executable, "train.py", outputs=("o",))
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because


def test_a_script_that_is_made_executable_is_executed_again(tmp_path: Path) -> None:
    """Before: it had changed, so it was removed as an output."""
    files = {"run.sh": "chmod +x work.sh\n./work.sh\n", "work.sh": "#!/bin/sh\necho 0.6 > o\n"}
    author = Stranger.make(tmp_path / "author", files)
    found = author.reproduce(author.record("sh", "run.sh", outputs=("o",)))
    assert found.verdict == "identical", found.judgements[0].because


def test_what_a_library_finds_again_on_each_machine_is_no_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the list of fonts that every program with matplotlib reads was a missing input."""
    home = tmp_path / "home"
    fonts = home / ".cache" / "matplotlib" / "fontlist-v390.json"
    fonts.parent.mkdir(parents=True)
    fonts.write_text("{}")
    text = f"import os\nif os.path.exists({str(fonts)!r}): open({str(fonts)!r}).read()\nopen('o', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    with monkeypatch.context() as authors:
        authors.setenv("HOME", str(home))
        run = author.record(outputs=("o",))
    fonts.unlink()
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because


LEAVES_A_CHILD = """
import os, sys, time
from ndrepro.execution.sandbox import inside
inside._FOLLOW_SECONDS = 60
if os.fork() == 0:
    time.sleep(0.1)
    print("written", flush=True)
    os._exit(0)
inside._await_orphans()
print("over")
"""


def test_a_sandbox_waits_a_moment_for_what_its_program_left_behind() -> None:
    """As the recorder does. Before: it ended with the program, and outputs of the record were missing."""
    done = subprocess.run([sys.executable, "-c", LEAVES_A_CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["written", "over"]


def test_arguments_that_are_not_utf_8_are_given_again(tmp_path: Path) -> None:
    """Before: a backslash and letters were. One that only looks so is itself."""
    text = "import os, sys; open('o', 'wb').write(os.fsencode(' '.join(sys.argv[1:])))\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    run = author.record(sys.executable, "train.py", os.fsdecode(b"\xff-\xc3\xa4"), "\\xff", "ä", outputs=("o",))
    found = author.reproduce(run)
    assert found.verdict == "identical", found.judgements[0].because


def test_processes_that_stay_are_named_by_the_verdict(tmp_path: Path) -> None:
    """What they write later is in no record, and an author could call it results."""
    text = "import subprocess; subprocess.Popen(['sleep', '3']); open('o', 'w').write('0.6')\n"
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    found = author.reproduce(author.record(outputs=("o",)))
    (stayed,) = (each for each in found.judgements[0].claims if each.name == "processes that stayed")
    assert stayed.status == "not checked" and "sleep 3" in stayed.evidence


@pytest.mark.skipif(not CONFINED, reason="no sandbox works here")
def test_processes_that_stay_in_the_repetition_alone_are_named(tmp_path: Path) -> None:
    """The author ended his, so that a preliminary result was signed. Before: nobody said that the sandbox ended it."""
    mark = tmp_path / "author" / "author's machine"
    text = (
        "import os, subprocess\nopen('o', 'w').write('0.9999')\n"
        f"if not os.path.exists({str(mark)!r}):\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 30; echo 0.5 > o'], start_new_session=True)\n"
    )
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    mark.touch()
    found = author.reproduce(author.record(outputs=("o",)))
    (stayed,) = (each for each in found.judgements[0].claims if each.name == "processes that stayed")
    assert (found.verdict, stayed.status) == ("identical", "not checked")
    assert "sleep 30; echo 0.5 > o" in stayed.evidence and "ended with its sandbox" in stayed.evidence


def test_a_result_in_the_name_of_a_time_is_compared() -> None:
    """Before: left out with its value."""
    text = '{{"cells": [], "metadata": {{"{name}": "2026-11-30T05:41:00Z"}}}}'
    one, other = (text.format(name=name).encode() for name in ("accuracy 0.9999", "start_time"))
    assert without_times(one) != without_times(other) == {"cells": [], "metadata": {}}


def test_notebooks_that_readers_take_for_different_ones_are_not_equal() -> None:
    """Two members of one name, numbers that only round to the same, nesting without end."""
    cells = '"cells": [{"outputs": [0.6123]}]'
    assert without_times(f'{{"cells": [], {cells}}}'.encode()) is None
    assert without_times(b'{"cells": [{"outputs": [' + b"[" * 100_000) is None
    kept, other = (
        without_times(f"{{{text}}}".encode()) for text in (cells, cells.replace("23]", "23" + "0" * 30 + "]"))
    )
    assert kept is not None and kept != other and kept == without_times(f"{{{cells}}}".encode())
    times = without_times(b'{"cells": [], "metadata": {"at": "2026-11-29T22:05:00Z", "duration": 3, "score": 0.9}}')
    assert [*times["metadata"]] == ["score"]


LAUNCHED = {
    "uv run --frozen train.py 3": "python train.py 3",
    "uv run --python=3.11 -p 3.11 --extra cpu -- python train.py": "python train.py",
    "uv run -m pkg.train -x": "python -m pkg.train -x",
    "/opt/bin/conda run -n base --no-capture-output torchrun train.py": "torchrun train.py",
    "poetry run python3.11 train.py": "python3.11 train.py",
    "poetry run train": "",
    "uv run --directory .. python train.py": "",
    "uv run": "",
    "uv sync": "",
    "python run train.py": "",
}


@pytest.mark.parametrize(("words", "started"), LAUNCHED.items())
def test_what_a_launcher_starts_is_taken_from_words_that_are_known(words: str, started: str) -> None:
    assert started_by(words.split()) == tuple(started.split())


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_a_command_that_a_launcher_starts_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As uv, which looks for an environment in a folder that no sandbox shows. Before: it ended with an error."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text(f'#!/bin/sh\ntest -d {tmp_path}/cache && shift && exec {sys.executable} "$@"\n')
    (tools / "uv").chmod(0o755)
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    author = Stranger.make(tmp_path / "author", {"train.py": "open('out.txt', 'w').write('0.6')\n"})
    found = author.reproduce(author.record("uv", "run", "train.py", outputs=("out.txt",)))
    assert found.verdict == "identical", found.judgements[0].because
    assert any(words.startswith("uv run: what it starts") for words in found.plan.differences)


def test_names_that_differ_in_times_alone_are_paired() -> None:
    then = [
        "outputs/2026-11-30/12-00-01/a.txt",
        "runs/Nov30_12-00-01_host/x.7",
        "run-20261130_120001-k/f",
        "1700000000",
        "1700000000.1234567.log",
        "2026-11-30T12:00:01.123456/m.csv",
        "c/2026-11-30_12-00-01_123456",
    ]
    now = [
        "outputs/2026-12-01/02-10-41/a.txt",
        "runs/Dec01_02-10-41_host/x.7",
        "run-20261201_021041-k/f",
        "1700009999",
        "1700009999.7654321.log",
        "2026-12-01T02:10:41.654321/m.csv",
        "c/2026-12-01_02-10-41_654321",
    ]
    assert pairs(then, now) == dict(zip(then, now, strict=True))
    others = ["epoch_12.pt", "0.9123", "x/12345678901", "v1.2.3", "a/1234"]
    assert pairs(others, ["epoch_13.pt", "0.9124", "x/12345678902", "v1.2.4", "a/1235"]) == {}
    steps = ["2026-11-30_12-00-01_100", "2026-11-30_12-00-01-2000"]
    assert pairs(steps, ["2026-11-30_12-00-01_200", "2026-11-30_12-00-01-3000"]) == {}
    assert pairs(["2026-11-30/a", "2026-11-29/a"], ["2026-12-01/a"]) == {}


def test_outputs_that_are_named_by_the_time_are_explained_and_undecided(tmp_path: Path) -> None:
    text = (
        "import os, datetime\nname = f'runs-of/{datetime.datetime.now():%Y-%m-%d_%H-%M-%S_%f}'\n"
        "os.makedirs(name)\nopen(name + '/a.txt', 'w').write('0.6')\n"
    )
    author = Stranger.make(tmp_path / "author", {"train.py": text})
    found = author.reproduce(author.record(outputs=("runs-of/**",)))
    assert found.verdict == "undecided"
    assert "named by the time, 1 of them equal" in found.judgements[0].because
