"""Attacks on the list of runs: cut, rewritten, forked, appended to without a key; what must not suffer from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, put, records, sign_pair_member
from ledgers import entry_of, unsigned_line
from small_runs import SmallRun

from ndrepro.analysis.results.results import read_results
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger, read_heads
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.errors import StorageError
from provenance.ledger_entries.entry import Entry, EntryLine

WRITER = """
import pathlib, sys
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
ledger, signer = Ledger(pathlib.Path(sys.argv[1])), KeyRing(pathlib.Path(sys.argv[2])).signer()
for number in range(int(sys.argv[4])):
    ledger.append("begun", sys.argv[3], signer, number=number)
"""


@pytest.fixture
def two_runs(small_run: Callable[..., SmallRun]) -> tuple[SmallRun, SmallRun]:
    """A run that failed and one after it, in one ledger: entries 1 to 4."""
    first, second = small_run("first"), small_run("second")
    first.record(outcome="failed", exit_code=1)
    second.record()
    assert first.verify().ok and second.verify().ok
    return first, second


def lines(run: SmallRun) -> list[bytes]:
    return run.ledger.path.read_bytes().splitlines(keepends=True)


def write(run: SmallRun, *content: bytes) -> None:
    run.ledger.path.write_bytes(b"".join(content))


def append(run: SmallRun, *content: bytes) -> None:
    write(run, *lines(run), *content)


def kinds(run: SmallRun, ledger: Ledger | None = None) -> list[str]:
    keys = TrustPolicy.load(run.home).keys()
    return [problem.kind for problem in (ledger or run.ledger).verify(keys)]


def ledger_check(verdict: Verdict) -> tuple[str, str]:
    return verdict.checks[7].status, verdict.checks[7].message


def signed(ring: KeyRing, event: str, run: str, after: Entry | None, **fields: Any) -> bytes:
    """An entry that somebody signs as it pleases him."""
    line = EntryLine.sign(event, run, fields, after=after, signer=ring.signer(), key=ring.public_key())
    return line.to_bytes() + b"\n"


def forged(ring: KeyRing, event: str, run: str, after: Entry, **fields: Any) -> bytes:
    """An entry in the name of a key that did not sign it."""
    return signed(ring, event, run, after, **fields).replace(b'"signature":"', b'"signature":"AAAA', 1)


# -- without a key --------------------------------------------------------------------------------------------------


def test_an_append_without_the_key_is_named_and_changes_no_run(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """What a neighbour can write into a shared ledger; before, any such line took all runs with it."""
    first, second = two_runs
    whole, last = lines(first), entry_of(lines(first)[-1])
    own, stranger = KeyRing(first.home), KeyRing(tmp_path / "stranger")
    other = Ledger(tmp_path / "other.jsonl")
    elsewhere = other.append("begun", "second", own.signer())
    end = {"outcome": "completed", "manifest": "0" * 64}
    attempts = {
        "garbage": (b"garbage\n", "torn"),
        "an unsigned entry": (unsigned_line("ended", "second", end, last)[1], "ignored"),
        "an entry in the author's name": (forged(own, "ended", "second", last, **end), "ignored"),
        "a copy of an old line": (whole[2], "ignored"),
        "the author's entry of another ledger": (other.path.read_bytes(), "ignored"),
        "an entry with a key of his own": (signed(stranger, "resumed", "second", last), "unknown"),
        "one that follows nothing": (
            signed(stranger, "resumed", "second", elsewhere),
            "ignored",
        ),
    }
    for name, (line, kind) in attempts.items():
        write(first, *whole)
        append(first, line)
        assert kinds(first) == [kind], name
        assert first.verify().ok and second.verify().ok, name
        third = small_run(f"after {name}")
        third.record()
        assert kinds(third) == [kind], f"{name}: who appends after it passes it over"
        assert first.verify().ok and second.verify().ok and third.verify().ok, name
    print(f"{len(attempts)} kinds of lines appended without the key: all named, no run lost")


def test_a_neighbour_s_lines_of_a_run_are_counted_and_said(two_runs: tuple[SmallRun, SmallRun]) -> None:
    _, second = two_runs
    append(second, unsigned_line("resumed", "second", {}, entry_of(lines(second)[-1]))[1])
    verdict = second.verify()
    assert verdict.ok and "1 more that no trusted key signed" in verdict.checks[7].message


def test_nothing_of_a_neighbour_s_enters_a_signed_manifest(signed_run: SmallRun, tmp_path: Path) -> None:
    """The attempts in a manifest are read out of the ledger."""
    stranger, name = KeyRing(tmp_path / "stranger"), signed_run.folder.name
    last = entry_of(lines(signed_run)[-1])
    append(signed_run, unsigned_line("resumed", name, {}, last)[1], signed(stranger, "resumed", name, last))
    signed_run.record()
    verdict = signed_run.verify()
    assert verdict.manifest is not None
    assert [attempt.outcome for attempt in verdict.manifest.attempts] == ["completed", "completed"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_line_that_was_removed_or_edited_is_found_and_the_runs_before_it_named(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun], number: int
) -> None:
    first, second = two_runs
    third = small_run("third")
    third.record()
    whole = lines(first)
    for change in (b"", whole[number].replace(b'"time":"2', b'"time":"1'), whole[number].replace(b"fields", b"Fields")):
        write(first, *whole[:number], change, *whole[number + 1 :])
        assert "missing" in kinds(first)
        status, message = ledger_check(first.verify())
        assert status == "fail" and ("is not there" in message)
        assert (ledger_check(second.verify())[0] == "fail") == (number >= 2), "it began before the gap, or after it"
        assert third.verify().ok, "it began after every gap"


def test_a_cut_tail_is_found_by_the_manifests_and_by_a_head_that_was_kept(
    two_runs: tuple[SmallRun, SmallRun], tmp_path: Path
) -> None:
    first, second = two_runs
    kept = tmp_path / "head.jsonl"
    kept.write_bytes(lines(first)[-1])
    for keep, what in ((3, "began at entry 3 and has no end"), (2, "entry 3, which began this run, is not there")):
        write(first, *lines(first)[:keep])
        assert kinds(first) == []
        assert what in ledger_check(second.verify())[1]
        assert first.verify().ok, "the control: without a head, a run before the cut is whole"
        witnessed = Ledger(first.ledger.path, read_heads(kept))
        assert kinds(first, witnessed) == ["missing"]
        assert "entry 4 of a witness is not there" in ledger_check(first.verify(ledger=witnessed))[1]


# -- by the holder of the key ---------------------------------------------------------------------------------------


def rewritten(run: SmallRun, ring: KeyRing, number: int, **fields: Any) -> list[bytes]:
    """The list with other fields in one entry, and every entry after it chained and signed anew."""
    made = lines(run)[:number]
    for line in lines(run)[number:]:
        old, after = entry_of(line), entry_of(made[-1])
        new = fields if len(made) == number else old.fields
        made.append(signed(ring, old.event, old.run, after, **new))
    return made


def test_a_failure_that_the_key_s_holder_rewrites_is_found_by_later_manifests_and_heads(
    two_runs: tuple[SmallRun, SmallRun], tmp_path: Path
) -> None:
    """The list by itself is whole: every later manifest, and every head kept by others, is a witness of it."""
    first, second = two_runs
    kept = tmp_path / "head.jsonl"
    kept.write_bytes(lines(first)[-1])
    write(first, *rewritten(first, KeyRing(first.home), 1, outcome="completed", manifest="0" * 64))
    assert kinds(first) == [], "what the list alone cannot show"
    assert "another manifest" in ledger_check(first.verify())[1]
    assert "entry 3, which began this run, is not there" in ledger_check(second.verify())[1]
    assert kinds(first, Ledger(first.ledger.path, read_heads(kept))) == ["missing"]


def test_a_list_written_anew_is_found_by_a_head_wherever_the_head_s_own_line_is_put(
    two_runs: tuple[SmallRun, SmallRun], tmp_path: Path
) -> None:
    """The line of a kept head, alone among the entries of another history, passed for that history's head."""
    first, second = two_runs
    kept, whole = tmp_path / "head.jsonl", lines(first)
    kept.write_bytes(whole[-1])
    witnessed = Ledger(first.ledger.path, read_heads(kept))
    assert second.verify(ledger=witnessed).ok, "the control"
    for padding in (0, 6):  # so that the other history is longer than the kept one
        first.ledger.path.unlink()
        for number in range(padding):
            first.ledger.append("begun", f"x{number}", KeyRing(first.home).signer())
        second.record()
        anew = lines(second)
        assert second.verify().ok, "what the list alone cannot show"
        for content in (anew, [whole[-1], *anew], [*anew, whole[-1]], [*whole, *anew], [*anew, *whole], whole[3:]):
            write(first, *content)
            assert ledger_check(second.verify(ledger=witnessed))[0] == "fail"
            assert {"missing", "ignored"} & set(kinds(first, witnessed))


def test_a_head_asks_for_everything_before_it_and_minds_no_fork_of_others(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    first, second = two_runs
    kept, whole = tmp_path / "head.jsonl", lines(first)
    kept.write_bytes(whole[3])
    witnessed = Ledger(first.ledger.path, read_heads(kept))
    append(first, signed(KeyRing(first.home), "begun", "hidden", entry_of(whole[1])))
    third = small_run("third")
    third.record()
    assert all(run.verify(ledger=witnessed).ok for run in (first, second, third))
    write(first, *lines(first)[2:])
    assert third.verify().ok, "it began after the gap"
    assert "is not there" in ledger_check(third.verify(ledger=witnessed))[1]


def test_lines_in_another_order_do_not_hide_that_some_are_missing(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun]
) -> None:
    """Whoever may write the file puts what is after a gap in front, and needs no key."""
    first, _ = two_runs
    third = small_run("third")
    third.record()
    whole = lines(first)
    write(first, *whole[4:], *whole[:2])
    assert "it may be of this run" in ledger_check(first.verify())[1]
    assert third.verify().ok and kinds(first) == ["missing"]


def test_a_colleague_s_entries_cannot_be_rewritten(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """In a shared ledger the holder of one key can rewrite no further back than the last entry of another's."""
    first, _ = two_runs
    colleague = small_run("colleague's")
    colleague.close(colleague.open(home=tmp_path / "colleague"))
    policy = TrustPolicy.load(first.home)
    policy.add(KeyRing(tmp_path / "colleague").public_key().pem, "a colleague")
    assert colleague.verify(trust=policy).ok and first.verify(trust=policy).ok
    whole = lines(first)
    write(first, *rewritten(first, KeyRing(first.home), 1, outcome="completed")[:4], *whole[4:])
    assert "is not there" in ledger_check(first.verify(trust=policy))[1]
    assert [problem.kind for problem in first.ledger.verify(policy.keys())] == ["missing"]
    assert colleague.verify(trust=policy).ok


def test_a_fork_is_named_with_its_run_and_breaks_no_other(two_runs: tuple[SmallRun, SmallRun]) -> None:
    """Two entries that follow the same one: a second history, or locks that do not hold."""
    first, second = two_runs
    after = entry_of(lines(first)[1])
    append(first, signed(KeyRing(first.home), "begun", "hidden", after))
    (problem,) = first.ledger.verify(TrustPolicy.load(first.home).keys())
    assert (problem.line, problem.kind, problem.run) == (5, "fork", "hidden")
    assert str(problem) == "line 5: a fork: it follows entry 2, as line 3 does"
    assert first.verify().ok and second.verify().ok


def test_nobody_resumes_or_ends_a_run_that_another_began(two_runs: tuple[SmallRun, SmallRun], tmp_path: Path) -> None:
    """A colleague whose key the reader trusts, and who may write the list: in its last line, or in front of all."""
    first, second = two_runs
    bob, policy = KeyRing(tmp_path / "bob"), TrustPolicy.load(first.home)
    policy.add(bob.public_key().pem, "Bob")
    whole, name = lines(first), second.folder.name
    last, before = entry_of(whole[-1]), entry_of(whole[1])
    his = signed(bob, "begun", name, before)
    attempts = {
        "resumed": [*whole, signed(bob, "resumed", name, last)],
        "ended otherwise": [*whole, signed(bob, "ended", name, last, manifest="0" * 64, outcome="completed")],
        "begun in front": [*whole[:2], his, signed(bob, "ended", name, entry_of(his), outcome="failed"), *whole[2:]],
    }
    for what, content in attempts.items():
        write(first, *content)
        verdict = second.verify(trust=policy)
        assert (
            verdict.ok and "another trusted key has entries of it, which do not count" in verdict.checks[7].message
        ), what
        problems = [problem for problem in first.ledger.verify(policy.keys()) if problem.run == name]
        assert "a second history of its run, by a key of another holder" in [each.reason for each in problems]


def test_a_key_that_a_holder_took_later_ends_what_the_former_one_began(signed_run: SmallRun, tmp_path: Path) -> None:
    """The control of the one before."""
    ring, name = KeyRing(signed_run.home), signed_run.folder.name
    key_lifecycle.rotate(ring, None, None)
    signed_run.record()
    assert signed_run.verify().ok and kinds(signed_run) == []
    append(signed_run, signed(KeyRing(signed_run.home), "resumed", name, entry_of(lines(signed_run)[-1])))
    assert "has no end" in ledger_check(signed_run.verify())[1]


# -- writers --------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_after_a_crash_costs_the_run_that_wrote_it_alone(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun]
) -> None:
    first, second = two_runs
    write(first, *lines(first)[:3], lines(first)[3][:100])
    assert kinds(first) == ["torn"]
    third = small_run("third")
    third.record()
    assert kinds(first) == ["torn"] and first.verify().ok and third.verify().ok
    assert "has no end" in ledger_check(second.verify())[1]


def test_sixteen_writers_at_once_with_three_keys_leave_one_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    homes = [tmp_path / f"keys{number % 3}" for number in range(16)]
    rings = [KeyRing(home) for home in homes[:3]]
    keys = [ring.public_key() for ring in rings]
    children = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(home), f"r{number}", "10"])
        for number, home in enumerate(homes)
    ]
    assert [child.wait() for child in children] == [0] * 16
    audit = Ledger(path).audit(keys)
    assert audit.problems == ()
    assert [counted.entry.sequence for counted in audit.entries] == list(range(1, 161))
    for number in range(16):
        mine = [counted.entry.fields["number"] for counted in audit.entries if counted.entry.run == f"r{number}"]
        assert mine == list(range(10))


def test_a_replayed_block_does_not_lead_a_writer_astray(
    two_runs: tuple[SmallRun, SmallRun], small_run: Callable[..., SmallRun]
) -> None:
    """Old lines that were copied to the end, as often as somebody likes."""
    first, second = two_runs
    append(first, *lines(first)[:3] * 5)
    third = small_run("third")
    third.record()
    assert first.verify().ok and second.verify().ok and third.verify().ok
    assert set(kinds(first)) <= {"ignored", "fork"}


def test_a_pipe_in_the_ledger_s_place_hangs_nobody(signed_run: SmallRun) -> None:
    signed_run.ledger.path.unlink()
    os.mkfifo(signed_run.ledger.path)
    with pytest.raises(StorageError, match="not a regular file"):
        signed_run.ledger.append("begun", "x", KeyRing(signed_run.home).signer())
    assert "not a regular file" in ledger_check(signed_run.verify())[1]


def test_many_false_lines_cost_time_in_proportion(two_runs: tuple[SmallRun, SmallRun]) -> None:
    """Gaps were looked for in all entries, for each gap: a thousand took minutes."""
    first, second = two_runs
    key, last = KeyRing(first.home), entry_of(lines(first)[-1])
    made = [last]
    for _ in range(2000):
        made.append(entry_of(unsigned_line("begun", "x", {}, made[-1])[1]))
    gaps = [unsigned_line("begun", "x", {}, entry)[1] for entry in made[::2]]
    append(first, *gaps, forged(key, "begun", "x", last))
    assert first.verify().ok and second.verify().ok
    assert kinds(first) == ["ignored", "ignored"]


def test_what_a_revoked_key_appends_does_not_count(
    two_runs: tuple[SmallRun, SmallRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief who does not backdate; one who does is betrayed by the order, or by a head that was kept."""
    first, second = two_runs
    moment = entry_of(lines(first)[-1]).time
    append(first, signed(KeyRing(first.home), "resumed", "second", entry_of(lines(first)[-1])))
    assert "has no end" in ledger_check(second.verify())[1], "the control"

    def refusal(self: TrustedKey, when: str | None) -> str | None:
        return "it was revoked" if when is not None and when > moment else None

    monkeypatch.setattr(TrustedKey, "refusal", refusal)
    assert second.verify().ok
    (problem,) = first.ledger.verify(TrustPolicy.load(first.home).keys())
    assert (problem.line, problem.kind, problem.reason) == (5, "ignored", "it was revoked")


# -- a list of other runs ---------------------------------------------------------------------------------------------


def reviewed(run: SmallRun, home: Path) -> tuple[TrustPolicy, KeyRing]:
    """A reviewer who has a key of his own and trusts the run's author."""
    ring = KeyRing(home)
    ring.signer()
    policy = TrustPolicy.load(home)
    policy.add(KeyRing(run.home).public_key().pem, "Ada")
    return policy, ring


def test_a_reviewer_s_ledger_beside_a_run_that_came_without_one_says_nothing_of_it(
    signed_run: SmallRun, tmp_path: Path
) -> None:
    """What ``reproduce`` leaves: the run that it repeated failed check 8 afterwards."""
    trust, ring = reviewed(signed_run, tmp_path / "reviewer")
    signed_run.ledger.path.unlink()
    signed_run.ledger.append("begun", "repetition", ring.signer())
    signed_run.ledger.append("ended", "repetition", ring.signer(), outcome="completed", manifest=None)
    verdict = signed_run.verify(trust=trust)
    assert verdict.ok and ledger_check(verdict)[0] == "skip"
    assert "of other runs" in ledger_check(verdict)[1] and verdict.manifest_ok


def test_a_removed_beginning_is_found_where_the_signer_has_entries(
    two_runs: tuple[SmallRun, SmallRun], tmp_path: Path
) -> None:
    first, second = two_runs
    trust, ring = reviewed(first, tmp_path / "reviewer")
    name = second.folder.name
    whole, end = lines(first), entry_of(lines(first)[-1])
    own = KeyRing(first.home)
    made = {
        "the author's other run alone": whole[:2],
        "the author's end of it alone": [signed(own, "ended", name, None)],
        "nothing": [],
        "garbage": [b"garbage\n"],
        "a stranger's entry": [signed(KeyRing(tmp_path / "stranger"), "begun", "x", None)],
        "the author's entry, unsigned": [unsigned_line("begun", "x", {}, None)[1]],
        "the reviewer's entry after one that was removed": [signed(ring, "begun", "x", end)],
    }
    for what, content in made.items():
        write(first, *content)
        assert ledger_check(second.verify(trust=trust))[0] == "fail", what
    write(first, signed(ring, "begun", "x", None))
    assert ledger_check(second.verify(trust=trust))[0] == "skip", "the control"


def test_results_beside_others_ledger_count_and_their_starts_do_not(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    last = {"epoch": 2, "step": 12, "train_accuracy": 0.5, "test_accuracy": 0.6, "train_loss": 1.0, "test_loss": 1.1}
    summary = {"metrics summary": {"epochs": 2, "last": {**last, "learning_rate": 0.1}}}
    folder = sign_pair_member(tmp_path, "a", account(put("byproducts", summary)), records(4), home=tmp_path / "author")
    small = SmallRun(folder.root, Ledger(runs / "ledger.jsonl"), tmp_path / "author")
    trust, ring = reviewed(small, tmp_path / "reviewer")
    assert read_results(runs, policy=trust).started == 1
    small.ledger.path.unlink()
    small.ledger.append("begun", "repetition", ring.signer(), name="x")
    found = read_results(runs, policy=trust)
    assert [row.run_id for row in found.rows] == ["a"]
    assert found.started is None and [item.run_id for item in found.lost] == ["repetition"]
