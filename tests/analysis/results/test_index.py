"""The index saves time and never puts a number into a report."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, put, records, sign_pair_member

from ndrepro.analysis.results import index as module
from ndrepro.analysis.results import sealed, workers
from ndrepro.analysis.results.index import Index
from ndrepro.analysis.results.results import Scores, read_scores
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy


class Folder:
    """Signed runs and the index beside them."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs, self.home = root, root / "runs", root / "keys"
        self.index = root / "index.sqlite"

    def add(self, run: str, *edits: Any, test_loss: Any = 1.1, **settings: str) -> RunFolder:
        row = {"epoch": 2, "step": 12, "train_accuracy": 0.5, "test_accuracy": 0.6, "train_loss": 1.0}
        summary = {"metrics summary": {"epochs": 2, "last": {**row, "test_loss": test_loss}}}
        found = account(put("byproducts", summary), *edits, **settings)
        return sign_pair_member(self.root, run, found, records(1), home=self.home)

    def read(self, policy: TrustPolicy | None = None, *, fresh: bool = False) -> Scores:
        return read_scores(self.runs, index=None if fresh else self.index, policy=policy or self.policy)

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy.load(self.home)

    def write_number(self, number: float) -> None:
        with sqlite3.connect(self.index) as database:
            database.execute("UPDATE manifests SET test_accuracy = ?", (number,))

    def reseal(self) -> None:
        data = self.index.read_bytes()[: -sealed.SEAL_BYTES]
        key = (self.home / "index.key").read_bytes()
        self.index.write_bytes(data + sealed.seal(data, key, module._CODE))

    def remembered(self, policy: TrustPolicy | None = None) -> int:
        return len(Index(policy or self.policy, self.index))

    def verified(self) -> int:
        """How many manifests the next reading verifies, then having done so."""
        counts = [0]
        read_scores(self.runs, index=self.index, policy=self.policy, watch=lambda done, count: counts.append(count))
        return max(counts)

    def manifest(self, run: str) -> Path:
        return next(self.runs.glob(f"*/{run}/manifest.dsse.json"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    # nothing here changes a file within the tick in which it was read, but for the test that does
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    made = Folder(tmp_path)
    made.add("a", learning_rate="0.05", **{"seeds.init": "3"})
    made.add("b", seed="1", test_loss="nan")
    made.add("c", put("outcome", "failed"), seed="2")
    return made


def numbers(scores: Scores) -> list[tuple[str, float]]:
    return [(row.run_id, row.test_accuracy) for row in scores.rows]


def test_what_comes_from_the_index_is_what_was_verified(folder: Folder) -> None:
    first = folder.read()
    assert folder.remembered() == 3
    again = folder.read()
    assert again.rows[0] == first.rows[0] and again.unfinished == first.unfinished and again.begun == first.begun == 3
    assert math.isnan(again.rows[1].test_loss) and again.rows[0].seeds == {"init": 3}
    assert again.rows[0].settings == {"learning_rate": 0.05} and isinstance(again.rows[0].folder, Path)
    assert numbers(again) == numbers(folder.read(fresh=True))


def test_a_number_written_into_it_reaches_no_report(folder: Folder) -> None:
    folder.read()
    folder.write_number(99.0)
    assert numbers(folder.read()) == [("a", 60.0), ("b", 60.0)]
    # with the key of the key home it would: so this is what keeps it out
    folder.write_number(99.0)
    folder.reseal()
    assert numbers(folder.read()) == [("a", 99.0), ("b", 99.0)]


def test_one_made_elsewhere_or_by_other_code_counts_for_nothing(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.read()
    other = tmp_path / "other"
    TrustPolicy.load(other).add(KeyRing(folder.home).public_key_pem(), "Ada")
    assert folder.remembered(TrustPolicy.load(other)) == 0
    code = tmp_path / "code.py"
    code.write_text("changed")
    monkeypatch.setattr(module, "_CODE", (*module._CODE, code))
    assert folder.remembered() == 0 and len(folder.read().rows) == 2


def test_a_manifest_changed_behind_its_back_is_verified_again(folder: Folder) -> None:
    folder.read()
    assert folder.verified() == 0, "the control: nothing is verified twice"
    manifest = folder.manifest("a")
    before = manifest.stat()
    changed = manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1)
    manifest.write_bytes(changed)
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (manifest.stat().st_size, manifest.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"] and len(scores.refused) == 1
    assert len(folder.read().refused) == 1, "what was refused is not remembered as good"


def test_a_file_changed_behind_its_back_is_verified_again(folder: Folder) -> None:
    folder.read()
    assert folder.verified() == 0, "the control: nothing is verified twice"
    weights = folder.manifest("a").with_name("weights.safetensors")
    before, data = weights.stat(), weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"] and "weights.safetensors was changed" in scores.refused[
        0
    ].reason
    weights.write_bytes(data)
    assert len(folder.read().rows) == 2 and folder.verified() == 0


def test_runs_come_and_go(folder: Folder) -> None:
    folder.read()
    folder.add("d", seed="4")
    assert [row.run_id for row in folder.read().rows] == ["a", "b", "d"]
    shutil.rmtree(next(folder.runs.glob("*/a")))
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b", "d"] and [item.run_id for item in scores.lost] == ["a"]
    assert folder.read().lost == scores.lost


def test_the_ledger_is_asked_again_when_it_has_changed(folder: Folder) -> None:
    folder.read()
    Ledger(folder.runs / "ledger.jsonl").append("resumed", "a")
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"] and "no end" in scores.refused[0].reason


def test_who_is_no_longer_trusted_has_no_rows(folder: Folder, tmp_path: Path) -> None:
    reader = TrustPolicy.load(tmp_path / "reader")
    reader.add(KeyRing(folder.home).public_key_pem(), "Ada")
    assert {row.signer for row in folder.read(reader).rows} == {"Ada"}
    assert folder.remembered(reader) == 3
    reader.remove("Ada")
    assert folder.read(reader).rows == () and len(folder.read(reader).refused) == 3


@pytest.mark.parametrize("home", ["relative", "absent", "open to others"])
def test_without_a_secret_there_is_no_index_and_no_harm(folder: Folder, home: str, tmp_path: Path) -> None:
    keys = tuple(folder.policy.keys())
    if home == "open to others":
        (folder.home / "index.key").write_bytes(bytes(32))
        os.chmod(folder.home / "index.key", 0o644)
        policy = folder.policy
    else:
        policy = TrustPolicy(Path() if home == "relative" else tmp_path / "nowhere", None, keys)
    assert len(folder.read(policy).rows) == 2
    assert not folder.index.exists()


def test_many_are_verified_by_several_processes_alike(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = folder.read(fresh=True)
    monkeypatch.setattr(workers, "_WORTH", 1)
    monkeypatch.setattr(workers, "_BATCH", 1)
    together = folder.read(fresh=True)
    assert numbers(together) == numbers(alone) and together.unfinished == alone.unfinished


def test_what_changed_a_moment_ago_is_verified_once_more(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one tick of the clock a file can change again and keep every time that it has."""
    monkeypatch.setattr(module, "_SETTLED_NS", 3_600_000_000_000)
    assert folder.verified() == 3 and folder.verified() == 3
    monkeypatch.setattr(module, "_SETTLED_NS", 0)
    assert folder.verified() == 3 and folder.verified() == 0


def test_a_run_folder_swapped_for_another_is_verified_again(folder: Folder) -> None:
    before = folder.read()
    first, second = (folder.manifest(run).parent for run in ("a", "b"))
    first.rename(first.with_name("x")), second.rename(first), first.with_name("x").rename(second)
    after = folder.read()
    assert numbers(after) == numbers(before)
    assert [row.folder.name for row in after.rows] == ["b", "a"] != [row.folder.name for row in before.rows]
    shutil.copyfile(folder.manifest("a"), folder.manifest("b"))
    assert [row.run_id for row in folder.read().rows] == ["b"], "a copy of one is no other run"


@pytest.mark.parametrize("harm", ["cut", "empty", "no database", "one bit", "no seal"])
def test_an_index_that_is_damaged_counts_for_nothing_and_is_made_anew(folder: Folder, harm: str) -> None:
    expected = numbers(folder.read())
    data = folder.index.read_bytes()
    damaged = {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "no database": b"x" * len(data),
        "one bit": data[:2000] + bytes([data[2000] ^ 1]) + data[2001:],
        "no seal": data[: -sealed.SEAL_BYTES],
    }[harm]
    folder.index.write_bytes(damaged)
    assert folder.remembered() == 0
    assert numbers(folder.read()) == expected and folder.remembered() == 3


def test_a_folder_that_cannot_be_written_is_read_all_the_same(folder: Folder) -> None:
    for index in (folder.root / "nowhere" / "index.sqlite", folder.runs / "ledger.jsonl" / "index.sqlite"):
        for _ in range(2):
            assert len(read_scores(folder.runs, index=index, policy=folder.policy).rows) == 2
        assert not index.exists()


def test_another_folder_with_the_same_manifests_is_asked_anew(folder: Folder) -> None:
    assert folder.read().begun == 3
    inside = read_scores(folder.manifest("a").parents[1], index=folder.index, policy=folder.policy)
    assert inside.begun is None and len(inside.rows) == 2


def test_rows_are_as_they_were_when_they_were_read(folder: Folder) -> None:
    scores = folder.read()
    folder.manifest("a").unlink()
    folder.write_number(99.0)
    assert numbers(scores) == [("a", 60.0), ("b", 60.0)]
    assert scores.rows[-1].run_id == "b" and [row.run_id for row in scores.rows[:1]] == ["a"]
    with pytest.raises(IndexError):
        scores.rows[2]


def test_names_that_are_no_text_are_read_too(folder: Folder) -> None:
    run = folder.manifest("a").parent
    run.rename(os.fsdecode(os.fsencode(run.parent) + b"/\xff-a"))
    for _ in range(2):
        scores = folder.read()
        assert sorted(os.fsencode(row.folder.name) for row in scores.rows) == [b"b", b"\xff-a"]


def test_two_processes_that_index_at_once_leave_one_that_holds(folder: Folder) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_read_often, args=(folder.runs, folder.index, folder.home)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert folder.remembered() == 3 and numbers(folder.read()) == [("a", 60.0), ("b", 60.0)]
    assert [path.name for path in folder.root.iterdir() if path.name.endswith(".tmp")] == []


def _read_often(runs: Path, index: Path, home: Path) -> None:
    for _ in range(5):
        scores = read_scores(runs, index=index, policy=TrustPolicy.load(home))
        assert numbers(scores) == [("a", 60.0), ("b", 60.0)]
        index.unlink(missing_ok=True)
    read_scores(runs, index=index, policy=TrustPolicy.load(home))
