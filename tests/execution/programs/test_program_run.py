"""Any program is recorded as what it was: its streams, its end, what it read and wrote, and who outlived it."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from recorded_programs import Programs, RecordedProgram, wait_for

from ndrepro.protocol.program_record import outcome_of
from provenance.capture.unavailable import unavailable
from provenance.errors import NotFoundError, UsageError
from provenance.formats.metrics_log import read_scalars

WRITER = """
import pathlib, sys
pathlib.Path("made/deep").mkdir(parents=True)
pathlib.Path("made/deep/new.txt").write_text("new")
pathlib.Path("old.txt").write_text("changed")
pathlib.Path("big.pt").write_bytes(bytes(2 << 20))
pathlib.Path("secret.txt").write_text("AWS key: AKIA" + "QYLPMN5HHHFPZAM2")
pathlib.Path("gone.txt").unlink()
print(open("read.txt").read(), file=sys.stderr)
"""


@pytest.fixture
def written(programs: Programs) -> RecordedProgram:
    for name in ("old.txt", "gone.txt", "read.txt", "same.txt"):
        Path(name).write_text(name)
    Path("write.py").write_text(WRITER)
    Path(".venv").mkdir()
    Path(".venv/pyvenv.cfg").touch()
    Path("data/below").mkdir(parents=True)
    Path("data/below/a.csv").write_text("1,2\n")
    return programs.record(
        sys.executable,
        "write.py",
        outputs=["same.txt", "made", "nothing-*"],
        data=[Path("data")],
        seeds={"numpy": 2**64 - 1},
    )


def test_what_a_program_wrote_is_found_digested_and_copied_where_it_is_small(written: RecordedProgram) -> None:
    record = written.record
    assert (record.outcome, record.exit_code, record.error) == ("completed", 0, "")
    assert {file.path: file.how for file in record.outputs} == {
        "made/deep/new.txt": "declared",
        "old.txt": "changed",
        "big.pt": "new",
        "secret.txt": "new",
        "same.txt": "declared",
    }
    for file in record.outputs:
        assert file.sha256 == hashlib.sha256(Path(file.path).read_bytes()).hexdigest()
    new = written.output("made/deep/new.txt")
    assert new.copy == "outputs/made/deep/new.txt" and (written.folder.root / new.copy).read_text() == "new"
    assert written.output("big.pt").reason == "not copied: larger than 1 MiB"
    assert written.output("same.txt").reason.startswith("not written by this run")
    assert "secret" in written.output("secret.txt").reason and written.output("secret.txt").copy is None
    found = written.manifest.byproduct("outputs")
    assert found is not None and found.annotations is not None
    assert (found.annotations["unmatched"], found.annotations["removed"]) == (["nothing-*"], ["gone.txt"])
    assert set(written.listed("outputs")) == {file.path for file in record.outputs}


def test_what_it_read_is_digested(written: RecordedProgram) -> None:
    inputs = written.listed("inputs")
    assert inputs["write.py"]["how"] == "command"
    assert inputs["read.txt"]["sha256"] == hashlib.sha256(b"read.txt").hexdigest(), "the hook saw it opened"
    assert "old.txt" not in inputs, "an output"
    (data,) = written.record.datasets
    listing = written.folder.root / "data/0.sha256"
    assert listing.read_text() == f"{hashlib.sha256(b'1,2' + bytes([10])).hexdigest()}  below/a.csv\n"
    assert data.digest == {"sha256": hashlib.sha256(listing.read_bytes()).hexdigest()}
    assert written.record.seeds == {"numpy": str(2**64 - 1)}


def test_the_interpreter_that_ran_is_recorded_with_its_distributions(written: RecordedProgram) -> None:
    record = written.record
    (python,) = record.interpreters
    assert Path(python.executable).samefile(sys.executable) and python.version == sys.version.split()[0]
    assert "numpy" in record.distributions and record.unobserved == ""
    assert written.manifest.dependency("distribution:numpy").digest["sha256"]  # type: ignore[union-attr, index]
    peak = record.usage["peak_memory_bytes"]  # on a busy machine a short program may end first
    assert peak == unavailable("it ended before it could be looked at") or peak > 4 << 20
    assert record.usage["user_seconds"] > 0
    assert record.streams["stderr"]["sha256"] == hashlib.sha256(b"read.txt\n").hexdigest()
    assert "unavailable" in written.manifest.dependency("source").annotations["commit"]  # type: ignore[union-attr, index]


def test_a_python_without_the_hook_is_asked_and_said_to_be_unobserved(programs: Programs) -> None:
    record = programs.record(sys.executable, "-I", "-c", "raise SystemExit(7)").record
    assert (record.exit_code, record.outcome) == (7, "failed")
    assert "-I" in record.unobserved
    (python,) = record.interpreters
    assert Path(python.executable).samefile(sys.executable) and "numpy" in record.distributions


def test_what_is_no_python_has_no_distributions(programs: Programs) -> None:
    record = programs.record("sh", "-c", "kill -9 $$").record
    assert (record.exit_code, record.outcome) == (-9, "killed")
    assert record.interpreters == () and record.distributions == {} and "no Python" in record.unobserved
    assert record.executable.digest is not None


def test_a_program_may_delete_its_folder(programs: Programs) -> None:
    record = programs.record("sh", "-c", f"cd / && rm -rf {programs.work} && echo done", outputs=["a.txt"])
    assert record.record.outcome == "completed" and record.log == b"done\n"
    outputs = record.manifest.byproduct("outputs")
    assert outputs is not None and "cannot be listed" in str(outputs.annotations)
    os.chdir(programs.place)


def test_a_script_without_an_interpreter_runs_in_the_shell(programs: Programs) -> None:
    script = Path("script")
    script.write_text('echo "$0 $1"; exit 4')
    script.chmod(0o755)
    recorded = programs.record("./script", "a b")
    assert (recorded.log, recorded.record.exit_code) == (b"./script a b\n", 4)


def test_an_interpreter_that_is_not_there_is_a_run_that_never_started(programs: Programs) -> None:
    script = Path("script.py")
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    finished = programs.finish("./script.py")
    assert finished.exit_code is None and finished.outcome == "failed"
    assert finished.error is not None and "cannot be executed" in finished.error.message
    recorded = RecordedProgram.of(finished.folder)
    assert recorded.record.exit_code is None and "cannot be executed" in recorded.record.error


def test_output_without_end_is_bounded_in_the_log_and_in_memory(programs: Programs) -> None:
    size = 40 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    recorded = programs.record("sh", "-c", f"head -c {size} /dev/zero; echo; echo last")
    stdout = recorded.record.streams["stdout"]
    assert stdout["bytes"] == size + 6 == recorded.record.streams["log"]["bytes"]
    assert stdout["sha256"] == hashlib.sha256(bytes(size) + b"\nlast\n").hexdigest()
    left_out = recorded.record.streams["log"]["leftOut"]
    assert (
        recorded.log.endswith(b"\nlast\n") and b"\n[%d bytes of output are left out here]\n" % left_out in recorded.log
    )
    assert len(recorded.log) < 18 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB: held a piece of it at most"


def test_who_outlives_the_program_is_named_and_reaches_the_user(programs: Programs, tmp_path: Path) -> None:
    script = f"(sleep 1.2; echo late; touch {tmp_path}/late) & echo early"
    process = programs.start("sh", "-c", script, stdout=-1)
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"early\nlate\n")
    recorded = programs.only()
    assert recorded.log == b"early\n" and recorded.record.outcome == "completed"
    assert any("sleep" in each for each in recorded.record.outlived_by)


def test_a_detached_grandchild_counts_and_nothing_is_left(programs: Programs) -> None:
    burn = 'import time\nwhile time.process_time() < 0.2: pass\nopen("burnt", "w").close()'
    detached = f"setsid {sys.executable} -I -S -c '{burn}'"
    recorded = programs.record("sh", "-c", f"{detached} & while ! test -e burnt; do sleep 0.05; done")
    usage = recorded.record.usage
    assert recorded.record.outlived_by == () and usage["user_seconds"] + usage["system_seconds"] >= 0.2


def test_metrics_are_read_from_tables_and_json_lines(programs: Programs) -> None:
    Path("stale.csv").write_text("step,loss\n9,9\n")
    lines = '{"step": 1, "eval": {"acc": 0.5}, "ok": true, "list": [1]}\\n{"step": 2, "eval": {"acc": NaN}}\\nbroken\\n'
    script = f"printf 'step,loss,note\\n1,0.5,a\\n2,nan,b\\n' > log.csv; printf '{lines}' > log.jsonl"
    finished = programs.finish("sh", "-c", script, metrics=["*.csv", "*.jsonl", "*.none"])
    rows = read_scalars(finished.folder.metrics)
    assert [row["file"] for row in rows] == ["log.csv"] * 2 + ["log.jsonl"] * 2
    assert rows[0] == {"file": "log.csv", "step": 1, "loss": 0.5, "note": "a"} and rows[1]["loss"] != rows[1]["loss"]
    assert rows[2] == {"file": "log.jsonl", "step": 1, "eval.acc": 0.5, "ok": 1}
    assert [note.partition(":")[0] for note in finished.notes] == ["--metrics *.none", "stale.csv", "log.jsonl"]


def test_a_file_of_holes_is_not_read(programs: Programs) -> None:
    """Eight exbibytes of nothing would be hashed for a hundred years."""
    recorded = programs.record("sh", "-c", "truncate -s 8000000000000 holes; echo 1 > a", outputs=["holes", "a"])
    (file,) = (file for file in recorded.record.outputs if file.path == "holes")
    assert (file.size, file.sha256, file.reason) == (8 * 10**12, None, "not read: nearly all of it is holes")


def test_a_wildcard_leads_into_no_linked_folder_and_no_link_is_copied(programs: Programs) -> None:
    """``out/**`` with a link to the home folder: 49,992 outputs and copies of its secrets, signed."""
    elsewhere = programs.work.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "private").write_text("private")
    code = (
        f"mkdir out; echo 1 > out/a; ln -s {elsewhere} out/d; ln -s {elsewhere}/private out/s; ln -s {elsewhere} named"
    )
    recorded = programs.record("sh", "-c", code, outputs=["out/**", "named/*"])
    found = {file.path: (file.copy is not None, file.reason) for file in recorded.record.outputs}
    outside = (False, "not copied: outside of the working folder")
    assert found == {"out/a": (True, ""), "out/s": outside, "named/private": outside}


APPENDED = {
    "log.jsonl": (b'{"step": 1, "acc": 0.99}\n', b'{"step": 2, "acc": 0.5}\n'),
    "log.csv": (b"step,acc\n1,0.99\n", b"2,0.5\n"),
    "open.csv": (b"step,acc\n1,0.99\n2,0.", b"5\n"),
}


def test_of_a_file_that_was_appended_to_only_the_further_rows_are_metrics(programs: Programs) -> None:
    for name, (before, _) in APPENDED.items():
        Path(name).write_bytes(before)
    Path("again.csv").write_bytes(b"step,acc\n1,0.99\n")
    more = " ".join(f"open({name!r}, 'ab').write({after!r});" for name, (_, after) in APPENDED.items())
    code = f"{more} open('again.csv', 'w').write('step,acc\\n1,0.99\\n2,0.5\\n')"
    finished = programs.finish(sys.executable, "-c", code, metrics=["*.csv", "*.jsonl"])
    rows: dict[object, list[object]] = {}
    for row in read_scalars(finished.folder.metrics):
        rows.setdefault(row["file"], []).append((row["step"], row["acc"]))
    assert rows == {**{name: [(2, 0.5)] for name in APPENDED}, "again.csv": [(1, 0.99), (2, 0.5)]}
    assert sorted(note.partition(":")[0] for note in finished.notes) == sorted([*APPENDED, "again.csv"])


@pytest.mark.parametrize("declared", [True, False])
def test_an_output_that_holds_what_it_held_is_said_to(programs: Programs, declared: bool) -> None:
    names = ("touched", "renamed", "opened", "written", "changed")
    for name in names:
        Path(name).write_text('{"accuracy": 0.9999}')
    code = (
        "import os; os.utime('touched'); os.rename('renamed', 'r'); os.rename('r', 'renamed'); open('opened', 'a');"
        "open('written', 'w').write('{\"accuracy\": 0.9999}'); open('changed', 'w').write('0.5')"
    )
    code += "; os.utime('opened')"
    finished = programs.finish(sys.executable, "-c", code, outputs=names if declared else ())
    assert finished.error is None, "the recorder's own check of its files"
    recorded = RecordedProgram.of(finished.folder)
    found = {file.path: (file.written, file.reason) for file in recorded.record.outputs}
    held = "it holds what it held before the start"
    assert found.pop("changed") == (True, "")
    if declared:
        assert found.pop("opened") == (False, "not written by this run: as it was before the start")
    assert found == dict.fromkeys(("renamed", "touched", "written"), (True, held))


def test_two_recordings_in_one_folder_at_once(programs: Programs) -> None:
    processes = [programs.start("sh", "-c", f"sleep 0.5; echo {name} > {name}.txt") for name in ("a", "b")]
    assert [process.wait() for process in processes] == [0, 0]
    first, second = map(RecordedProgram.of, programs.runs.runs())
    assert {file.path for each in (first, second) for file in each.record.outputs} >= {"a.txt", "b.txt"}


@pytest.mark.parametrize(
    ("code", "stops", "outcome"),
    [
        (0, (), "completed"),
        (3, (), "failed"),
        (-9, (), "killed"),
        (0, ("SIGINT",), "interrupted"),
        (-2, ("SIGINT",), "interrupted"),
    ],
)
def test_outcomes(code: int, stops: tuple[str, ...], outcome: str) -> None:
    assert outcome_of(code, stops) == outcome


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"data": [Path("missing")]}, NotFoundError),
        ({"outputs": [""]}, UsageError),
        ({"trail": "sometimes"}, UsageError),
    ],
)
def test_bad_options_leave_nothing(programs: Programs, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        programs.finish("true", **options)
    assert not programs.runs.root.exists()


def test_a_killed_recorder_leaves_a_start_without_an_end(programs: Programs) -> None:
    process = programs.start("sh", "-c", "echo $$ > pid; exec sleep 60")
    pid = int(wait_for(programs.work / "pid", process))
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(pid, signal.SIGKILL)
    (folder,) = programs.runs.runs()
    assert not folder.manifest.exists() and folder.program.exists()
    events = [line.count('"begun"') - line.count('"ended"') for line in programs.runs.ledger.read_text().splitlines()]
    assert events == [1]


def test_a_program_ends_for_a_recorder_with_threads_too(programs: Programs) -> None:
    """The kernel may give SIGCHLD to a thread that ignores it: a recorder that waited for that alone never ended."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert programs.record("true").record.outcome == "completed"
    finally:
        over.set()
        for thread in threads:
            thread.join()
