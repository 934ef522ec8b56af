"""A training process that lies in its files: nothing it leaves hangs, fills or misleads its recorder.

Whatever it does, the run has an end in the ledger; what it left is signed as failed, with what is wrong by name.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lying_child import FILES, code_of
from real_runs import Bench

from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.runs.run_lookup import summaries
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import NOT_RECORDED, Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify

# a recorder that reads a device or a sparse file needs gigabytes, or hours
MEMORY_BYTES, SECONDS = 300 << 20, 120.0

SPECIAL = {
    "a FIFO": "everywhere(os.mkfifo)",
    "/dev/zero behind a link": "everywhere(lambda name: os.symlink('/dev/zero', name))",
    "a socket": "everywhere(lambda name: socket.socket(socket.AF_UNIX).bind(name))",
    "a folder": "everywhere(os.mkdir)",
    "a link out of the folder": "everywhere(lambda name: os.symlink(os.environ['NDREPRO_SECRET'], name))",
}
SPARSE = "everywhere(lambda name: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)) or os.truncate(name, 1 << 40))"
CONTENTS = {
    "no JSON": 'put("metrics.jsonl", "{\\n")',
    "no row": 'put("metrics.jsonl", "[1]\\n")',
    "a row of nothing": 'put("metrics.jsonl", "{}\\n")',
    "a step beyond any": 'put("metrics.jsonl", json.dumps({**row, "step": "1e999"}) + "\\n")',
    "an epoch of 1.9": 'put("metrics.jsonl", json.dumps({**row, "epoch": 1.9}) + "\\n")',
    "an epoch that is two": 'put("metrics.jsonl", json.dumps(row)[:-1] + ", \\"epoch\\": 2}\\n")',
    "two outcomes": 'put("result.json", json.dumps(result)[:-1] + ", \\"outcome\\": \\"failed\\"}")',
    "timing of lists": 'put("timing.jsonl", json.dumps({**timing, "train_seconds": []}) + "\\n")',
    "a line without end": 'put("metrics.jsonl", "1" * (5 << 20))',
    "a list for a result": 'put("result.json", "[]")',
    "a result of numbers": 'put("result.json", json.dumps({**result, "outcome": 3}))',
    "an error of nothing": 'put("result.json", json.dumps({**result, "error": {}}))',
    "an error of lists": 'put("result.json", json.dumps({**result, "error": {"type": [], "message": [], "cure": 1}}))',
    "nested too deep": 'put("environment.json", "[" * 200_000)',
    "no number": 'put("environment.json", "{\\"start\\": NaN}")',
    "a seal of text": 'put("environment.json", json.dumps({"start": "x", "end": "y"}))',
    "a distribution of nothing": "seal['environment']['distributions']['installed'] = [{}]; "
    'put("environment.json", json.dumps({"start": seal, "end": seal}))',
    "a digest that is none": 'put("dataset.json", json.dumps({"train_images": 16, "tree_sha256": "x"}))',
    "half a character": 'put("model.json", \'{"summary": {"\\\\ud800": 1}}\')',
    "a census of text": 'put("model.json", \'{"summary": "none"}\')',
    "another request": 'put("request.json", json.dumps({**request, "data": "elsewhere"}))',
}


# what a message says of it -> what the process writes, by files that each are what they should be
UNSOUND = {
    "weights.safetensors: no tensors can be read": 'put("weights.safetensors", "garbage")',
    "weights: no final weights were written": 'os.unlink("weights.safetensors")',
    "dataset.json: 5 test images": 'put("dataset.json", contents["dataset.json"].replace(\'"test_images": 32\', '
    "'\"test_images\": 5'))",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One folder of runs for all: the data are looked at once."""
    return Bench(tmp_path_factory.mktemp("lies"))


Lie = Callable[..., Finished]


@pytest.fixture
def lie(bench: Bench, tmp_path: Path) -> Lie:
    """A run whose training process does some mischief; it must end in time, in little memory, with its end told."""

    def run(mischief: str, **how: float) -> Finished:
        options = replace(bench.options, code=code_of(tmp_path / "code", mischief, **how))  # type: ignore[arg-type]
        memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        finished = execution.run(bench.experiment("lenet_bn_1_digits"), options, Observer())
        assert time.monotonic() - start < SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < MEMORY_BYTES
        return finished

    return run


def told(finished: Finished) -> list[tuple[str, object]]:
    """The run's events and outcomes in the ledger."""
    entries = Ledger(finished.folder.root.parents[1] / "ledger.jsonl").entries()
    run = finished.folder.root.name
    mine = (entry for entry in entries if entry.run == run and entry.event != "checkpoint")
    return [(entry.event, entry.fields.get("outcome")) for entry in mine]


def manifest_of(folder: RunFolder) -> Manifest:
    return Statement.from_bytes(read_envelope(folder.manifest.read_bytes())[1]).manifest


def verified(bench: Bench, folder: RunFolder) -> Verdict:
    return verify(folder.root, trust=TrustPolicy.load(bench.options.home), ledger=bench.options.runs.ledger)


def test_an_honest_stand_in_completes(lie: Lie, bench: Bench) -> None:
    """The control: without mischief, the same program makes a run that is signed as completed."""
    finished = lie("")
    assert (finished.outcome, finished.error) == ("completed", None)
    assert told(finished) == [("begun", None), ("ended", "completed")] and verified(bench, finished.folder).ok
    trust = TrustPolicy.load(bench.options.home)
    assert verify(finished.folder.root, trust=trust, ledger=bench.options.runs.ledger, extra_checks=CHECKS).ok


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_file_is_neither_read_nor_waited_for(
    lie: Lie, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"outcome": "completed", "epochs": 1, "steps": 1, "device": "SECRET", "error": null}')
    monkeypatch.setenv("NDREPRO_SECRET", str(secret))
    finished = lie(SPECIAL[what])
    assert finished.outcome == "failed" and told(finished) == [("begun", None), ("ended", "failed")]
    manifest = manifest_of(finished.folder)
    assert "SECRET" not in str(manifest) and secret.stat().st_size < 100
    if what != "a folder":  # an empty folder is nothing that could be recorded
        named = manifest.byproduct(NOT_RECORDED)
        assert named is not None and set(named.annotations or {}) == set(FILES)
        assert "could not be recorded, as the manifest says" in verified(bench, finished.folder).checks[6].message
    (listed,) = [each for each in summaries(bench.options.runs) if each.run == finished.folder.root.name]
    assert listed.outcome in ("failed", "unreadable")


@pytest.mark.parametrize("name", ["timing.jsonl", "states.jsonl"])
def test_a_log_beside_a_checkpoint_is_not_waited_for(lie: Lie, name: str) -> None:
    """Every log up to a checkpoint is bound with it; before, a FIFO in a log's place held the recorder for good."""
    checkpoint = "os.mkdir('checkpoints'); open('checkpoints/step-000000001.safetensors', 'w').close()"
    finished = lie(f"{checkpoint}; os.path.exists({name!r}) and os.unlink({name!r}); os.mkfifo({name!r})")
    assert finished.outcome == "failed" and told(finished) == [("begun", None), ("ended", "failed")]


def test_a_sparse_file_of_a_terabyte_is_refused_by_its_size(lie: Lie) -> None:
    finished = lie(SPARSE)
    assert finished.outcome == "failed" and told(finished) == [("begun", None), ("ended", "failed")]
    named = manifest_of(finished.folder).byproduct(NOT_RECORDED)
    assert named is not None and named.annotations is not None
    assert named.annotations["metrics.jsonl"] == f"{1 << 40} bytes, expected at most {1 << 36}"


@pytest.mark.parametrize("what", CONTENTS)
def test_a_file_of_nonsense_ends_in_a_signed_failure_that_names_it(lie: Lie, bench: Bench, what: str) -> None:
    finished = lie(CONTENTS[what])
    assert finished.outcome == "failed" and told(finished) == [("begun", None), ("ended", "failed")]
    assert verified(bench, finished.folder).ok
    (name,) = [name for name in (*FILES, "request.json") if f'put("{name}"' in CONTENTS[what]]
    error = manifest_of(finished.folder).byproduct("error")
    assert error is not None and error.annotations is not None and name in error.annotations["message"], error


@pytest.mark.parametrize("what", UNSOUND)
def test_a_run_whose_files_do_not_pass_the_checks_of_verify_is_not_signed_as_completed(
    lie: Lie, bench: Bench, what: str
) -> None:
    """Before, it was signed as completed, and the first reader of its weights ended in an error of a library."""
    finished = lie(UNSOUND[what])
    assert finished.outcome == "failed" and told(finished) == [("begun", None), ("ended", "failed")]
    assert verified(bench, finished.folder).ok and manifest_of(finished.folder).attempts[-1].outcome == "failed"
    error = manifest_of(finished.folder).byproduct("error")
    assert error is not None and error.annotations is not None and what in error.annotations["message"]
    assert "defect" not in f"{finished.error} {finished.error.cure if finished.error else ''}"


def test_a_signal_without_a_name_is_an_end_as_well(lie: Lie, bench: Bench) -> None:
    finished = lie(f"os.kill(os.getpid(), {signal.SIGRTMIN + 2})")
    assert finished.outcome == "killed" and f"signal {signal.SIGRTMIN + 2}" in str(finished.error)
    assert verified(bench, finished.folder).ok


def test_a_file_that_grows_without_end_is_not_followed(lie: Lie, tmp_path: Path) -> None:
    """A process that the training process leaves behind writes on while everything is hashed."""
    grow = "import sys, time\nout = open(sys.argv[1], 'ab', buffering=0)\n"
    grow += "end = time.monotonic() + 60\nwhile time.monotonic() < end: out.write(bytes(1 << 16)); time.sleep(0.0002)"
    pid = tmp_path / "pid"
    mischief = f"left = subprocess.Popen([sys.executable, '-c', {grow!r}, 'checkpoint'], start_new_session=True); "
    finished = lie(mischief + f"open({str(pid)!r}, 'w').write(str(left.pid))")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    named = manifest_of(finished.folder).byproduct(NOT_RECORDED)
    assert finished.outcome == "failed" and named is not None
    assert list(named.annotations or {}) == ["checkpoint"] and "chang" in str(named.annotations)


@pytest.mark.parametrize("how", ["os.symlink", "os.link"])
def test_a_log_that_leads_elsewhere_is_not_written_to_when_the_run_is_resumed(
    lie: Lie, bench: Bench, tmp_path: Path, how: str
) -> None:
    """A linked log of an earlier attempt would be cut to its first rows, or get the next attempt's output."""
    foreign = {name: tmp_path / name for name in ("metrics.jsonl", "timing.jsonl", "log.txt")}
    mischief = "os.mkdir('checkpoints'); open('checkpoints/step-000000000.safetensors', 'w').close()\n"
    for name, path in foreign.items():
        path.write_text('{"epoch": 1, "step": 1}\n' * 3)
        mischief += f"os.unlink({name!r}); {how}({str(path)!r}, {name!r})\n"
    finished = lie(mischief, code=1)
    options = replace(bench.options, code=tmp_path / "code")
    if how == "os.symlink":
        with pytest.raises(UsageError, match="a symbolic link"):
            execution.resume(finished.folder, options, Observer())
    else:
        resumed = execution.resume(finished.folder, options, Observer())
        assert resumed.outcome == "failed"
        assert told(resumed)[2:] == [("resumed", None), ("ended", "failed")]
    assert [path.read_text() for path in foreign.values()] == ['{"epoch": 1, "step": 1}\n' * 3] * 3
