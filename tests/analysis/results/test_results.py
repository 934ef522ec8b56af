"""Only what verifies becomes a number, and what does not is counted with its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, put, records_of, sign_pair_member

from ndrepro.analysis.results.result_row import manifest_of
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import read_envelope, sign_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.errors import NotFoundError

LAST = {"epoch": 2, "step": 12, "train_accuracy": 0.5, "test_accuracy": 0.6, "train_loss": 1.0, "test_loss": 1.1}
LAST["learning_rate"] = 0.1


class Folder:
    """A folder of signed runs, made without training."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.home = root / "keys"

    def add(self, run: str, *edits: Any, last: dict[str, Any] | None = None, **settings: str) -> RunFolder:
        row = {**LAST, **(last or {})}
        summary = put("byproducts", {"metrics summary": {"epochs": 2, "last": row}})
        found = account(summary, *edits, **settings)
        return sign_pair_member(self.root, run, found, records_of(found, 4), home=self.home)

    def read(self, **options: Any) -> Results:
        options.setdefault("policy", TrustPolicy.load(self.home))
        return read_results(self.runs, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_row_holds_what_was_signed(folder: Folder) -> None:
    run = folder.add("a", seed="3", learning_rate="0.05", last={"test_accuracy": 0.625})
    scores = folder.read()
    (row,) = scores.rows
    assert (row.run_id, row.folder, row.name, row.seed) == ("a", run.root, "lenet_bn_2_digits", 3)
    assert (row.test_accuracy_percent, row.train_accuracy_percent, row.test_loss) == (62.5, 50.0, 1.1)
    assert row.settings == {"learning_rate": 0.05} and row.seeds == {}
    assert row.environment == "torch 2.13.0, numpy 2.3.1, Python 3.11.7"
    assert row.signer == "this machine's key" and row.finite
    assert (scores.started, scores.refused, scores.unfinished, scores.lost) == (1, (), (), ())
    frame = scores.frame()
    assert frame.shape[0] == 1 and frame.loc[0, "settings"] == "learning_rate=0.05"


def test_a_changed_manifest_gives_no_number(folder: Folder) -> None:
    folder.add("a"), folder.add("b", seed="1")
    manifest = folder.add("c", seed="2").manifest
    assert len(folder.read().rows) == 3
    manifest.write_bytes(manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["a", "b"]
    (refused,) = scores.refused
    assert refused.path == manifest and "signature" in refused.reason


def test_a_stranger_s_signature_gives_no_number(folder: Folder, tmp_path: Path) -> None:
    folder.add("a")
    stranger = TrustPolicy.load(tmp_path / "other")
    assert folder.read(policy=stranger).rows == ()
    (refused,) = folder.read(policy=stranger).refused
    assert "no trusted key" in refused.reason
    stranger.add(KeyRing(folder.home).public_key().pem, "Ada")
    assert [row.signer for row in folder.read(policy=stranger).rows] == ["Ada"]


def test_what_failed_or_vanished_is_counted(folder: Folder) -> None:
    folder.add("a")
    folder.add("b", put("outcome", "failed"), seed="1")
    shutil.rmtree(folder.add("c", seed="2").root)
    Ledger(folder.runs / "ledger.jsonl").append("begun", "d", KeyRing(folder.home).signer(), name="lenet_bn_2_digits")
    scores = folder.read()
    assert scores.started == 4 and len(scores.rows) == 1
    assert [(item.run_id, item.outcome) for item in scores.unfinished] == [("b", "failed")]
    assert {item.run_id: item.reason for item in scores.lost} == {
        "c": "it ended, and its folder is gone",
        "d": "its folder is gone",
    }
    assert json.dumps(scores.account())


def test_a_segment_is_counted_and_neither_a_result_nor_refused(folder: Folder) -> None:
    folder.add("a")
    folder.add("b", put("external", {"segment": {"fromStep": 6, "epochs": 1}}))
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["a"] and scores.started == 2
    assert (scores.refused, scores.unfinished, scores.lost) == ((), (), ())
    assert [item.run_id for item in scores.segments] == ["b"] and scores.account()["segments"] == 1


def test_an_older_manifest_put_back_is_refused(folder: Folder) -> None:
    folder.add("a")
    Ledger(folder.runs / "ledger.jsonl").append("resumed", "a", KeyRing(folder.home).signer())
    assert "no end" in folder.read().refused[0].reason
    Ledger(folder.runs / "ledger.jsonl").append(
        "ended", "a", KeyRing(folder.home).signer(), outcome="completed", manifest="0" * 64
    )
    assert "another manifest" in folder.read().refused[0].reason


def test_a_damaged_ledger_takes_the_numbers_of_the_runs_before_with_it(folder: Folder) -> None:
    for name in ("a", "b", "c"):
        folder.add(name)
    ledger = folder.runs / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"sequence":4', b'"sequence":7'))
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["c"], "which began after the gap"
    assert {item.path.parent.name for item in scores.refused} == {"a", "b"}
    assert all("line 5: entry 4, which this one follows, is not there" in item.reason for item in scores.refused)


def test_a_run_copied_under_another_name_counts_once(folder: Folder) -> None:
    run = folder.add("a")
    shutil.copytree(run.root, run.root.with_name("b"))
    scores = folder.read()
    assert len(scores.rows) == 1 and "same run" in scores.refused[0].reason


def test_the_top_5_are_percent_too_and_none_where_they_were_not_recorded(folder: Folder) -> None:
    folder.add("a")
    folder.add("b", last={"test_top5_accuracy": 0.875, "train_top5_accuracy": 0.75})
    rows = {row.run_id: (row.train_top5_accuracy_percent, row.test_top5_accuracy_percent) for row in folder.read().rows}
    assert rows == {"a": (None, None), "b": (75.0, 87.5)}


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ({"test_accuracy": 60.0}, "fraction"),
        ({"epoch": 1}, "epoch 1 of 2"),
        ({"test_accuracy": None}, "not one"),
        ({"test_top5_accuracy": 1.5}, "fraction"),
    ],
)
def test_signed_nonsense_is_no_score(folder: Folder, last: dict[str, Any], reason: str) -> None:
    folder.add("a", last=last)
    scores = folder.read()
    assert scores.rows == () and reason in scores.refused[0].reason


def test_a_loss_that_is_not_finite_stays_and_shows(folder: Folder) -> None:
    folder.add("a", last={"test_loss": "nan"})
    (row,) = folder.read().rows
    assert not row.finite


def test_a_run_with_a_changed_file_is_refused_and_one_without_files_is_not(folder: Folder) -> None:
    run, other = folder.add("a"), folder.add("b", seed="1")
    assert len(folder.read().rows) == 2
    other.weights.unlink()
    assert len(folder.read().rows) == 2, "manifests are handed on alone, too"
    data = run.weights.read_bytes()
    run.weights.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"]
    assert scores.refused[0].reason == "check 6 (digests): weights.safetensors was changed"


def test_a_countersigned_run_counts_and_keeps_its_digest(folder: Folder, tmp_path: Path) -> None:
    run = folder.add("a")
    (before,) = folder.read().rows
    payload_type, payload, signatures = read_envelope(run.manifest.read_bytes())
    (stranger,) = read_envelope(sign_envelope(payload, KeyRing(tmp_path / "stranger").signer()))[2]
    run.manifest.write_bytes(b" " + write_envelope(payload_type, payload, [*signatures, stranger]))
    scores = folder.read()
    assert scores.rows == (before,) and not scores.refused
    assert manifest_of(before) is not None


def test_a_repeat_is_no_second_sample(folder: Folder) -> None:
    folder.add("a"), folder.add("b"), folder.add("c", seed="1")
    rows, repeats = folder.read().distinct()
    assert [row.run_id for row in rows] == ["a", "c"] and [row.run_id for row in repeats] == ["b"]


def test_seconds_count_only_if_they_were_signed(folder: Folder) -> None:
    clock = '{"epoch": 1, "train_seconds": 2.5}\n{"epoch": 2, "train_seconds": 3.5}\n'
    run = folder.add("a", put("files", {"timing.jsonl": clock.encode()}))
    assert folder.read().rows[0].train_seconds == 6.0
    run.timing.unlink()
    assert folder.read().rows[0].train_seconds is None
    run.timing.write_text(clock.replace("2.5", "0.5"), encoding="utf-8")
    assert folder.read().rows == () and "timing.jsonl was changed" in folder.read().refused[0].reason


@pytest.mark.parametrize("clock", [b"", b"[]\n", b"{}\n", b"\xff\n", b'{"train_seconds": "x"}\n', b"1\n"])
def test_a_signed_clock_that_is_none_gives_no_seconds(folder: Folder, clock: bytes) -> None:
    folder.add("a", put("files", {"timing.jsonl": clock}))
    (row,) = folder.read().rows
    assert row.train_seconds == (0.0 if clock == b"" else None)


def test_one_run_or_manifest_can_be_named(folder: Folder) -> None:
    run = folder.add("a")
    folder.add("b", seed="1")
    policy = TrustPolicy.load(folder.home)
    for place, started in ((run.root, 1), (run.manifest, 1), (run.root.parent, 2)):
        found = read_results(place, policy=policy)
        assert "a" in [row.run_id for row in found.rows] and found.started == started and not found.refused
    with pytest.raises(NotFoundError, match="not there"):
        read_results(folder.root / "nowhere", policy=policy)


def test_an_experiment_s_folder_has_the_ledger_s_runs_of_that_experiment(folder: Folder) -> None:
    run = folder.add("a")
    policy, ledger = TrustPolicy.load(folder.home), Ledger(folder.runs / "ledger.jsonl")
    for name, lost in (("lenet_bn_2_digits", "lost"), ("vgg11_bn_1", "another experiment's")):
        ledger.append("begun", lost, KeyRing(folder.home).signer(), name=name)
    experiment = run.root.parent
    found = read_results(experiment, policy=policy)
    assert (found.started, [item.run_id for item in found.lost]) == (2, ["lost"])
    both = read_results([folder.runs, experiment], policy=policy)
    assert (both.started, len(both.rows), len(both.lost)) == (3, 1, 2), "a folder inside another counts once"
    experiment.rename(folder.runs / "elsewhere")
    moved = read_results(folder.runs / "elsewhere", policy=policy)
    assert moved.started is None and len(moved.rows) == 1, "where it was started there may have been others"


def test_an_empty_folder_has_no_scores(tmp_path: Path) -> None:
    assert read_results(tmp_path, policy=TrustPolicy.load(tmp_path)).rows == ()


def test_what_was_scored_on_validation_images_is_no_test_result(folder: Folder) -> None:
    folder.add("a", validation="0.25")
    folder.add("b")
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"]
    assert "validation images" in scores.refused[0].reason
