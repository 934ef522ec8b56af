"""ndrepro ledger: what is whole, what is wrong and whom it concerns; heads and proofs that are kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ledgers import old_ledger
from recorded_runs import Answer, sign_run

from ndrepro.protocol.layout import RunFolder, RunsFolder

NAMES = ("20261121T101500Z-aaaaaa", "20261121T111500Z-bbbbbb", "20261121T121500Z-cccccc")


@pytest.fixture
def signed(runs: RunsFolder) -> list[RunFolder]:
    """Three runs, of which the second failed: entries 1 to 6."""
    outcomes = ("completed", "failed", "completed")
    return [sign_run(runs, "lenet_bn_2_digits", name, outcome) for name, outcome in zip(NAMES, outcomes, strict=True)]


def lines(runs: RunsFolder) -> list[bytes]:
    return runs.ledger.read_bytes().splitlines(keepends=True)


def test_a_whole_ledger_is_verified(ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder]) -> None:
    answer = ndrepro("ledger", "verify")
    assert answer.code == 0 and "entries    6, of 3 runs\nsigned     6 by this machine's key\n" in answer.out
    document = ndrepro("ledger", "verify", "--json").json
    assert document["ok"] and document["problems"] == [] and document["signed"] == {"this machine's key": 6}


def test_what_is_missing_is_named_with_the_runs_that_it_concerns(
    ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder]
) -> None:
    runs.ledger.write_bytes(b"".join([*lines(runs)[:3], *lines(runs)[4:]]))
    answer = ndrepro("ledger", "verify")
    assert answer.code == 1
    assert "FAIL       line 4: entry 4, which this one follows, is not there" in answer.out
    assert f"affected   2 runs: {NAMES[0]}, {NAMES[1]}\n" in answer.out and "NOT verified: 1 problem;" in answer.out
    assert ndrepro("ledger", "verify", "--json").json["runs_affected"] == list(NAMES[:2])
    assert ndrepro("verify", NAMES[2], "--manifest-only").code == 0


def test_the_boundary_between_unsigned_and_signed_entries_is_shown(
    ndrepro: Callable[..., Answer], runs: RunsFolder
) -> None:
    runs.root.mkdir(exist_ok=True)
    runs.ledger.write_bytes(old_ledger("old")[1])
    sign_run(runs, "lenet_bn_2_digits", NAMES[0])
    out = ndrepro("ledger", "verify").out
    assert "unsigned   entries 1 to 2: from before entries were signed\nsigned     2 by this machine's key\n" in out


def test_a_kept_head_shows_that_the_tail_was_cut(
    ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder], tmp_path: Path
) -> None:
    answer = ndrepro("ledger", "head")
    assert answer.code == 0 and answer.out.encode() == lines(runs)[-1]
    heads = tmp_path / "heads.jsonl"
    heads.write_text(answer.out)
    for words in (("ledger", "verify"), ("verify", NAMES[0], "--manifest-only")):
        assert ndrepro(*words, "--witness", str(heads)).code == 0
    runs.ledger.write_bytes(b"".join(lines(runs)[:4]))
    assert ndrepro("ledger", "verify").code == 0, "the control: the ledger alone shows nothing"
    for words in (("ledger", "verify"), ("verify", NAMES[0], "--manifest-only")):
        answer = ndrepro(*words, "--witness", str(heads))
        assert answer.code == 1 and "entry 6 of a witness is not there" in answer.out
    heads.write_text("something else")
    answer = ndrepro("ledger", "verify", "--witness", str(heads))
    assert answer.code == 3 and "heads.jsonl: line 1: not JSON" in answer.err and "hint" in answer.err


def test_a_proof_is_checked_without_the_ledger_and_serves_as_one(
    ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder], tmp_path: Path
) -> None:
    answer = ndrepro("ledger", "prove", NAMES[1])
    assert answer.code == 0 and answer.out.encode() == b"".join(lines(runs)[2:])
    kept, key = tmp_path / "proof.jsonl", tmp_path / "author.pub"
    proof = answer.out
    kept.write_text(proof)
    assert ndrepro("keys", "export", "--out", str(key)).code == 0
    answer = ndrepro("ledger", "check-proof", str(kept), "--key", str(key))
    assert answer.code == 0 and f"verified: how run {NAMES[1]} ended, as of entry 6" in answer.out
    assert "entry 4     " in answer.out and "ended (failed), signed by " in answer.out
    assert ndrepro("verify", NAMES[1], "--manifest-only", "--ledger", str(kept)).code == 0
    assert ndrepro("verify", NAMES[0], "--manifest-only", "--ledger", str(kept)).code == 1
    # a head in front of what does not follow it
    kept.write_bytes(b"".join([lines(runs)[5], *lines(runs)[:2]]))
    out = ndrepro("ledger", "check-proof", str(kept)).out
    assert "FAIL       line 2: it does not follow the entry before" in out and "NOT verified: 2 problems" in out
    # the control: an entry left out, edited, or the head removed where it is known
    whole = proof.splitlines(keepends=True)
    for changed in ([whole[0], *whole[2:]], [whole[0], whole[1].replace("failed", "completed"), *whole[2:]]):
        kept.write_text("".join(changed))
        document = ndrepro("ledger", "check-proof", str(kept), "--json").json
        assert not document["ok"] and "line" in document["problems"][0]
    kept.write_text("".join(whole[1:]))
    assert "it does not begin where run" in ndrepro("ledger", "check-proof", str(kept)).out
    kept.write_text(whole[0])
    assert f"verified: run {NAMES[1]} began, and has no end here" in ndrepro("ledger", "check-proof", str(kept)).out
    kept.write_text("".join(whole[:2]))
    heads = tmp_path / "heads.jsonl"
    heads.write_text(whole[-1])
    assert ndrepro("ledger", "check-proof", str(kept)).code == 0
    assert ndrepro("ledger", "check-proof", str(kept), "--witness", str(heads)).code == 1


def test_a_run_whose_folder_is_gone_can_be_proven_and_an_unknown_one_cannot(
    ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder]
) -> None:
    signed[0].root.rename(runs.root.parent / "elsewhere")
    assert len(ndrepro("ledger", "prove", NAMES[0]).out.splitlines()) == 6
    answer = ndrepro("ledger", "prove", "nope")
    assert answer.code == 3 and "no entry of run 'nope'" in answer.err


def test_what_is_said_is_what_is_in_the_ledger(
    ndrepro: Callable[..., Answer], runs: RunsFolder, signed: list[RunFolder], tmp_path: Path
) -> None:
    kept = tmp_path / "proof.jsonl"
    kept.write_text(ndrepro("ledger", "prove", NAMES[2]).out)
    document = ndrepro("ledger", "check-proof", str(kept), "--json").json
    assert [entry["event"] for entry in document["entries"]] == ["begun", "ended"]
    assert document["head"]["sequence"] == 6 and document["run"] == NAMES[2]
    assert document["entries"][1]["fields"] == json.loads(lines(runs)[5])["entry"]["fields"]
