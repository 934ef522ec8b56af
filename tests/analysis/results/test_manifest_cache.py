"""The cache saves time and never puts a number into a report."""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, put, records_of, sign_pair_member

from ndrepro.analysis.results import manifest_cache as module
from ndrepro.analysis.results.manifest_cache import cache_file
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy


class Folder:
    """Signed runs, and the cache in the key home."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs, self.home = root, root / "runs", root / "keys"
        self.cache = cache_file(self.home)

    def add(self, run: str, *edits: Any, test_loss: Any = 1.1, **settings: str) -> RunFolder:
        row = {"epoch": 2, "step": 12, "train_accuracy": 0.5, "test_accuracy": 0.6, "train_loss": 1.0}
        summary = {"metrics summary": {"epochs": 2, "last": {**row, "learning_rate": 0.1, "test_loss": test_loss}}}
        found = account(put("byproducts", summary), *edits, **settings)
        return sign_pair_member(self.root, run, found, records_of(found, 1), home=self.home)

    def read(self, policy: TrustPolicy | None = None, *, fresh: bool = False) -> Results:
        return read_results(self.runs, cache=None if fresh else self.cache, policy=policy or self.policy)

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy.load(self.home)

    def verified(self, policy: TrustPolicy | None = None) -> int:
        """How many manifests this reading verifies; the rest are out of the cache."""
        counts = [0]
        watch = lambda done, count: counts.append(count)  # noqa: E731
        read_results(self.runs, cache=self.cache, policy=policy or self.policy, watch=watch)
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


def numbers(scores: Results) -> list[tuple[str, float]]:
    return [(row.run_id, row.test_accuracy_percent) for row in scores.rows]


def test_what_comes_from_the_cache_is_what_was_verified(folder: Folder) -> None:
    first = folder.read()
    assert folder.verified() == 0
    again = folder.read()
    assert (
        again.rows[0] == first.rows[0] and again.unfinished == first.unfinished and again.started == first.started == 3
    )
    assert math.isnan(again.rows[1].test_loss) and again.rows[0].seeds == {"init": 3}
    assert again.rows[0].settings == {"learning_rate": 0.05} and isinstance(again.rows[0].folder, Path)
    assert numbers(again) == numbers(folder.read(fresh=True))


def test_other_code_finds_nothing_and_leaves_nothing_of_the_first(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (folder.verified(), folder.verified()) == (3, 0)
    before = module._code()
    monkeypatch.setattr(module, "_code", lambda: bytes(32))
    assert (folder.verified(), folder.verified()) == (3, 0)
    monkeypatch.setattr(module, "_code", lambda: before)
    assert folder.verified() == 3


def test_a_change_of_any_module_is_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's default, for one, is in no module that reads manifests."""
    for package in ("ndrepro", "provenance"):
        shutil.copytree(module.CODE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "CODE", tmp_path)
    digest = module._code.__wrapped__
    seen = {digest()}
    assert seen == {module._code()}, "the control: the same code elsewhere"
    for path in ("provenance/errors.py", "ndrepro/protocol/experiment/catalogue.py", "ndrepro/report/new.py"):
        with (tmp_path / path).open("a") as stream:
            stream.write("#")
        assert digest() not in seen
        seen.add(digest())


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
    assert [row.run_id for row in scores.rows] == ["b"]
    assert "weights.safetensors was changed" in scores.refused[0].reason
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
    Ledger(folder.runs / "ledger.jsonl").append("resumed", "a", KeyRing(folder.home).signer())
    scores = folder.read()
    assert [row.run_id for row in scores.rows] == ["b"] and "no end" in scores.refused[0].reason


def test_a_change_of_trust_verifies_all_again(folder: Folder, tmp_path: Path) -> None:
    reader = TrustPolicy.load(tmp_path / "reader")
    reader.add(KeyRing(folder.home).public_key().pem, "Ada")
    assert {row.signer for row in folder.read().rows} == {"this machine's key"}
    assert {row.signer for row in folder.read(reader).rows} == {"Ada"}
    assert folder.verified() == folder.verified(reader) == 0, "each has rows of its own"
    reader.remove("Ada")
    assert folder.read(reader).rows == () and len(folder.read(reader).refused) == 3


@pytest.mark.parametrize("harm", ["its folder", "its file", "a link"])
def test_a_cache_that_others_may_write_is_not_used(folder: Folder, harm: str) -> None:
    policy = folder.policy
    assert (folder.verified(policy), folder.verified(policy)) == (3, 0), "the control"
    if harm == "a link":
        folder.cache.rename(folder.root / "elsewhere")
        folder.cache.symlink_to(folder.root / "elsewhere")
    else:
        (folder.cache if harm == "its file" else folder.home).chmod(0o777)
    assert (folder.verified(policy), folder.verified(policy)) == (3, 3)


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


@pytest.mark.parametrize("harm", ["cut", "empty", "no database", "a number"])
def test_a_cache_that_is_damaged_gives_no_number_and_is_made_anew(folder: Folder, harm: str) -> None:
    expected = numbers(folder.read())
    data = folder.cache.read_bytes()
    if harm == "a number":
        with sqlite3.connect(folder.cache) as database:
            database.execute("UPDATE verified SET text = replace(text, '60.0', '99.0')")
        assert folder.cache.read_bytes() != data
    else:
        harmed = {"cut": data[: len(data) // 2], "empty": b"", "no database": b"x" * len(data)}
        folder.cache.write_bytes(harmed[harm])
    assert numbers(folder.read()) == expected
    assert numbers(folder.read()) == expected and folder.verified() == 0


def test_a_cache_that_is_locked_is_not_waited_for_for_ever(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    folder.read()
    with sqlite3.connect(folder.cache, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert folder.verified() == 3 and len(folder.read().rows) == 2
        other.execute("ROLLBACK")
    assert folder.verified() == 0


def test_a_key_home_that_cannot_be_written_is_no_harm(folder: Folder) -> None:
    for cache in (folder.runs / "ledger.jsonl" / "cache", Path("/proc/nowhere/cache")):
        assert len(read_results(folder.runs, cache=cache, policy=folder.policy).rows) == 2


def test_another_folder_with_the_same_manifests_is_asked_anew(folder: Folder) -> None:
    assert folder.read().started == 3
    inside = read_results(folder.manifest("a").parents[1], cache=folder.cache, policy=folder.policy)
    assert (inside.started, len(inside.rows)) == (3, 2)


def test_a_run_of_which_the_ledger_says_something_else_is_verified_anew(folder: Folder) -> None:
    assert len(folder.read().rows) == 2 and folder.verified() == 0
    Ledger(folder.runs / "ledger.jsonl").append("ended", "a", KeyRing(folder.home).signer(), outcome="completed")
    assert folder.verified() == 1


def test_names_that_are_no_text_are_read_too(folder: Folder) -> None:
    run = folder.manifest("a").parent
    run.rename(os.fsdecode(os.fsencode(run.parent) + b"/\xff-a"))
    for _ in range(2):
        scores = folder.read()
        assert sorted(os.fsencode(row.folder.name) for row in scores.rows) == [b"b", b"\xff-a"]


def test_two_processes_at_once_leave_one_cache_that_holds(folder: Folder) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_read_often, args=(folder.runs, folder.cache, folder.home)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert folder.verified() in (0, 3) and folder.verified() == 0, "3 where the last one removed it"


def _read_often(runs: Path, cache: Path, home: Path) -> None:
    for _ in range(5):
        scores = read_results(runs, cache=cache, policy=TrustPolicy.load(home))
        assert numbers(scores) == [("a", 60.0), ("b", 60.0)]
        cache.unlink(missing_ok=True)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_may_write_is_verified_each_time(folder: Folder, mode: int) -> None:
    """A mapped file is changed without a change of any time, as the first lines show; before, it was remembered."""
    file = folder.manifest("a").with_name("mapped")
    file.write_bytes(bytes(mmap.PAGESIZE))
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        memory[0] = 1
        before = file.stat()
        memory[0] = 2
        after = file.stat()
        assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    file.unlink()
    assert (folder.verified(), folder.verified()) == (3, 0)
    folder.manifest("a").chmod(mode)
    assert (folder.verified(), folder.verified()) == (1, 1)
