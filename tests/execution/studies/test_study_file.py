from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from small_studies import write_study

from ndrepro.execution.studies.study_file import find_study, load_study, studies_folder, study_files
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.study.study_schema import from_document, to_document
from ndrepro.training import models
from provenance.errors import NotFoundError, StorageError

SEEDS = "[grids.main]\naxes = { method = ['bn'], seed = [0] }"


@pytest.mark.parametrize("path", study_files(), ids=lambda path: path.stem)
def test_every_study_that_ships_is_sound(path: Path) -> None:
    study = load_study(path)
    assert study.title and study.runs()
    assert from_document(study.name, to_document(study)) == study
    assert all(run.resources.gpu_memory_gib and run.resources.minutes for run in study.runs())


def test_table_1_has_every_cell_three_times() -> None:
    study = load_study(find_study("table1"))
    runs = study.runs(["main"])
    assert len(runs) == 360
    cells = Counter(run.experiment.name for run in runs)
    assert set(cells.values()) == {3}
    assert len(cells) == 10 * 2 * 3 * 2
    assert {run.experiment.seed for run in runs} == {0, 1, 2}
    archs = {run.experiment.arch for run in runs}
    assert "resnet18d" in archs and "resnet18" not in archs
    assert {run.experiment.method for run in runs} == {"bn", "nd"}
    assert {run.experiment.arch for run in study.runs(["resnet18"])} == {"resnet18"}
    assert {run.experiment.method for run in study.runs(["nd_full"])} == {"nd_full"}


def test_table_1_is_trained_by_the_published_recipe() -> None:
    for run in load_study(find_study("table1")).runs():
        asked = run.experiment
        assert (asked.batch_size, asked.learning_rate, asked.momentum, asked.weight_decay) == (128, 0.1, 0.9, 1e-3)
        assert (asked.schedule, asked.augment, asked.train_images, asked.deconv.block) == ("cosine", True, None, 64)


def test_smoke_touches_every_family_of_networks_with_every_main_method() -> None:
    families = {name: family_of(name) for name in models.NETWORKS}
    touched = Counter((families[run.experiment.arch], run.experiment.method) for run in load_study(smoke()).runs())
    for family in set(families.values()):
        assert touched[family, "nd"], f"add a network of {family} to studies/smoke.toml"
        assert touched[family, "bn"] or touched[family, "none"]


def family_of(name: str) -> str:
    """The module that a network's class comes from."""
    method = "bn" if name not in ("small_alexnet", "mlp512") else "none"
    return type(models.build(name, method, 10)).__module__


def smoke() -> Path:
    return find_study("smoke")


def test_smoke_is_small() -> None:
    runs = load_study(smoke()).runs()
    assert all((run.experiment.train_images or 9999) <= 64 and run.experiment.epochs == 1 for run in runs)
    assert {run.experiment.dataset for run in runs} == {"digits"}


def test_a_study_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert find_study("smoke") == studies_folder() / "smoke.toml"
    own = write_study(tmp_path, SEEDS, name="smoke2")
    assert find_study(str(own)) == own
    assert find_study("smoke2", tmp_path) == own


@pytest.mark.parametrize(
    ("asked", "message", "cure"),
    [
        ("smok", "no study 'smok'", "did you mean smoke?"),
        ("nothing/there.toml", "nothing/there.toml: no such study file", "ndrepro study list"),
        ("", "no study ''", "table1"),
    ],
)
def test_a_study_that_is_not_there_is_said_with_the_nearest(asked: str, message: str, cure: str) -> None:
    with pytest.raises(NotFoundError if "/" in asked else UsageError) as wrong:
        find_study(asked)
    assert message in wrong.value.message and cure in wrong.value.cure


@pytest.mark.parametrize("content", [b"title = 'open", b"\xff\xfe", b"a = 1\na = 2", b'{"title": "JSON"}'])
def test_a_file_that_is_not_toml_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad.toml: not TOML") as wrong:
        load_study(path)
    assert "smoke.toml" in wrong.value.cure


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        load_study(tmp_path)


def test_an_environment_that_is_no_cell_is_refused_with_the_nearest(tmp_path: Path) -> None:
    sound = write_study(tmp_path, "[grids.main]\naxes = { method = ['bn'], environment = ['main', 'torch-1.13.1'] }")
    assert [run.environment for run in load_study(sound).runs()] == ["main", "torch-1.13.1"]
    wrong = write_study(tmp_path, "[grids.main]\naxes = { method = ['bn'], environment = ['torch-1.13'] }")
    with pytest.raises(UsageError, match=r"mini.toml: grids.main: environment='torch-1.13'") as error:
        load_study(wrong)
    assert "torch-1.13.1" in error.value.cure
