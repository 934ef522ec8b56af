"""Every setting is explained by its own declaration, and a wrong one gets the nearest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from recorded_runs import Answer

from ndrepro.protocol.experiment.experiment import SETTINGS, Experiment
from ndrepro.protocol.experiment.settings import leaves


def test_every_setting_is_explained(ndrepro: Callable[..., Answer]) -> None:
    experiment = Experiment.from_name("lenet_bn_1_digits")
    assert set(SETTINGS) == {key for key, _ in leaves(experiment.to_json())}
    rows = {row["key"]: row for row in ndrepro("settings", "--json").json["settings"]}
    assert set(rows) == set(SETTINGS)
    assert all(row["meaning"].endswith(".") and row["allowed"] for row in rows.values())
    lines = ndrepro("settings").out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(SETTINGS)


def test_no_default_is_outside_of_what_is_allowed() -> None:
    for setting in SETTINGS.values():
        setting.check(setting.default)


def test_an_alias_names_one_setting_and_is_none_itself() -> None:
    aliases = [alias for setting in SETTINGS.values() for alias in setting.about.aliases]
    assert len(aliases) == len(set(aliases)) and not set(aliases) & set(SETTINGS)


def test_one_setting_and_one_group(ndrepro: Callable[..., Answer]) -> None:
    assert ndrepro("settings", "learning_rate").out == (
        "learning_rate  default 0.1\n    Learning rate at the start of the schedule.\n    values: a number from 0\n"
    )
    keys = [row["key"] for row in ndrepro("settings", "deconv", "--json").json["settings"]]
    assert keys and all(key.startswith("deconv.") for key in keys)


def test_an_experiment_has_the_defaults_of_its_recipe(ndrepro: Callable[..., Answer]) -> None:
    rows = {row["key"]: row["default"] for row in ndrepro("settings", "small_alexnet_nd_5", "--json").json["settings"]}
    assert (rows["batch_size"], rows["schedule"], rows["epochs"]) == (60, "exponential", 5)
    plain = {row["key"]: row["default"] for row in ndrepro("settings", "--json").json["settings"]}
    assert plain["batch_size"] == 128


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lr", "learning_rate"),
        ("LR", "learning_rate"),
        ("wd", "weight_decay"),
        ("batch-size", "batch_size"),
        ("block", "deconv.block"),
        ("gpus", "processes"),
        ("learning_rat", "learning_rate"),
    ],
)
def test_a_wrong_setting_gets_the_one_that_is_meant(wrong: str, right: str, ndrepro: Callable[..., Answer]) -> None:
    for words in (("settings", wrong), ("run", "lenet_bn_1_digits", "--set", f"{wrong}=1")):
        answer = ndrepro(*words)
        assert answer.code == 2
        assert f"unknown setting '{wrong}'" in answer.err and f"did you mean {right}" in answer.err


def test_what_resembles_nothing_is_referred_to_the_list(ndrepro: Callable[..., Answer]) -> None:
    assert ndrepro("settings", "zzz").err.splitlines()[1] == "  hint: `ndrepro settings` lists and explains them"
    assert "did you mean vgg16_nd_100" in ndrepro("settings", "vg16_nd_100").err
