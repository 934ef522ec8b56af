"""Open, observe, close: what ends up signed, what is never signed, and what the ledger is told either way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import NOT_RECORDED, Manifest
from provenance.attestation.statement import Statement
from provenance.errors import (
    BusyError,
    CanonicalError,
    DigestError,
    KeyFileError,
    ManifestError,
    StorageError,
    UsageError,
)
from provenance.formats.digest import file_digest

Make = Callable[..., Any]


def read(path: Path) -> Manifest:
    return Statement.from_bytes(read_envelope(path.read_bytes())[1]).manifest


def events(ledger: Ledger) -> list[str]:
    return [entry.event for entry in ledger.entries()]


def test_a_recorded_run_says_what_was_given_and_what_lies_there(small_run: Make) -> None:
    run = small_run()
    recorder = run.open()
    began = run.ledger.entries()[-1]
    assert (began.event, began.run, began.fields["name"]) == ("begun", run.folder.name, "small")
    path = run.close(recorder, outcome="interrupted", exit_code=75, finished=datetime(2026, 11, 21, 12, tzinfo=UTC))
    manifest = read(path)
    assert path == run.manifest
    assert (manifest.outcome, manifest.exit_code) == ("interrupted", 75)
    assert manifest.finished_on == "2026-11-21T12:00:00.000000Z"
    assert manifest.external_parameters == {"seed": 0, "name": "žluťoučký"}
    assert manifest.internal_parameters["driver"] == {"unavailable": "no GPU"}
    assert (manifest.ledger.sequence, manifest.ledger.digest) == (began.sequence, began.digest)
    names = ["checkpoints/step 1.bin", "log.txt", "metrics.jsonl", "weights.bin"]
    assert [artifact.path for artifact in manifest.artifacts] == names
    for artifact in manifest.artifacts:
        digest = file_digest(run.folder / artifact.path)
        assert (artifact.size, artifact.sha256) == (digest.size, digest.sha256)
    ended = run.ledger.entries()[-1]
    assert ended.event == "ended"
    assert ended.fields == {"outcome": "interrupted", "manifest": file_digest(path).sha256}
    assert sorted(child.name for child in run.folder.iterdir() if child.name.startswith(".")) == [".lock"]


def test_a_time_without_a_zone_is_refused_and_told(small_run: Make) -> None:
    """A naive datetime has no moment: refused, told, and the folder is free again."""
    run = small_run()
    recorder = run.open()
    with pytest.raises(UsageError, match="no time zone"):
        run.close(recorder, started=datetime(2026, 11, 21))
    assert run.ledger.entries()[-1].fields["manifest"] is None
    run.open().release()


def test_a_second_recorder_is_refused_and_the_first_one_named(small_run: Make) -> None:
    run = small_run()
    script = (
        "import pathlib, sys\nfrom provenance.attestation.run_files import hold\nhold(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(run.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=rf"{re.escape(str(run.folder))}: held by process {holder.pid}$"):
            run.open()
        assert events(run.ledger) == []
    run.record()


def test_a_child_that_outlives_its_parent_keeps_the_folder_busy(small_run: Make) -> None:
    run = small_run()
    script = """
import pathlib, subprocess, sys
from provenance.attestation.manifest import Builder
from provenance.recording.recorder import Recorder
folder, ledger, home = map(pathlib.Path, sys.argv[1:])
recorder = Recorder.open(folder, ledger=ledger, home=home, build_type="t", name="n", run_id=folder.name,
                         external_parameters={}, builder=Builder("b", {}))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=[recorder.lock_fd])
print(child.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(run.folder), str(run.ledger.path), str(run.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            with pytest.raises(BusyError, match=f"process {child}$"):
                run.open()
        finally:
            os.kill(child, signal.SIGKILL)
            while Path(f"/proc/{child}/fd").exists() and "zombie" not in Path(f"/proc/{child}/status").read_text():
                pass
    recorder = run.open()
    assert recorder.entry.event == "resumed"
    manifest = read(run.close(recorder))
    assert [(attempt.outcome, attempt.finished_on is None) for attempt in manifest.attempts] == [
        ("killed", True),
        ("completed", False),
    ]


def test_a_resumed_run_keeps_the_earlier_manifests_as_artifacts(small_run: Make) -> None:
    run = small_run()
    first = run.record(outcome="interrupted", exit_code=75).read_bytes()
    second = run.record(outcome="failed", exit_code=1).read_bytes()
    manifest = read(run.record())
    assert events(run.ledger) == ["begun", "ended", "resumed", "ended", "resumed", "ended"]
    assert (run.folder / "attempts/1/manifest.dsse.json").read_bytes() == first
    assert (run.folder / "attempts/2/manifest.dsse.json").read_bytes() == second
    names = [artifact.path for artifact in manifest.artifacts]
    assert names[:2] == ["attempts/1/manifest.dsse.json", "attempts/2/manifest.dsse.json"]
    assert [attempt.outcome for attempt in manifest.attempts] == ["interrupted", "failed", "completed"]
    assert manifest.ledger.sequence == 5
    assert run.verify().ok


def test_a_moved_folder_is_resumed_with_another_ledger(small_run: Make, tmp_path: Path) -> None:
    run = small_run()
    run.record()
    recorder = run.open(ledger=tmp_path / "elsewhere" / "ledger.jsonl")
    assert recorder.entry.event == "resumed"
    recorder.release()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 256 KiB."""
    folder = tmp_path / "tiny disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match="No space"), (folder / "ballast").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_a_full_disk_is_a_storage_error_without_a_half_written_manifest(small_run: Make, tiny_disk: Path) -> None:
    run = small_run("run", root=tiny_disk)
    recorder = run.open()
    fill(run.folder)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        run.close(recorder)
    assert caught.value.cure == "make room"
    assert not [path for path in run.folder.rglob("*") if "manifest" in path.name]
    ended = run.ledger.entries()[-1]
    assert ended.event == "ended" and ended.fields["manifest"] is None
    assert ended.fields["outcome"] == "failed"
    assert "StorageError: " in ended.fields["reason"] and "the disk is full" in ended.fields["reason"]
    (run.folder / "ballast").unlink()
    run.record()
    assert run.verify().ok


def test_a_disk_that_is_full_from_the_start_is_a_storage_error(small_run: Make, tiny_disk: Path) -> None:
    run = small_run("run", root=tiny_disk)
    fill(tiny_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        run.open()
    with pytest.raises(StorageError, match="the disk is full"):
        run.open(ledger=tiny_disk / "ledger.jsonl")
    (tiny_disk / "ballast").unlink()
    run.open().release()


def test_a_full_ledger_disk_leaves_a_whole_ledger_and_says_so(small_run: Make, tiny_disk: Path) -> None:
    run = small_run()
    ledger = Ledger(tiny_disk / "ledger.jsonl")
    recorder = run.open(ledger=ledger)
    fill(tiny_disk)
    with pytest.raises(StorageError, match=r"ledger\.jsonl.*the disk is full|the disk is full"):
        while True:
            run.close(recorder)
            recorder = run.open(ledger=ledger)
    assert ledger.verify() == []


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "dangling link", "pipe", "name"])
def test_what_cannot_be_recorded_is_named_and_signed_as_failed(small_run: Make, kind: str) -> None:
    run = small_run()
    recorder = run.open()
    bad = run.folder / "checkpoints" / "bad"
    if kind == "pipe":
        os.mkfifo(bad)
    elif kind == "name":
        Path(os.fsdecode(os.fsencode(run.folder) + b"/bad\xff")).write_text("")
    else:
        target = {"link to a file": "step 1.bin", "link to a folder": "/etc", "dangling link": "nowhere"}[kind]
        bad.symlink_to(target)
    with pytest.raises(DigestError, match=r"bad.*a run folder holds regular files only"):
        run.close(recorder)
    manifest, ended = read(run.manifest), run.ledger.entries()[-1]
    assert manifest.outcome == ended.fields["outcome"] == "failed"
    named = manifest.byproduct(NOT_RECORDED)
    assert named is not None and ["bad" in name for name in named.annotations or {}] == [True]
    assert "could not be recorded, as the manifest says" in run.verify().checks[6].message
    if kind != "name":
        bad.unlink()
        run.record()


def test_files_that_are_still_written_to_are_named_and_signed_as_failed(small_run: Make) -> None:
    run = small_run()
    recorder = run.open()
    stop = threading.Event()
    (run.folder / "big").write_bytes(bytes(1 << 24))

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (run.folder / f"late {number % 100}").write_text(str(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(DigestError, match="late"):
            run.close(recorder)
    finally:
        stop.set()
        writer.join()
    manifest = read(run.manifest)
    named = manifest.byproduct(NOT_RECORDED)
    assert manifest.outcome == "failed" and named is not None
    assert not {each.path for each in manifest.artifacts} & set(named.annotations or {})
    assert manifest.artifact("weights.bin") is not None


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"outcome": "done"}, UsageError, "outcome 'done'"),
        ({"exit_code": "0"}, ManifestError, r"runDetails\.exitCode: '0'"),
        ({"started": "yesterday"}, ManifestError, r"metadata\.startedOn: 'yesterday'"),
        ({"machine": {"x": {1}}}, CanonicalError, r"runDetails\.machine\.x"),
        ({"internal_parameters": {"x": float("nan")}}, CanonicalError, r"internalParameters\.x: nan"),
    ],
)
def test_nothing_that_breaks_the_schema_is_signed(
    small_run: Make, changes: dict[str, Any], error: type[Exception], what: str
) -> None:
    run = small_run()
    recorder = run.open()
    with pytest.raises(error, match=what):
        run.close(recorder, **changes)
    assert not run.manifest.exists()
    recorder.release()
    run.record()


def test_parameters_without_a_json_form_are_refused_before_anything_begins(small_run: Make) -> None:
    run = small_run()
    with pytest.raises(CanonicalError, match=r"\$\.lr: nan"):
        run.open(external_parameters={"lr": float("nan")})
    with pytest.raises(ManifestError, match=r"builder\.version: missing"):
        run.open(builder={"id": "urn:x"})
    assert events(run.ledger) == []


def test_a_key_that_cannot_sign_is_found_before_anything_begins(small_run: Make) -> None:
    run = small_run()
    (run.home).mkdir(mode=0o700)
    (run.home / "signing-key.pem").write_text("nonsense")
    (run.home / "signing-key.pem").chmod(0o600)
    with pytest.raises(KeyFileError):
        run.open()
    assert events(run.ledger) == []
    (run.home / "signing-key.pem").unlink()
    run.record()


def test_a_ledger_inside_the_run_folder_is_refused(small_run: Make) -> None:
    run = small_run()
    with pytest.raises(UsageError, match="inside the run folder"):
        run.open(ledger=run.folder / "ledger.jsonl")


def test_a_recorder_closes_once(small_run: Make) -> None:
    run = small_run()
    recorder = run.open()
    run.close(recorder)
    with pytest.raises(UsageError, match="is closed"):
        run.close(recorder)
    recorder.release()
    assert events(run.ledger) == ["begun", "ended"]


def test_what_a_power_cut_left_of_a_manifest_is_cleared_away(small_run: Make) -> None:
    run = small_run()
    (run.folder / ".manifest.dsse.json.0123456789ab.tmp").write_text("half a mani")
    manifest = read(run.record())
    assert not [artifact for artifact in manifest.artifacts if "tmp" in artifact.path]
    assert run.verify().ok


def test_a_folder_that_cannot_be_made_says_so(small_run: Make, tmp_path: Path) -> None:
    run = small_run()
    (tmp_path / "file").write_text("")
    object.__setattr__(run, "folder", tmp_path / "file" / "run")
    with pytest.raises(StorageError, match="file"):
        run.open()


def test_the_same_run_gives_the_same_manifest_but_for_its_place_in_the_ledger(small_run: Make) -> None:
    one, other = small_run("a"), small_run("b")
    first, second = read(one.record()).to_predicate(), read(other.record()).to_predicate()
    for predicate in (first, second):
        predicate["runDetails"].pop("ledger")
        predicate["runDetails"]["metadata"].pop("invocationId")
    assert json.dumps(first) == json.dumps(second)
