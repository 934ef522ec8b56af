"""The list of runs: signed, whole under many writers, and every line that is wrong named by line and reason."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ledgers import entry_of, old_ledger

from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger, read_heads
from provenance.errors import CanonicalError, LedgerError, NotFoundError, StorageError, UsageError
from provenance.formats.digest import bytes_digest
from provenance.ledger_entries.entry import MOST_LINE_BYTES
from provenance.ledger_entries.summary import LedgerSummary
from provenance.signatures.public_key import pae

APPEND = """
import pathlib, sys
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
ledger, signer = Ledger(pathlib.Path(sys.argv[1])), KeyRing(pathlib.Path(sys.argv[1]).parent / "keys").signer()
for number in range(int(sys.argv[3])):
    ledger.append("begun", sys.argv[2], signer, number=number)
"""


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def ledger(tmp_path: Path, ring: KeyRing) -> Ledger:
    """Three runs begun and ended: six entries."""
    ledger = Ledger(tmp_path / "runs" / "ledger.jsonl")
    for name in ("a", "b", "c"):
        ledger.append("begun", name, ring.signer(), note="žluťoučký")
        ledger.append("ended", name, ring.signer(), outcome="completed")
    return ledger


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def report(ledger: Ledger) -> list[str]:
    return [str(problem) for problem in ledger.verify()]


def kinds(ledger: Ledger) -> list[tuple[int, str]]:
    return [(problem.line, problem.kind) for problem in ledger.verify()]


def test_entries_come_back_as_they_were_appended(ledger: Ledger, ring: KeyRing) -> None:
    entry = ledger.append("resumed", "a", ring.signer(), step=3)
    assert ledger.entries()[-1] == entry
    assert [one.sequence for one in ledger.entries()] == list(range(1, 8))
    assert entry.fields == {"step": 3}
    assert ledger.verify() == ledger.verify([ring.public_key()]) == []
    assert [counted.entry for counted in ledger.audit([ring.public_key()]).entries] == list(ledger.entries())
    assert [one.event for one in ledger.entries_of("a", [ring.public_key()])] == ["begun", "ended", "resumed"]


def test_its_files_are_the_list_and_the_lock(ledger: Ledger) -> None:
    """All that an append makes: what captures a folder's source leaves both out."""
    assert sorted(ledger.files) == sorted(ledger.path.parent.iterdir())
    assert ledger.files == (ledger.path, Path(f"{ledger.path}.lock"))


def test_another_program_can_check_every_line(ledger: Ledger, ring: KeyRing) -> None:
    """Recomputed here with hashlib and the key alone."""
    previous, body_at = "0" * 64, len('{"entry":')
    for line in lines(ledger):
        document = json.loads(line)
        assert document["entry"]["previous"] == previous
        body = line[body_at : line.rindex(b',"signature":"')]
        assert json.loads(body) == document["entry"]
        message = pae("application/vnd.ndrepro.ledger-entry.v2+json", body)
        import base64

        assert ring.public_key().verifies(base64.b64decode(document["signature"]), message)
        assert document["entry"]["key"] in ring.public_key().pem.replace("\n", "")
        previous = bytes_digest(body)
    assert len({json.loads(line)["entry"]["ledger"] for line in lines(ledger)}) == 1


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none").entries() == ()
    assert Ledger(tmp_path / "none").verify() == []
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_killed_at_any_time_leaves_a_whole_chain(tmp_path: Path, ring: KeyRing) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ring.signer()
    for pause in (0.0, 0.01, 0.03):
        child = subprocess.Popen([sys.executable, "-c", APPEND, str(ledger.path), "killed", "1000000"])
        before = len(ledger.entries())
        while len(ledger.entries()) <= before:
            time.sleep(0.005)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        ledger.append("begun", "after", ring.signer())
        assert [problem for problem in ledger.verify() if problem.kind != "torn"] == []


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_torn_last_line_is_passed_over(ledger: Ledger, ring: KeyRing, keep: int) -> None:
    whole = lines(ledger)
    ledger.path.write_bytes(b"".join(whole[:5]) + whole[5][:keep])
    assert kinds(ledger) == [(6, "torn")]
    entry = ledger.append("begun", "d", ring.signer())
    assert kinds(ledger) == [(6, "torn")] and entry.sequence == 6
    assert lines(ledger)[5] == whole[5][:keep] + b"\n"
    assert ledger.summary([ring.public_key()]).runs["c"].open


def test_an_entry_that_lost_only_its_newline_is_kept(ledger: Ledger, ring: KeyRing) -> None:
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-1])
    assert report(ledger) == []
    ledger.append("begun", "d", ring.signer())
    assert ledger.path.read_bytes().startswith(whole)
    assert [entry.run for entry in ledger.entries()] == ["a", "a", "b", "b", "c", "c", "d"]


@pytest.mark.parametrize("junk", [bytes(300_000), b"\n" * 300_000, b"x" * (3 * MOST_LINE_BYTES), b"{}\n" * 50_000])
def test_whatever_a_power_cut_or_somebody_left_is_passed_over(ledger: Ledger, ring: KeyRing, junk: bytes) -> None:
    with ledger.path.open("ab") as stream:
        stream.write(junk)
    assert ledger.append("begun", "d", ring.signer()).sequence == 7
    assert {problem.kind for problem in ledger.verify()} <= {"torn", "ignored"}
    assert [entry.run for entry in ledger.entries()][-1] == "d"


def test_a_long_entry_is_found_again_and_one_that_is_too_long_is_refused(ledger: Ledger, ring: KeyRing) -> None:
    ledger.append("begun", "long", ring.signer(), text="x" * 300_000)
    ledger.append("ended", "long", ring.signer())
    assert report(ledger) == []
    with pytest.raises(LedgerError, match=r"an entry of 1\d+ bytes"):
        ledger.append("begun", "longer", ring.signer(), text="x" * MOST_LINE_BYTES)
    assert len(ledger.entries()) == 8


@pytest.mark.parametrize(("event", "run"), [("done", "a"), ("recovered", "a"), ("begun", "")])
def test_what_is_no_event_is_refused(ledger: Ledger, ring: KeyRing, event: str, run: str) -> None:
    with pytest.raises(UsageError):
        ledger.append(event, run, ring.signer())
    with pytest.raises(CanonicalError, match=r"\$\.fields\.x"):
        ledger.append("begun", "a", ring.signer(), x={1})
    assert len(ledger.entries()) == 6


def test_a_full_disk_leaves_the_chain_whole(tmp_path: Path, ring: KeyRing) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("begun", "a", ring.signer())
    script = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n" + APPEND
    )
    words = [sys.executable, "-c", script, str(ledger.path), "full", "100"]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "StorageError" in run.stderr and "the disk is full" in run.stderr
    assert report(ledger) == []
    assert ledger.path.read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, ring: KeyRing) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append("begun", "a", ring.signer())
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        Ledger(tmp_path / "folder").append("begun", "a", ring.signer())


def test_readers_see_the_list_as_it_was_when_they_began(ledger: Ledger, ring: KeyRing) -> None:
    walk = ledger._lines()
    next(walk)
    ledger.append("begun", "later", ring.signer())
    assert len(list(walk)) == 5
    assert ledger.entries()[-1].run == "later"


# -- lists that were started before entries were signed ---------------------------------------------------------------


def test_an_unsigned_list_is_read_and_continued_with_signed_entries(tmp_path: Path, ring: KeyRing) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    last, content = old_ledger("a", "b")
    ledger.path.write_bytes(content)
    assert report(ledger) == [] and len(ledger.audit([ring.public_key()]).entries) == 4
    assert ledger.entries_of("b", [])[-1] == last
    entry = ledger.append("begun", "c", ring.signer())
    assert (entry.sequence, entry.previous) == (5, last.digest)
    audit = ledger.audit([ring.public_key()])
    assert audit.problems == () and [bool(each.entry.key) for each in audit.entries] == [False] * 4 + [True]
    summary = ledger.summary([ring.public_key()])
    assert [(name, run.unsigned) for name, run in summary.runs.items()] == [("a", True), ("b", True), ("c", False)]
    assert LedgerSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_an_unsigned_list_that_was_edited_is_damaged(tmp_path: Path, ring: KeyRing) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.path.write_bytes(old_ledger("a", "b")[1])
    ledger.append("begun", "c", ring.signer())
    whole = lines(ledger)
    ledger.path.write_bytes(b"".join([whole[0], whole[1].replace(b"completed", b"failed"), *whole[2:]]))
    assert kinds(ledger) == [(1, "ignored"), (2, "ignored"), (3, "missing")]
    assert "line 2: no entry: edited: it does not match its own check" in report(ledger)
    ledger.path.write_bytes(b"".join(whole[1:]))
    assert kinds(ledger) == [(1, "missing")], "the first one was removed"


# -- heads that are kept elsewhere ----------------------------------------------------------------------------------


def test_a_head_is_the_last_line_and_the_list_must_go_on_from_it(ledger: Ledger, tmp_path: Path, ring: KeyRing) -> None:
    kept = tmp_path / "heads.jsonl"
    kept.write_bytes(lines(ledger)[3] + lines(ledger)[5])
    witnessed = Ledger(ledger.path, read_heads(kept))
    ledger.append("begun", "d", ring.signer())
    assert witnessed.verify() == []
    ledger.path.write_bytes(b"".join(lines(ledger)[:5]))
    assert [str(problem) for problem in witnessed.verify()] == [
        "entry 6 of a witness is not there: its last entries were removed or rewritten"
    ]


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "no head in it"), (b"x\n", "line 1: not JSON"), (None, "its signature does not hold")]
)
def test_what_is_no_head_is_refused(ledger: Ledger, tmp_path: Path, content: Any, what: str) -> None:
    file = tmp_path / "heads.jsonl"
    file.write_bytes(lines(ledger)[5].replace(b"completed", b"failed") if content is None else content)
    with pytest.raises(LedgerError, match=what):
        read_heads(file)
    with pytest.raises(NotFoundError):
        read_heads(tmp_path / "none")


def test_entry_of_a_line(ledger: Ledger) -> None:
    assert entry_of(lines(ledger)[-1]) == ledger.entries()[-1]
