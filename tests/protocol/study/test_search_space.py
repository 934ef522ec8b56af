"""A study says how hyper-parameters are searched, strictly, and its grid takes what was found."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.study.search_space import Search, SearchOutcome
from ndrepro.protocol.study.study import Study
from ndrepro.protocol.study.study_schema import from_document, to_document

SEARCH: dict[str, Any] = {
    "grid": "tuned",
    "rungs": [5, 10, 20],
    "reduction": 4,
    "budget_epochs": 100,
    "validation": 0.2,
    "seed": 7,
    "space": {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}, "momentum": {"low": 0.5, "high": 0.99}},
}
STUDY: dict[str, Any] = {
    "settings": {"dataset": "digits", "epochs": 20, "method": "bn"},
    "grids": {
        "plain": {"axes": {"arch": ["lenet", "vgg11"]}},
        "tuned": {"axes": {"seed": [0, 1], "arch": ["lenet", "vgg11"]}},
    },
    "search": SEARCH,
}
FOUND = {("lenet", "bn", "digits"): {"learning_rate": 0.03, "momentum": 0.8}}


def study(changes: dict[str, Any] | None = None, found: dict[Any, Any] | None = None) -> Study:
    """The study above, with some of its search's keys changed (``None``: left out)."""
    document = copy.deepcopy(STUDY)
    for key, value in (changes or {}).items():
        document["search"][key] = value
        if value is None:
            del document["search"][key]
    return from_document("mini", document, "mini.toml", found=lambda search: found or {})


def test_the_grid_takes_what_was_found_and_waits_for_the_rest() -> None:
    runs = study(found=FOUND).runs(["tuned"])
    assert [(run.experiment.arch, run.waits) for run in runs] == [
        ("lenet", False),
        ("vgg11", True),
        ("lenet", False),
        ("vgg11", True),
    ]
    assert (runs[0].experiment.learning_rate, runs[0].experiment.momentum) == (0.03, 0.8)
    assert not any(run.waits for run in study().runs(["plain"])), "the other grid has nothing to wait for"


def test_a_waiting_run_is_not_the_run_that_has_the_defaults() -> None:
    plain, tuned = (study().runs([grid])[0] for grid in ("plain", "tuned"))
    assert plain.experiment == tuned.experiment and plain.identity != tuned.identity


def test_a_study_with_a_search_reads_back_as_it_was_written() -> None:
    whole = study()
    document = json.loads(json.dumps(to_document(whole)))
    assert from_document("mini", document) == whole
    assert whole.search is not None and Search.from_document(whole.search.to_document()) == whole.search


def test_a_trial_is_scored_on_validation_images_that_all_trials_share() -> None:
    search, base = study().search, study().runs(["tuned"])[1].experiment
    assert search is not None
    first, second = (search.experiment(base, number, {"learning_rate": 0.5}) for number in (0, 1))
    assert first.learning_rate == 0.5 and first.momentum == base.momentum
    assert first.validation == 0.2 and first.test_images is None and first.checkpoint_epochs == 5
    assert first.seed_of("split") == second.seed_of("split") == 7
    assert (first.seed_of("init"), second.seed_of("init")) == (7, 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": "tunde"}, r"search: grid='tunde': there is none"),
        ({"grid": None}, r"search: grid: not given"),
        ({"rung": [5]}, r"search: unknown key 'rung'"),
        ({"rungs": [5, 10]}, r"rungs end with 10 epochs, and the grid has lenet_bn_20_digits with 20"),
        ({"rungs": [20, 10]}, r"expected epochs, ascending"),
        ({"rungs": "5"}, r"expected a list of whole numbers"),
        ({"reduction": 1}, r"reduction=1, expected at least 2"),
        ({"budget_epochs": 19}, r"budget_epochs=19, which no whole training of 20"),
        ({"budget_epochs": "many"}, r"budget_epochs='many', expected a whole number"),
        ({"validation": 1.0}, r"validation=1.0"),
        ({"space": {}}, r"space: it is empty"),
        ({"space": {"batch_size": {"low": 1, "high": 2}}}, r"space.batch_size: it is not searched"),
        ({"space": {"momentum": {"low": 1, "high": 0}}}, r"expected 0 <= low < high"),
        ({"space": {"momentum": {"low": 0, "high": 1, "log": True}}}, r"no logarithm of 0"),
        ({"space": {"momentum": {"low": 0, "hihg": 1}}}, r"space.momentum: unknown key 'hihg'"),
        ({"space": {"momentum": 0.9}}, r"space.momentum=0.9, expected"),
    ],
)
def test_a_wrong_search_is_refused_with_the_file_and_the_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        study(changes)
    assert refused.value.message.startswith("mini.toml: search")


def test_what_is_searched_is_not_given_too() -> None:
    document = copy.deepcopy(STUDY)
    document["grids"]["tuned"]["settings"] = {"momentum": 0.5}
    with pytest.raises(UsageError, match="'momentum' is searched, and given to the grid too"):
        from_document("mini", document)


def test_a_network_has_one_setting_in_a_searched_grid() -> None:
    document = copy.deepcopy(STUDY)
    document["grids"]["tuned"]["axes"]["batch_size"] = [16, 32]
    with pytest.raises(UsageError, match="differ in more than their seeds"):
        from_document("mini", document)


def test_what_was_found_reads_back_and_nothing_else_does() -> None:
    found = SearchOutcome("lenet", "bn", "digits", {"momentum": 0.8}, 3, 20, 0.25, 90, (9, 3, 1), 0, {"run": "ab"})
    document = json.loads(json.dumps(found.to_json()))
    assert SearchOutcome.from_json(document) == found
    with pytest.raises(UsageError, match="trial: not given"):
        SearchOutcome.from_json({key: value for key, value in document.items() if key != "trial"})
    with pytest.raises(UsageError, match="values="):
        SearchOutcome.from_json({**document, "values": {"momentum": "0.8"}})
