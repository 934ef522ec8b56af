"""A real run of a network and data of one's own: kept, verified, reproduced after the files changed, and altered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dishonest_author import copied, sign_again, verified
from real_runs import Bench

from ndrepro.api import reproduce, verify
from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import run
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_record import TrainingRecord

NETS = """
from torch import nn
from shapes import width
def small(num_classes, in_channels, image_size):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.1), nn.Flatten(),
        nn.Linear(width * (image_size - 2) ** 2, num_classes),
    )
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, RunFolder]]:
    """A finished run of two epochs on twelve images; its folder of sources is changed afterwards."""
    root = tmp_path_factory.mktemp("own")
    (root / "nets.py").write_text(NETS)
    (root / "shapes.py").write_text("width = 2\n")
    images = np.random.RandomState(0).randint(0, 256, (12, 8, 8), dtype=np.uint8)
    labels = np.arange(12) % 2
    np.savez(root / "data.npz", x_train=images[:8], y_train=labels[:8], x_test=images[8:], y_test=labels[8:])
    bench = Bench(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("NDREPRO_HOME", str(bench.options.home))
        settings = {"batch_size": "4", "threads": "1"}
        experiment = Experiment.from_name("nets:small_nd_2_own", settings)
        finished = run(experiment, replace(bench.options, data=root / "data.npz"), Observer())
        assert finished.error is None
        (root / "shapes.py").write_text("width = 3\n")
        yield bench, finished.folder


def test_its_files_are_signed_and_nothing_else_was_executed(bench: tuple[Bench, RunFolder]) -> None:
    folder = bench[1]
    manifest = read_recorded(folder).manifest
    kept = sorted(item.path for item in manifest.artifacts if item.path.startswith("network/"))
    assert kept == ["network/nets.py", "network/shapes.py"]
    source = manifest.dependency("network source")
    assert source is not None and source.digest is not None
    assert source.digest["sha256"] == manifest.external_parameters["experiment"]["network_source"]
    assert manifest.external_parameters["experiment"]["own"]["classes"] == 2
    assert manifest.machine["loaded_code"]["count"] == 0
    assert verify(folder.root).ok


def test_it_is_reproduced_from_what_was_signed(bench: tuple[Bench, RunFolder]) -> None:
    again = reproduce(bench[1].root, runs=bench[0].options.runs.root, trust_code=True)
    assert again.verdict == "identical", [str(each) for each in again.judgements]


def test_an_altered_file_is_found(bench: tuple[Bench, RunFolder], tmp_path: Path) -> None:
    folder = copied(bench[1], tmp_path)
    assert verified(folder, bench[0]).ok, "the control"
    (folder.network / "shapes.py").write_text("width = 9\n")
    failure = verified(folder, bench[0]).failure
    assert failure is not None and failure.name == "digests" and "network/shapes.py" in failure.message
    # by an author who signs again, and says that the experiment was another one
    sign_again(folder, bench[0])
    failure = verified(folder, bench[0]).failure
    assert failure is not None and failure.name == "request" and "not those of the experiment" in failure.message


def test_data_of_another_shape_are_another_experiment(bench: tuple[Bench, RunFolder], tmp_path: Path) -> None:
    experiment = TrainingRecord.of(read_recorded(bench[1]).manifest).experiment
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", x_train=images, y_train=[0, 1, 0, 1], x_test=images, y_test=[0, 1, 0, 1])
    with pytest.raises(DataError, match="other images than the experiment describes"):
        data_check.check(experiment, tmp_path / "other.npz", bench[0].options.runs, Observer())
