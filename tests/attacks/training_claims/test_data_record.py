"""An author signs a false record of the data: image counts that switch a tolerance off, an official flag, no digests.

Before: one recorded test image made every accuracy "close"; the official flag was believed; a run whose record shared
no digest with its repetition counted as trained on the same data.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dishonest_author import (
    copied,
    edit_results,
    edit_trail,
    manifest_of,
    original_of,
    planned,
    sign_again,
    verified,
)
from PIL import Image
from real_runs import Bench

from ndrepro.analysis.verdicts.data_evidence import compare_data
from ndrepro.analysis.verdicts.reproduction_claims import evaluation_implied
from ndrepro.analysis.verdicts.reproduction_verdict import judge
from ndrepro.execution.reproduce.reexecute import execute
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, run
from ndrepro.execution.sandbox.sandbox import AUTO, choose
from ndrepro.protocol.data_record import PIXELS, DataRecord
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.project_folders import CODE, packages_of
from ndrepro.protocol.verdicts import CHECKED, NO_SANDBOX
from ndrepro.training.data.own_data.npz_arrays import load
from ndrepro.training.data.own_data.own_images import load as load_own
from provenance.attestation.manifest import Resource
from provenance.code.snapshot import copy_source
from provenance.formats.atomic_io import write_json
from provenance.formats.digest import file_digest

OTHER = {"train": "1" * 64, "test": "2" * 64}


def restated(folder: RunFolder, **changes: Any) -> None:
    """Change members of dataset.json; ``None`` removes one."""
    said = {**json.loads(folder.dataset.read_text()), **changes}
    write_json(folder.dataset, {name: value for name, value in said.items() if value is not None})


def refusals(folder: RunFolder, author: Bench) -> list[str]:
    """What verify refuses after the author signed the changed record."""
    said = json.loads(folder.dataset.read_text())
    made = Resource("dataset:digits", digest={"sha256": said["tree_sha256"]}, annotations=said)
    signed = manifest_of(folder).dependencies
    sign_again(folder, author, dependencies=tuple(made if item.name == made.name else item for item in signed))
    return [check.message for check in verified(folder, author).checks if check.status == "fail"]


@pytest.mark.parametrize("count", [1, 0, -5, "x", [1], True, 359])
def test_false_image_counts_do_not_verify(honest: Finished, author: Bench, tmp_path: Path, count: Any) -> None:
    folder = copied(honest.folder, tmp_path)
    assert refusals(folder, author) == [], "the control"
    restated(folder, test_images=count)
    messages = refusals(folder, author)
    assert messages and all("dataset.json" in each and "test" in each for each in messages)


def test_one_recorded_image_does_not_excuse_invented_accuracies(
    honest: Finished, author: Bench, tmp_path: Path
) -> None:
    folder = copied(honest.folder, tmp_path)
    edit_trail(folder, lambda records: records[1:, 1:].__iadd__(1))  # losses and hashes, in their last bits
    edit_results(folder, 4, test_accuracy=0.99)
    before = judge(folder, honest.folder)
    restated(folder, train_images=1, test_images=1)
    found = judge(folder, honest.folder)
    assert not before.passes and not found.passes
    for each in (before, found):
        assert next(claim.status for claim in each.claims if claim.name == "epoch results") == "failed"
    restated(folder, test_images=[1])
    with pytest.raises(DataError, match=r"dataset\.json\.test_images: \[1\], expected a whole number"):
        judge(folder, honest.folder)


def test_an_official_flag_is_compared_with_the_digests(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    folder.dataset_listing.write_text(f"{'0' * 64}  digits.csv.gz\n")
    restated(folder, tree_sha256=file_digest(folder.dataset_listing).sha256)
    (message,) = refusals(folder, author)
    assert "canonical is true" in message
    restated(folder, canonical=False)
    assert refusals(folder, author) == [], "the control: other files that are recorded as such"


def test_a_record_without_digests_of_images_does_not_verify(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    restated(folder, pixels_sha256=None)
    assert "no digest of its images" in refusals(folder, author)[0]


def test_the_claim_on_data_says_what_was_compared(honest: Finished, tmp_path: Path) -> None:
    again = copied(honest.folder, tmp_path)
    cases: list[tuple[dict[str, Any], str, str, str]] = [
        ({}, "checked", "identical", "same pixels and labels, by SHA-256"),
        ({"tree_sha256": "0" * 64}, "checked", "identical", "in other files"),
        ({"pixels_sha256": OTHER}, "not checked", "undecided", "pixels and labels differ"),
        ({"tree_sha256": "0" * 64, "pixels_sha256": None}, "not checked", "undecided", "no digest"),
        ({"canonical": False}, "failed", "inconsistent", "official files, which they are not"),
        ({"tree_sha256": "0" * 64, "canonical": False}, "flagged", "undecided", "records the official files"),
        ({"train_images": 7}, "failed", "inconsistent", "images"),
    ]
    kept = again.dataset.read_bytes()
    for changes, status, verdict, words in cases:
        again.dataset.write_bytes(kept)
        restated(again, **changes)
        found = judge(honest.folder, again)
        (claim,) = (each for each in found.claims if each.name == "data")
        assert (claim.status, found.verdict) == (status, verdict), changes
        assert words in claim.evidence
        assert claim.status == CHECKED or verdict != "close"


def test_a_digest_of_another_kind_does_not_switch_the_evaluation_off(honest: Finished, tmp_path: Path) -> None:
    """Before: no shared digest, so the data were "not checked", the weights not evaluated, a spot check identical."""
    folder = copied(honest.folder, tmp_path)
    restated(folder, tree_sha256="0" * 64, pixels_sha256=None, labelled_sha256=OTHER, canonical=False)
    found = judge(folder, honest.folder)
    assert (found.verdict, found.passes) == ("undecided", False)
    restated(folder, labelled_sha256=None)
    early = judge(folder, honest.folder)
    assert early.verdict == "identical", "a record of a release without digests of images"
    assert evaluation_implied([replace(early, claims=early.claims[-1:])]) is None, "so its weights are evaluated"


def test_an_array_that_is_in_a_file_twice_is_refused(tmp_path: Path) -> None:
    """Readers take the first or the last: before, the last labels were trained on, without a word."""
    images, labels = np.zeros((6, 8, 8), dtype=np.uint8), np.arange(6) % 3
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    place = tmp_path / "data.npz"
    np.savez(place, **arrays)
    assert load(place).test.labels.tolist() == labels.tolist(), "the control"
    for name in ("y_test.npy", "y_test"):
        np.savez(place, **arrays)
        with (
            warnings.catch_warnings(action="ignore"),
            zipfile.ZipFile(place, "a") as archive,
            archive.open(name, "w") as stream,
        ):
            np.lib.format.write_array(stream, labels[::-1])
        with pytest.raises(DataError, match="an array is in it twice"):
            load(place)


def test_two_data_sets_in_one_file_are_refused_and_other_arrays_named(tmp_path: Path) -> None:
    """Before, the second was ignored without a word: a result on data that a reader of the file does not expect."""
    images, labels = np.zeros((6, 8, 8), dtype=np.uint8), np.arange(6) % 3
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    place = tmp_path / "data.npz"
    np.savez(place, **arrays, val_images=images, val_labels=labels)
    found = load(place).describe()["left_out"]
    assert found["examples"] == ["val_images", "val_labels"] and found["reasons"] == {"array that is not used": 2}
    np.savez(place, **arrays, x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(DataError, match="x_train, x_test and train_images, test_images: which is meant is not known"):
        load(place)


def test_what_is_beside_the_splits_of_an_image_folder_is_named(tmp_path: Path) -> None:
    """Before, the honest test images could lie there in a split of another name, in no record."""
    for folder in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / folder / "1.png")
    assert load_own(tmp_path).describe()["left_out"]["count"] == 0, "the control"
    shutil.copytree(tmp_path / "test", tmp_path / "TEST")
    (tmp_path / "d.npz").touch()
    found = load_own(tmp_path).describe()["left_out"]
    assert found["examples"] == ["TEST", "d.npz"] and found["reasons"] == {"outside of the class folders": 2}


@pytest.mark.skipif(choose(AUTO, container=False)[0] == NO_SANDBOX, reason="no sandbox here")
def test_data_are_read_by_this_checkout_before_a_repetition_by_an_earlier_commit(tmp_path: Path) -> None:
    """Before: at the recorded path by the recorded code alone, whose reader had the faults that were mended since."""
    bench, place, earlier = Bench(tmp_path), tmp_path / "data.npz", tmp_path / "code"
    images, labels = np.random.RandomState(0).randint(0, 256, (12, 16, 16), dtype=np.uint8), np.arange(12) % 2
    arrays = {"x_train": images[:8], "y_train": labels[:8], "x_test": images[:4], "y_test": labels[:4]}
    np.savez(place, **arrays)
    experiment = Experiment.from_name("lenet_bn_1_own", {"batch_size": "4", "threads": "1"})
    original = original_of(run(experiment, replace(bench.options, data=place), Observer()).folder, bench)
    copy_source(packages_of(CODE), earlier)
    reader = earlier / "ndrepro/training/data/own_data/npz_arrays.py"
    reader.write_text(reader.read_text().replace("if len(sets) > 1:", "if False:"))
    chosen = planned(original, bench.options)
    assert chosen.rebuilt is not None
    chosen = replace(chosen, rebuilt=replace(chosen.rebuilt, code=earlier))
    np.savez(place, **arrays, train_images=images, train_labels=labels, test_images=images[8:], test_labels=labels[8:])
    with pytest.raises(DataError, match="x_train, x_test and train_images, test_images: which is meant is not known"):
        execute(original, chosen, bench.options, Observer())
    np.savez(place, **arrays)
    (again,) = execute(original, chosen, bench.options, Observer())
    assert judge(original.folder, again.folder).verdict == "identical", "the control"


def test_data_of_no_published_digest_are_named_by_the_repetition(honest: Finished, tmp_path: Path) -> None:
    """Before: the claim was "checked" where nobody knows the published files, and where the run alone said so."""
    folders = copied(honest.folder, tmp_path / "then"), copied(honest.folder, tmp_path / "now")
    kept = folders[0].dataset.read_text()
    unknown = "no published digest is known for them, so whether they are the published digits was not checked"
    other = "they are not the published files of digits"
    for then, now, words in ((None, None, unknown), (False, None, other), (None, False, other)):
        for folder, official in zip(folders, (then, now), strict=True):
            write_json(folder.dataset, {**json.loads(kept), "canonical": official})
        claims = {each.name: each for each in judge(*folders).claims}
        assert words in claims["data"].evidence
        assert (
            ("canonical: " in claims["facts of the data"].evidence)
            if then is not now
            else ("facts of the data" not in claims)
        )
    assert (
        "published files"
        not in next(c for c in judge(honest.folder, honest.folder).claims if c.name == "data").evidence
    )


def test_images_of_the_user_s_own_are_counted_and_held_out_ones_are_said_to_be_scored() -> None:
    """Before: "the same pixels and labels", whether four of a hundred test images were scored, or none."""
    own = DataRecord("own", 3, 259, 4, None, "0" * 64, {PIXELS: (OTHER["train"], OTHER["test"])}, frozenset())
    assert compare_data(own, own).words.endswith("images: 259 for training, 4 scored")
    held = compare_data(replace(own, held_out=True), replace(own, held_out=True)).words
    assert "no test image was scored: its test results are those of 4 training images that were held out" in held
