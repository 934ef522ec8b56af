"""The list of runs: whole under many writers, and every way to tamper with it named by line and reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provenance.attestation.ledger import Entry, Ledger, Problem
from provenance.errors import CanonicalError, StorageError, UsageError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

APPEND = """
import pathlib, sys
from provenance.attestation.ledger import Ledger
ledger = Ledger(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    ledger.append("begun", sys.argv[2], number=number)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three runs begun and ended: six entries."""
    ledger = Ledger(tmp_path / "runs" / "ledger.jsonl")
    for name in ("a", "b", "c"):
        ledger.append("begun", name, note="žluťoučký")
        ledger.append("ended", name, outcome="completed")
    return ledger


def lines(ledger: Ledger) -> list[bytes]:
    return ledger.path.read_bytes().splitlines(keepends=True)


def report(ledger: Ledger) -> list[str]:
    return [str(problem) for problem in ledger.verify()]


def test_entries_come_back_as_they_were_appended(ledger: Ledger) -> None:
    entry = ledger.append("resumed", "a", step=3)
    assert ledger.entries()[-1] == entry
    assert [one.sequence for one in ledger.entries()] == list(range(1, 8))
    assert entry.fields == {"step": 3}
    assert ledger.verify() == []


def test_its_files_are_the_list_and_the_lock(ledger: Ledger) -> None:
    """All that an append makes: what captures a folder's source leaves both out."""
    ledger.append("begun", "a")
    assert sorted(ledger.files) == sorted(ledger.path.parent.iterdir())
    assert ledger.files == (ledger.path, Path(f"{ledger.path}.lock"))


def test_every_entry_names_the_line_before_it(ledger: Ledger) -> None:
    """Recomputed here with nothing but hashlib: another program can check the chain."""
    previous = "0" * 64
    for line, entry in zip(lines(ledger), ledger.entries(), strict=True):
        document = json.loads(line)
        assert document["previous"] == previous
        check = document.pop("check")
        assert check == bytes_digest(canonical_bytes(document))
        previous = bytes_digest(line.rstrip(b"\n"))
        assert entry.digest == previous


def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none").entries() == ()
    assert Ledger(tmp_path / "none").verify() == []
    assert list(tmp_path.iterdir()) == []


def test_four_processes_that_append_at_once_leave_one_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    children = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), f"r{n}", "50"]) for n in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    ledger = Ledger(path)
    assert ledger.verify() == []
    entries = ledger.entries()
    assert [entry.sequence for entry in entries] == list(range(1, 201))
    for name in ("r0", "r1", "r2", "r3"):
        assert [entry.fields["number"] for entry in entries if entry.run == name] == list(range(50))


def test_a_writer_that_is_killed_at_any_time_leaves_a_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for pause in (0.0, 0.01, 0.03, 0.05):
        child = subprocess.Popen([sys.executable, "-c", APPEND, str(path), "killed", "1000000"])
        before = len(ledger.entries())
        while len(ledger.entries()) <= before:
            time.sleep(0.005)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        ledger.append("begun", "after")
        assert ledger.verify() == []


def rewrite(line: bytes, **members: object) -> bytes:
    """An edit by someone who knows the format and makes the line's own check right again."""
    document = json.loads(line)
    document.pop("check")
    document.update(members)
    body = canonical_bytes(document)
    return canonical_bytes({**document, "check": bytes_digest(body)}) + b"\n"


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edited": (lambda x: [*x[:2], x[2].replace(b'"b"', b'"x"'), *x[3:]], "line 3: edited: it does not match its"),
    "edited at the end": (lambda x: [*x[:5], x[5].replace(b"completed", b"failed")], "line 6: edited"),
    "one space added": (lambda x: [x[0].replace(b",", b", ", 1), *x[1:]], "line 1: edited"),
    "edited with its check": (lambda x: [*x[:2], rewrite(x[2], run="x"), *x[3:]], "line 3: edited: line 4 was chained"),
    "first edited with its check": (lambda x: [rewrite(x[0], run="x"), *x[1:]], "line 1: edited: line 2"),
    "garbage": (lambda x: [*x[:2], b"garbage\n", *x[3:]], "line 3: not JSON"),
    "removed": (lambda x: [*x[:2], *x[3:]], "line 3: removed: entry 3 before it is not there"),
    "removed and blanked": (lambda x: [*x[:2], b"\n", *x[3:]], "line 3: not JSON"),
    "several removed": (lambda x: [*x[:1], *x[4:]], "line 2: removed: entry 2 to 4 before it"),
    "first removed": (lambda x: x[1:], "line 1: removed: entry 1"),
    "reordered": (lambda x: [x[0], x[2], x[1], *x[3:]], "line 2: out of order: entry 3 follows entry 1"),
    "repeated": (lambda x: [*x, x[5]], "line 7: out of order: entry 6 follows entry 6"),
    "inserted": (lambda x: [*x[:2], rewrite(x[1], sequence=3), *x[2:]], "out of order: entry 3 follows entry 3"),
    "torn": (lambda x: [*x[:5], x[5][:40]], "line 6: torn: it has no end (40 bytes)"),
    "a false recovery": (
        lambda x: [*x, rewrite(x[5], sequence=7, event="recovered", run="", previous=bytes_digest(x[5][:-1]))],
        "line 7: the torn line that this entry closed was removed or edited",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_named_by_line_and_reason(ledger: Ledger, attack: str) -> None:
    assert report(ledger) == []  # the control
    change, expected = ATTACKS[attack]
    ledger.path.write_bytes(b"".join(change(lines(ledger))))
    found = report(ledger)
    assert any(expected in line for line in found), found


def test_one_break_is_reported_once(ledger: Ledger) -> None:
    for attack in ("edited", "edited with its check", "removed", "several removed", "garbage"):
        whole = lines(ledger)
        ledger.path.write_bytes(b"".join(ATTACKS[attack][0](whole)))
        assert len(report(ledger)) == 1, attack
        ledger.path.write_bytes(b"".join(whole))


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_torn_last_line_is_closed_and_told(ledger: Ledger, keep: int) -> None:
    whole = lines(ledger)
    torn = whole[5][:keep]
    ledger.path.write_bytes(b"".join(whole[:5]) + torn)
    assert "torn" in report(ledger)[0]
    entry = ledger.append("begun", "d")
    assert report(ledger) == []
    assert lines(ledger)[5] == torn + b"\n"
    recovered = ledger.entries()[-2]
    assert (recovered.event, recovered.run) == ("recovered", "")
    assert recovered.fields == {"bytes": len(torn), "sha256": bytes_digest(torn)}
    assert entry.sequence == recovered.sequence + 1
    # the recovery vouches for these torn bytes and no others
    after = lines(ledger)
    for forged in (
        [*after[:5], b"x" + after[5], *after[6:]],
        [*after[:5], *after[6:]],
        [*after[:5], b"\n", *after[6:]],
    ):
        ledger.path.write_bytes(b"".join(forged))
        assert report(ledger) != []


def test_an_entry_that_lost_only_its_newline_is_kept(ledger: Ledger) -> None:
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-1])
    assert report(ledger) == [
        f"line 6: torn: it has no end ({len(lines(ledger)[5])} bytes); the next entry will end it"
    ]
    ledger.append("begun", "d")
    assert ledger.path.read_bytes().startswith(whole)
    assert [entry.run for entry in ledger.entries()] == ["a", "a", "b", "b", "c", "c", "d"]
    assert report(ledger) == []


def test_power_cuts_while_recovering_are_recovered_from_too(ledger: Ledger) -> None:
    whole = b"".join(lines(ledger))
    ledger.path.write_bytes(whole + b'{"check":"12')
    ledger.append("begun", "d")
    recovery = ledger.path.read_bytes()[len(whole) :]
    ends = [1, 20, recovery.index(b"\n") + 1, recovery.index(b"\n") + 50, recovery.index(b"\n", 20), len(recovery) - 1]
    for end in ends:
        ledger.path.write_bytes(whole + recovery[:end])
        ledger.append("begun", "e")
        assert report(ledger) == [], end
        assert [entry.run for entry in ledger.entries() if entry.event != "recovered"][-1] == "e"


def test_zeros_that_a_power_cut_left_are_recovered_from(ledger: Ledger) -> None:
    with ledger.path.open("ab") as stream:
        stream.write(bytes(200_000))
    ledger.append("begun", "d")
    assert report(ledger) == []
    assert ledger.entries()[-2].fields["bytes"] == 200_000


def test_a_long_entry_is_found_again(ledger: Ledger) -> None:
    ledger.append("begun", "long", text="x" * 300_000)
    ledger.append("ended", "long")
    assert report(ledger) == []


@pytest.mark.parametrize(("event", "run"), [("done", "a"), ("recovered", "a"), ("begun", "")])
def test_what_is_no_event_is_refused(ledger: Ledger, event: str, run: str) -> None:
    with pytest.raises(UsageError):
        ledger.append(event, run)
    with pytest.raises(CanonicalError, match=r"\$\.fields\.x"):
        ledger.append("begun", "a", x={1})
    assert len(ledger.entries()) == 6


def test_a_full_disk_leaves_the_chain_whole(ledger: Ledger) -> None:
    script = (
        "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))\n" + APPEND
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(ledger.path), "full", "100"], capture_output=True, text=True, check=False
    )
    assert "StorageError" in run.stderr and "the disk is full" in run.stderr
    assert report(ledger) == []
    assert ledger.path.read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Ledger(tmp_path / "file" / "ledger.jsonl").append("begun", "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        Ledger(tmp_path / "folder").append("begun", "a")


def test_the_time_is_in_utc(ledger: Ledger) -> None:
    for line in lines(ledger):
        assert json.loads(line)["time"].endswith("Z")
        assert Entry.from_line(line.rstrip(b"\n")).time == json.loads(line)["time"]
    assert os.path.exists(ledger.path)


def test_one_pass_gives_entries_and_problems_as_they_stood_when_it_began(ledger: Ledger) -> None:
    whole = lines(ledger)
    ledger.path.write_bytes(b"".join([*whole[:2], b"{}\n", *whole[3:]]))
    walk = ledger.audited()
    first = next(walk)
    ledger.append("begun", "later")
    rest = list(walk)
    assert [item.sequence for item in (first, *rest) if isinstance(item, Entry)] == [1, 2, 4, 5, 6]
    assert [item.line for item in rest if isinstance(item, Problem)] == [3] == [one.line for one in ledger.verify()]
    assert ledger.entries()[-1].run == "later"


def test_a_gap_of_any_size_is_told_at_once(ledger: Ledger) -> None:
    last = ledger.entries()[-1]
    _, line = Entry.make(2**50, "begun", "far", {}, last.digest)
    ledger.path.write_bytes(ledger.path.read_bytes() + line + b"\n")
    assert report(ledger) == [f"line 7: removed: entry 7 to {2**50 - 1} before it is not there"]
