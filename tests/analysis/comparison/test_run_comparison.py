"""Two run folders, whole or not: verified first, compared as far as they go, and every shortcoming said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import TENSORS, Edit, account, packages, parted, put, records, sign_pair_member

from ndrepro.analysis.comparison.run_comparison import RunComparison, compare_runs
from ndrepro.analysis.comparison.side import read_side
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import TrustPolicy
from provenance.formats.digest import FileDigest, listing

Make = Callable[..., RunFolder]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def make(tmp_path: Path, home: Path) -> Make:
    """Makes a signed run; each call another."""
    count = 0

    def run(
        *edits: Edit, table: Any = "plain", files: dict[str, bytes] | None = None, more: Any = None, **settings: str
    ) -> RunFolder:
        nonlocal count
        count += 1
        found = {**account(*edits, **settings), "files": files or {}}
        table = records(20) if isinstance(table, str) else table
        return sign_pair_member(
            tmp_path, f"20261121T10150{count}Z-aaaaa{count}", found, table, home=home, **(more or {})
        )

    return run


@pytest.fixture
def compare(home: Path) -> Callable[[Any, Any], RunComparison]:
    def both(first: Any, second: Any) -> RunComparison:
        trust = TrustPolicy.load(home)
        paths = [item.root if isinstance(item, RunFolder) else item for item in (first, second)]
        return compare_runs(*(read_side(path, trust) for path in paths))

    return both


def test_two_runs_of_the_same_bits_are_identical(make: Make, compare: Callable[..., RunComparison]) -> None:
    found = compare(make(), make(packages(torch=("2.8.0", "71" * 32))))
    assert found.identical and found.causes == () and found.notes == ()
    assert found.results == {"trail.bin": "equal", "metrics.jsonl": "equal", "weights.safetensors": "equal"}
    assert found.manifests is not None and found.manifests.changed == ("packages", "circumstances")
    assert [side.signer for side in found.sides] == ["this machine's key"] * 2
    assert [side.problems for side in found.sides] == [(), ()]


def test_two_runs_that_part_have_causes(make: Make, compare: Callable[..., RunComparison]) -> None:
    found = compare(make(), make(table=parted(records(20), 1, range(5), loss=0.1), **{"seeds.order": "4"}))
    assert not found.identical and found.trails is not None and found.trails.divergence is not None
    assert found.trails.divergence.step == 1
    assert [cause.title for cause in found.causes] == ["another seed of the order of the images"]
    assert found.results["metrics.jsonl"] == "equal" and found.results["trail.bin"] == "different"


def test_a_run_that_left_no_results_has_no_causes(make: Make, home: Path) -> None:
    other = make(packages(torch=("2.8.0", "71" * 32)), table=parted(records(20), 5, range(5), 1e-7))
    sides = [read_side(folder.root, TrustPolicy.load(home)) for folder in (make(), other)]
    assert compare_runs(*sides).causes, "the control"
    failed = compare_runs(sides[0], replace(sides[1], results={}, folder=None))
    assert failed.causes == () and not failed.identical


def test_what_only_one_run_left_is_no_difference_with_a_cause(make: Make, home: Path) -> None:
    """A program may be recorded once with its logs and once without: nothing that was computed differs."""
    other = make(packages(torch=("2.8.0", "71" * 32)))
    first, second = (read_side(folder.root, TrustPolicy.load(home)) for folder in (make(), other))
    weights = "weights.safetensors"
    assert compare_runs(first, replace(second, results={**second.results, weights: "ff"})).causes, "the control"
    alone = {name: digest for name, digest in second.results.items() if name != weights}
    found = compare_runs(first, replace(second, results=alone))
    assert found.results[weights] == "only the first has it" and not found.identical and found.causes == ()


def test_metrics_alone_that_differ_are_no_identity(make: Make, compare: Callable[..., RunComparison]) -> None:
    found = compare(make(), make(more={"accuracies": (0.4, 0.7)}))
    assert not found.identical and found.metrics is not None and len(found.metrics.differing) == 1
    assert found.trails is not None and found.trails.identical


def test_weights_that_were_swapped_are_no_identity(make: Make, compare: Callable[..., RunComparison]) -> None:
    first = make()
    second = make(files={"weights.safetensors": b"a better checkpoint"}, table=None)
    shutil.copy(first.trail, second.trail)
    found = compare(first, second)
    assert found.trails is not None and found.trails.identical
    assert found.results["weights.safetensors"] == "different" and not found.identical
    assert found.sides[1].changed == ("trail.bin",) and "trail.bin was added after signing" in found.sides[1].problems


def flip(path: Path) -> None:
    """Change one byte, in the same length."""
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


TAMPERED = ["trail.bin", "metrics.jsonl", "weights.safetensors", "request.json", "manifest.dsse.json"]


@pytest.mark.parametrize("tampered", TAMPERED)
def test_a_copy_that_was_changed_is_neither_verified_nor_identical(
    make: Make, compare: Callable[..., RunComparison], tmp_path: Path, tampered: str
) -> None:
    first = make()
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(first.root, copy.root)
    control = compare(first, copy)
    assert control.identical and control.sides[1].whole and control.changed == ()
    path = copy.root / tampered
    # in a manifest the payload, or it would be no envelope
    path.write_bytes(path.read_bytes().replace(b"ey", b"ez", 1)) if tampered == copy.manifest.name else flip(path)
    found = compare(first, copy)
    assert found.changed == ((), (tampered,)) and not found.identical
    side = found.sides[1]
    assert side.signer is None and not side.whole and side.status == "CHANGED AFTER SIGNING"
    assert found.sides[0].problems == () and len(side.problems) >= 1
    assert tampered in side.problems[0] or "does not verify" in side.problems[0]
    if tampered in found.results:
        assert found.results[tampered] == "different"
        assert [cause.title for cause in found.causes] == ["a file that was changed after signing"]
    else:
        assert found.causes == () and set(found.results.values()) == {"equal"}


def test_a_stranger_s_run_whose_file_was_changed_is_said_to_be_changed(make: Make, tmp_path: Path) -> None:
    first, second = make(), make()
    KeyRing(tmp_path / "another").public_key()
    stranger = TrustPolicy.load(tmp_path / "another")
    flip(second.weights)
    found = compare_runs(*(read_side(folder.root, stranger) for folder in (first, second)))
    assert found.changed == ((), ("weights.safetensors",)) and not found.identical
    assert "weights.safetensors is not the file that its manifest names" in found.sides[1].problems


def test_a_signer_who_is_not_trusted_is_said_and_compared(make: Make, tmp_path: Path) -> None:
    folders = make(), make()
    KeyRing(tmp_path / "another").public_key()
    stranger = TrustPolicy.load(tmp_path / "another")
    found = compare_runs(*(read_side(folder.root, stranger) for folder in folders))
    assert found.identical and found.manifests is not None
    for side in found.sides:
        assert side.signer is None and "the manifest does not verify: signature: signed by" in side.problems[0]


def test_a_manifest_alone_is_compared_by_the_digests_that_were_signed(
    make: Make, compare: Callable[..., RunComparison], tmp_path: Path
) -> None:
    first, second, other = make(), make(), make(table=parted(records(20), 3, [0], loss=0.1), **{"seeds.order": "4"})
    alone = tmp_path / "sent by mail.json"
    shutil.copy(second.manifest, alone)
    same = compare(first, alone)
    assert same.identical and same.trails is None
    assert same.notes == ("the second run's trail is not available",)
    assert same.sides[1].run == second.root.name and same.sides[1].folder is None
    parts = compare(other, alone)
    assert not parts.identical and [cause.assessment for cause in parts.causes] == ["likely"]


def test_a_folder_with_nothing_but_its_manifest_is_compared(make: Make, compare: Callable[..., RunComparison]) -> None:
    first, second = make(), make()
    for path in second.root.iterdir():
        if path != second.manifest:
            path.unlink()
    found = compare(first, second)
    assert found.identical and found.trails is None
    assert "trail.bin is missing" in found.sides[1].problems[0] and found.changed == ()
    assert found.sides[1].status == "manifest verified, signed by this machine's key" and not found.sides[1].whole


def test_a_trail_that_was_cut_short_is_compared_to_its_end(make: Make, compare: Callable[..., RunComparison]) -> None:
    found = compare(make(), make(put("outcome", "killed"), table=records(12)))
    assert not found.identical and found.trails is not None and found.trails.divergence is None
    assert found.causes[0].title == "one took more steps"
    assert found.manifests is not None and found.manifests["results"].get("outcome") is not None


def test_runs_of_different_networks_are_compared_in_all_but_their_steps(
    make: Make, compare: Callable[..., RunComparison]
) -> None:
    narrow = make(table=records(20, tensors=2), more={"tensors": TENSORS[:2]}, method="nd")
    found = compare(make(), narrow)
    assert found.other_tensors and found.trails is None and not found.identical
    assert found.notes == (
        "the trails follow the tensors of different networks and cannot be compared "
        "(only the first has bn1.running_var, fc.weight and others)",
    )
    assert found.metrics is not None and found.metrics.identical
    assert (found.causes[0].title, found.causes[0].assessment) == ("another network", "likely")


def test_a_damaged_trail_is_noted_and_the_rest_compared(make: Make, compare: Callable[..., RunComparison]) -> None:
    first, second = make(), make(**{"seeds.order": "4"})
    second.trail.write_bytes(b"no trail")
    found = compare(first, second)
    assert found.trails is None and found.notes == (f"{second.trail}: not a numerical trail",)
    assert found.results["trail.bin"] == "different" and found.manifests is not None


def test_a_manifest_of_a_schema_that_is_not_known_leaves_the_trails(
    make: Make, compare: Callable[..., RunComparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    from provenance.attestation import manifest as schema

    first, second = make(), make(table=parted(records(20), 4, [0]))
    reader = schema.READERS.pop(schema.SCHEMA_V1)
    try:
        found = compare(first, second)
    finally:
        schema.READERS[schema.SCHEMA_V1] = reader
    assert found.manifests is None and "predicateType 'urn:ndrepro:run:v1' is unknown" in found.sides[0].problems[0]
    assert found.trails is not None and found.trails.divergence is not None and found.trails.divergence.step == 4
    assert found.causes == () and not found.identical
    assert compare(first, second).manifests is not None, "the control"


def test_a_run_that_has_no_manifest_yet_is_compared_by_its_files(
    make: Make, compare: Callable[..., RunComparison]
) -> None:
    first, second = make(), make(table=parted(records(20), 4, [0]))
    second.manifest.unlink()
    found = compare(first, second)
    assert found.sides[1].problems == (
        "there is no manifest: the run is still running, or was killed with its recorder",
    )
    assert found.trails is not None and found.trails.divergence is not None
    assert (found.sides[1].name, found.sides[1].run) == (second.root.parent.name, second.root.name)


def test_what_is_no_run_at_all_cannot_be_compared(
    make: Make, compare: Callable[..., RunComparison], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NdreproError, match="neither a run folder nor a manifest"):
        compare(make(), tmp_path / "nowhere")
    with pytest.raises(NdreproError, match="nothing to compare: there is no manifest"):
        compare(tmp_path / "empty", tmp_path / "empty")


def test_the_files_of_the_data_that_differ_are_named(make: Make, compare: Callable[..., RunComparison]) -> None:
    def listed(**digests: str) -> dict[str, bytes]:
        return {"dataset.sha256": listing((n, FileDigest(1, d * 32)) for n, d in digests.items()).encode()}

    first = make(files=listed(a="01", b="02"))
    second = make(
        put("data.tree_sha256", "db" * 32), files=listed(b="03", c="04"), table=parted(records(20), 1, [0], 0.1)
    )
    found = compare(first, second)
    assert found.data is not None
    assert (found.data.only_first, found.data.only_second, found.data.changed) == (("a",), ("c",), ("b",))
    (second.root / "dataset.sha256").write_text("nonsense\n")
    broken = compare(first, second)
    assert broken.data is None and "dataset.sha256, line 1" in broken.notes[0]


def test_code_is_asked_for_only_where_the_source_differs(make: Make, compare: Callable[..., RunComparison]) -> None:
    first = make()
    assert compare(first, make()).code is None
    found = compare(first, make(put("source.commit", "ff" * 20), put("code", "c1" * 32)))
    assert found.code is not None and found.code.how == "unknown" and found.code.caveats


def test_the_json_has_every_part(make: Make, compare: Callable[..., RunComparison]) -> None:
    found = compare(make(), make(table=parted(records(20), 4, [0], loss=1e-6)))
    written = json.loads(json.dumps(found.to_json()))
    assert written["identical"] is False and written["second"]["verified"] is True
    assert written["trails"]["divergence"]["step"] == 4 and written["causes"][0]["assessment"] == "possible"
    assert [group["name"] for group in written["manifests"]][:2] == ["experiment", "seeds"]
    assert written["code"] is None and written["data"] is None


def test_runs_of_any_recorded_script_are_compared_by_all_that_they_left(
    compare: Callable[..., RunComparison], home: Path, tmp_path: Path
) -> None:
    import provenance

    def record(name: str, weight: bytes, lr: float) -> Path:
        with provenance.record(tmp_path / name, name="fit", parameters={"lr": lr}, home=home) as run:
            run.log(step=0, loss=0.5)
            (tmp_path / "model.bin").write_bytes(weight)
            run.artifact(tmp_path / "model.bin")
        return tmp_path / name

    first = record("first", b"1", 0.1)
    same = compare(first, record("second", b"1", 0.1))
    assert same.identical and same.results == {"artifacts/model.bin": "equal", "metrics.jsonl": "equal"}
    other = compare(first, record("third", b"2", 0.2))
    assert other.results["artifacts/model.bin"] == "different" and not other.identical
    assert other.causes[0].evidence[0] == "parameters.lr 0.1 -> 0.2"
