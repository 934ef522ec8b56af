"""Whole runs with the settings of the generalization study, and on other data sets, are recorded and verify."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniature_imagenet import Miniature
from real_runs import Bench

from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import CHECKS
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify


def checked(bench: Bench, ended: Finished) -> dict[str, dict]:
    """The run's own JSON files, after every check has passed."""
    assert ended.error is None, ended.error
    ledger = Ledger(bench.options.runs.ledger)
    verdict = verify(ended.folder.root, trust=TrustPolicy.load(bench.options.home), ledger=ledger, extra_checks=CHECKS)
    assert [check.message for check in verdict.checks if check.status != "pass"] == []
    return {path.stem: json.loads(path.read_text()) for path in ended.folder.root.glob("*.json")}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("runs"))


def test_corrupted_labels_are_told_and_leave_the_data_sets_digest_alone(bench: Bench) -> None:
    settings = {"corrupt.labels": "0.5", "dropout": "0.05", "jitter": "0.1", "augment": "true"}
    documents = checked(bench, bench.run("small_inception_bn_downsample_1_digits", **settings))
    plain = checked(bench, bench.run("small_inception_bn_downsample_1_digits"))
    changed = documents["dataset"].pop("prepared")
    assert 30 < changed["labels_redrawn"] < 66 and changed["labels_changed"] <= changed["labels_redrawn"]
    # a crop of 28 is a change too
    assert plain["dataset"].pop("prepared")["labels_changed"] == 0
    assert documents["dataset"] == plain["dataset"]
    asked = documents["request"]["experiment"]
    assert (asked["corrupt"]["labels"], asked["dropout"], asked["crop"], asked["whiten"]) == (0.5, 0.05, 28, True)
    assert documents["model"]["layers"][0]["input_shape"] == [2, 3, 28, 28]


def test_grey_images_stay_grey_and_are_padded_where_asked(bench: Bench, tmp_path: Path) -> None:
    generator = np.random.RandomState(0)
    for split, count in (("train", 96), ("t10k", 32)):
        for kind, array in (
            ("images-idx3", generator.randint(0, 256, (count, 28, 28))),
            ("labels-idx1", generator.randint(0, 10, count)),
        ):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (tmp_path / f"{split}-{kind}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())
    own = Bench(tmp_path / "bench")
    own.options = replace(own.options, data=tmp_path)
    documents = checked(own, own.run("lenet_nd_1_mnist", size="32"))
    assert documents["dataset"]["canonical"] is False
    assert documents["model"]["layers"][0]["input_shape"] == [2, 1, 32, 32]
    assert documents["dataset"]["prepared"]["labels_changed"] == 0


@pytest.mark.slow
def test_imagenet_in_either_layout_trains_to_the_same_bits(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    (miniature.kaggle / "LOC_val_solution.csv").write_text(miniature.table)
    settings = {"size": "32", "train_images": "6", "test_images": "4", "batch_size": "3", "deconv.n_iter": "1"}
    weights, labelled = [], []
    for root in (miniature.kaggle, miniature.folders):
        own = Bench(tmp_path / root.name)
        own.options = replace(own.options, data=root)
        ended = own.run("resnet18_nd_1_imagenet", **settings)
        documents = checked(own, ended)
        weights.append(ended.folder.weights.read_bytes())
        labelled.append(documents["dataset"]["labelled_sha256"])
        assert documents["dataset"]["canonical"] is None and documents["dataset"]["files"] > 2000
        assert documents["request"]["experiment"]["weight_decay"] == 1e-4
        assert documents["model"]["summary"]["batchnorm2d_layers"] == 3
    assert weights[0] == weights[1]
    assert labelled[0] == labelled[1]
