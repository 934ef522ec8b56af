"""One training that is handed in as several: it counts once, whatever ids and seeds its copies record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compared_runs import account, parted, put, records, sign_pair_member

from ndrepro.analysis.results.replicates import replicates_of
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.cli import main
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy

LAST = {"epoch": 2, "step": 12, "train_accuracy": 0.5, "train_loss": 1.0, "test_loss": 1.1, "learning_rate": 0.1}


class Author:
    """Signs runs, trained or not, with the author's key."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "keys"

    def sign(self, run: str, trained: int, *, accuracy: float = 0.6, **settings: str) -> RunFolder:
        """A run with the bits of the training number ``trained``."""
        last = {**LAST, "test_accuracy": accuracy}
        found = account(put("byproducts", {"metrics summary": {"epochs": 2, "last": last}}), **settings)
        table = parted(records(4), 0, [0, 3], loss=0.01 * trained) if trained else records(4)
        table[:, 2] += trained
        return sign_pair_member(self.root, run, found, table, home=self.home)

    def read(self) -> Results:
        return read_results(self.root / "runs", policy=TrustPolicy.load(self.home))


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path)


def ids(rows: Any) -> list[str]:
    return [row.run_id for row in rows]


def test_a_run_copied_under_other_seeds_counts_once_and_its_copies_are_named(author: Author) -> None:
    author.sign("a", 0)
    for seed in ("1", "2", "3"):
        author.sign(f"copy{seed}", 0, seed=seed)
    author.sign("b", 7, seed="4")
    found = author.read()
    assert ids(found.rows) == ["a", "b"]
    assert [item.path.parent.name for item in found.refused] == ["copy1", "copy2", "copy3"]
    assert all("those of a" in item.reason and "other seeds" in item.reason for item in found.refused)


def test_the_copy_is_found_by_its_weights_alone_and_by_its_trail_alone(author: Author) -> None:
    first = author.sign("a", 0)
    for run, seed, name in (("trail", "1", "trail.bin"), ("weights", "2", "weights.safetensors")):
        found = account(
            put("byproducts", {"metrics summary": {"epochs": 2, "last": {**LAST, "test_accuracy": 0.6}}}), seed=seed
        )
        found["files"] = {name: (first.root / name).read_bytes()}
        table = records(4) + 1
        table[:, 3] += int(seed)
        sign_pair_member(author.root, run, found, table, home=author.home)
    assert ids(author.read().rows) == ["a"]


def test_the_same_seed_again_is_a_repetition_and_no_sample(author: Author) -> None:
    author.sign("a", 0), author.sign("again", 0), author.sign("b", 1, seed="1")
    samples, repeats = author.read().distinct()
    assert (ids(samples), ids(repeats)) == (["a", "b"], ["again"])


def test_the_seed_of_a_stream_that_moves_nothing_makes_no_sample(author: Author) -> None:
    author.sign("a", 0), author.sign("b", 0, **{"seeds.dropout": "5"})
    found = author.read()
    samples, repeats = found.distinct()
    assert (found.refused, ids(samples), ids(repeats)) == ((), ["a"], ["b"])


def test_equal_bits_in_two_environments_are_two_runs(author: Author) -> None:
    author.sign("a", 0), author.sign("b", 0, threads="2")
    found = author.read()
    assert (found.refused, ids(found.distinct()[0])) == ((), ["a", "b"])


def test_copies_are_no_replicates_by_which_a_result_is_judged(author: Author) -> None:
    original = author.sign("a", 0)
    author.sign("b", 1, seed="1", accuracy=0.9), author.sign("copy", 1, seed="2", accuracy=0.9)
    manifest = Statement.from_bytes(read_envelope(original.manifest.read_bytes())[1]).manifest
    found = replicates_of(manifest, RunsFolder(author.root / "runs"), TrustPolicy.load(author.home))
    assert (found.accuracies, found.refused) == ((0.9,), 1)


def test_the_audit_of_runs_says_that_copies_cannot_be(
    author: Author, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NDREPRO_HOME", str(author.home))
    author.sign("a", 0), author.sign("copy", 0, seed="1")
    assert main(["audit", "--runs", str(author.root / "runs"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [item["reason"] for item in found["runs"]["refused"]] and found["runs"]["completed"] == 1
    assert "2 different seeds gave the same results" in next(
        item["text"] for item in found["doubts"] if item["gravity"] == "cannot be"
    )
