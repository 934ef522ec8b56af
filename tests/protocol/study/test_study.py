from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.study.study import Study, experiment_of, identity, settings_words
from ndrepro.protocol.study.study_schema import from_document, to_document

COMMON = {"arch": "lenet", "method": "bn", "epochs": 1, "dataset": "digits"}


def study(**tables: Any) -> Study:
    return from_document("trial", {"settings": COMMON, "grids": {"main": tables}}, "trial.toml")


def labels(study: Study, *grids: str) -> list[str]:
    return [run.label for run in study.runs(grids)]


def parsed(words: list[str]) -> Experiment:
    name, *rest = words
    return Experiment.from_name(name, dict(word.split("=", 1) for word in rest[1::2]))


def test_a_grid_is_the_product_of_its_axes_the_first_the_slowest() -> None:
    grid = study(axes={"seed": [0, 1], "method": ["bn", "nd"]})
    assert labels(grid) == [
        "lenet_bn_1_digits seed=0",
        "lenet_nd_1_digits seed=0",
        "lenet_bn_1_digits seed=1",
        "lenet_nd_1_digits seed=1",
    ]


def test_exclude_takes_points_out_and_include_adds_some() -> None:
    rows = {
        "axes": {"seed": [0, 1, 2], "method": ["bn", "nd"]},
        "exclude": [{"method": "nd", "seed": [1, 2]}],
        "include": [{"method": ["none", "nd_full"], "seed": 7}],
    }
    assert labels(study(**rows)) == [
        "lenet_bn_1_digits seed=0",
        "lenet_nd_1_digits seed=0",
        "lenet_bn_1_digits seed=1",
        "lenet_bn_1_digits seed=2",
        "lenet_none_1_digits seed=7",
        "lenet_nd_full_1_digits seed=7",
    ]


def test_a_grid_may_be_of_included_points_alone_and_hold_environments() -> None:
    grid = study(include=[{"environment": ["main", "torch-1.13.1"], "deconv.block": 16}])
    first, second = grid.runs()
    assert (first.environment, second.environment) == ("main", "torch-1.13.1")
    assert first.experiment.deconv.block == 16
    assert second.label == "lenet_bn_1_digits deconv.block=16 torch-1.13.1"


def test_exclude_sees_the_settings_of_the_study_and_keeps_what_could_not_run_from_being_made() -> None:
    rows = {"axes": {"determinism": ["canonical", "deterministic"], "threads": [1, 2]}}
    with pytest.raises(UsageError, match="threads=2 under determinism=canonical"):
        study(**rows)
    grid = study(**rows, exclude=[{"determinism": "canonical", "threads": 2, "arch": "lenet"}])
    assert len(grid.runs()) == 3


def test_needs_of_later_rules_override() -> None:
    found = from_document(
        "trial",
        {
            "settings": COMMON,
            "resources": [
                {"gpu_memory_gib": 4, "minutes": 10},
                {"when": {"method": "nd"}, "minutes": 30},
                {"when": {"seed": [1], "dataset": "digits"}, "gpu_memory_gib": 8.5},
            ],
            "grids": {"main": {"axes": {"seed": [0, 1], "method": ["bn", "nd"]}}},
        },
    )
    needs = [(run.resources.gpu_memory_gib, run.resources.minutes) for run in found.runs()]
    assert needs == [(4, 10), (4, 30), (8.5, 10), (8.5, 30)]


def test_a_study_is_its_document_and_back() -> None:
    document = {
        "title": "one",
        "settings": {**COMMON, "train_images": "none", "learning_rate": 1},
        "resources": [{"when": {"method": ["nd"]}, "minutes": 3}],
        "grids": {
            "main": {"title": "t", "axes": {"seed": [0, 1], "method": ["bn", "nd"]}, "exclude": [{"seed": 1}]},
            "more": {"settings": {"augment": False}, "include": [{"method": ["nd"], "deconv": {"block": [8, 16]}}]},
        },
    }
    once = from_document("trial", document)
    assert from_document("trial", to_document(once)) == once
    assert once.runs(["more"])[0].experiment.deconv.block == 8
    assert once.runs()[0].experiment.learning_rate == 1.0


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"seeds.init": 3, "seeds.order": 3, "seed": 3}, True),
        ({f"seeds.{name}": 3 for name in ("init", "order", "augment", "dropout", "corrupt", "split")}, True),
        ({"seeds.init": 4, "seed": 3}, False),
        ({"seed": 3, "threads": 1}, False),
    ],
)
def test_two_runs_are_the_same_by_what_they_do_and_not_by_how_they_were_asked_for(
    other: dict[str, int], same: bool
) -> None:
    first = experiment_of({**COMMON, "seed": 3})
    assert (identity(first, "main") == identity(experiment_of({**COMMON, **other}), "main")) is same
    assert identity(first, "main") != identity(first, "torch-2.2.2")


def test_a_number_is_the_same_however_canonical_json_spells_it() -> None:
    document = experiment_of(COMMON).to_json()
    assert document["checkpoint_seconds"] == 300.0
    respelled = Experiment.from_json({**document, "checkpoint_seconds": 300})
    assert identity(respelled, "main") == identity(experiment_of(COMMON), "main")


@given(
    method=st.sampled_from(["bn", "nd", "nd_full", "none"]),
    seed=st.integers(0, 2**53),
    rate=st.floats(0, 10, allow_nan=False),
    train=st.none() | st.integers(1, 1000),
    augment=st.booleans(),
    stream=st.none() | st.integers(0, 5),
    level=st.sampled_from(["deterministic", "canonical", "free"]),
)
@settings(max_examples=50)
def test_an_experiment_is_its_words_on_a_command_line(
    method: str, seed: int, rate: float, train: int | None, augment: bool, stream: int | None, level: str
) -> None:
    point = {
        **COMMON,
        "method": method,
        "seed": seed,
        "learning_rate": rate,
        "train_images": train,
        "augment": augment,
        "seeds.init": stream,
        "determinism": level,
        "deconv.eps": 1e-7,
    }
    asked = experiment_of(point)
    assert parsed(settings_words(asked)) == asked


def test_a_recipe_that_comes_with_a_name_is_not_said_again() -> None:
    asked = experiment_of({"arch": "mlp512", "method": "none", "epochs": 2, "seed": 1})
    assert settings_words(asked) == ["mlp512_none_2", "--set", "seed=1"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"titel": "x"}, "unknown key 'titel'", "title"),
    ({"title": 3}, "title: 3, expected text", ""),
    ({"grids": {}}, "grids: there are none", "grids.main"),
    ({"grids": {"a b": {"axes": {"seed": [1]}}}}, "a grid's name", "rename"),
    ({"grids": {"main": {"axis": {}}}}, "grids.main: unknown key 'axis'", "axes"),
    ({"grids": {"main": {}}}, "grids.main: an empty grid", "axes"),
    ({"grids": {"main": {"axes": {"seed": []}}}}, "grids.main.axes: seed is empty", "values"),
    ({"grids": {"main": {"axes": {"sed": [1]}}}}, "grids.main.axes: unknown key 'sed'", "seed"),
    ({"grids": {"main": {"axes": {"deconv.blok": [1]}}}}, "unknown key 'deconv.blok'", "deconv.block"),
    ({"grids": {"main": {"axes": {"enviroment": ["main"]}}}}, "unknown key 'enviroment'", "environment"),
    ({"grids": {"main": {"axes": {"arch": ["vg16"]}}}}, "grids.main.axes: arch='vg16' is not known", "vgg16"),
    ({"grids": {"main": {"axes": {"method": ["nb"]}}}}, "grids.main.axes: method='nb' is not known", "bn"),
    ({"grids": {"main": {"axes": {"dataset": ["cifar1"]}}}}, "dataset='cifar1' is not known", "cifar10"),
    ({"grids": {"main": {"axes": {"seed": 3}}}}, "seed=3, expected a list", "seed = [3]"),
    ({"grids": {"main": {"axes": {"seed": ["3"]}}}}, "seed='3', expected a whole number", ""),
    ({"grids": {"main": {"axes": {"seed": [1.5]}}}}, "seed=1.5, expected a whole number", ""),
    ({"grids": {"main": {"axes": {"seed": [True]}}}}, "seed=True, expected a whole number", ""),
    ({"grids": {"main": {"axes": {"augment": [1]}}}}, "augment=1, expected true or false", ""),
    ({"grids": {"main": {"axes": {"train_images": [1.5]}}}}, "train_images=1.5, expected a whole number or none", ""),
    ({"grids": {"main": {"axes": {"epochs": [-1]}}}}, "epochs=-1, expected 0 to", ""),
    ({"grids": {"main": {"axes": {"seed": [1, 2, 1]}}}}, "grids.main.axes: seed has 1 twice", "once"),
    ({"grids": {"main": {"axes": {"batch_size": [0]}}}}, "grids.main.axes: batch_size=0", ""),
    (
        {"grids": {"main": {"axes": {"seed": [*range(400)], "batch_size": [*range(1, 400)]}}}},
        "159,600 points",
        "values",
    ),
    ({"settings": {"learning_rate": "fast"}}, "settings: learning_rate='fast', expected a number", ""),
    ({"settings": {"schedule": "cosin"}}, "settings: schedule='cosin' is not known", "cosine"),
    ({"settings": 3}, "settings: 3, expected a table", ""),
    ({"grids": {"main": {"axes": {"seed": [1]}, "exclude": [{"seed": 1}]}}}, "exclude takes out every run", "less"),
    ({"grids": {"main": {"axes": {"seed": [1]}, "exclude": [{"seed": 2}]}}}, "exclude[1] describes no run", "remove"),
    ({"grids": {"main": {"axes": {"seed": [1]}, "exclude": [{}]}}}, "grids.main.exclude[1]: an empty row", ""),
    ({"grids": {"main": {"axes": {"seed": [1]}, "include": {"seed": 2}}}}, "expected a list of tables", ""),
    (
        {"grids": {"main": {"axes": {"seed": [1]}, "include": [{"seed": 1}]}}},
        "the run 'lenet_bn_1_digits seed=1' comes twice",
        "keep one",
    ),
    (
        {"grids": {"main": {"axes": {"seed": [1]}}, "more": {"axes": {"seed": [1]}}}},
        "grids.more: the run 'lenet_bn_1_digits seed=1' comes here and in grids.main",
        "keep one",
    ),
    (
        {"grids": {"main": {"axes": {"seed": [1]}, "settings": {"seed": 1}}}},
        "'seed' is an axis and one of the grid's settings",
        "",
    ),
    ({"resources": [{"minutes": 0}]}, "resources[1]: minutes=0, expected a number above 0", ""),
    ({"resources": [{"hours": 1}]}, "resources[1]: unknown key 'hours'", "minutes"),
    ({"resources": [{"when": {"seed": 1}}]}, "resources[1]: says nothing that is needed", "minutes"),
    ({"resources": [{"when": {"seed": 9}, "minutes": 1}]}, "resources[1]: when describes no run", "correct"),
]


@pytest.mark.parametrize(("change", "message", "cure"), WRONG, ids=[message for _, message, _ in WRONG])
def test_what_is_wrong_is_named_with_its_file_and_place_and_cure(
    change: dict[str, Any], message: str, cure: str
) -> None:
    sound: dict[str, Any] = {"settings": COMMON, "grids": {"main": {"axes": {"seed": [1, 2]}}}}
    from_document("trial", sound, "trial.toml")
    settings = {"settings": {**COMMON, **change["settings"]}} if isinstance(change.get("settings"), dict) else {}
    with pytest.raises(UsageError) as wrong:
        from_document("trial", {**sound, **change, **settings}, "trial.toml")
    assert wrong.value.message.startswith("trial.toml: ")
    assert message in wrong.value.message
    assert cure in wrong.value.cure and wrong.value.cure


def test_a_run_needs_a_network_a_method_and_epochs() -> None:
    with pytest.raises(UsageError, match=r"grids.main: arch, epochs: not given"):
        from_document("trial", {"grids": {"main": {"axes": {"method": ["bn"]}}}})


def test_a_wrong_grid_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as wrong:
        study(axes={"seed": [1]}).runs(["mian"])
    assert "no grid 'mian'" in wrong.value.message and "main" in wrong.value.cure
