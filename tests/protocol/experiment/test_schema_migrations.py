"""Documents from before a setting existed are read as what they meant; any other gap is refused."""

import json
from pathlib import Path

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.schema_migrations import ADDITIONS, completed

# written by the release that had none of the settings in the table
GOLDEN = json.loads((Path(__file__).parent / "golden" / "experiment-v1.json").read_text(encoding="utf-8"))
NOW = Experiment.from_name("lenet_bn_1_digits").to_json()


def test_a_document_of_the_first_release_is_the_experiment_that_it_was() -> None:
    settings = {"seed": "3", "seeds.order": "7", "deconv.block": "32", "learning_rate": "0.05", "train_images": "512"}
    settings["deconv_kernel"] = "reference"  # which was the only one
    experiment = Experiment.from_json(GOLDEN)
    assert experiment == Experiment.from_name("resnet18_nd_20_cifar100", settings)
    assert {key: value for key, value in experiment.to_json().items() if key in GOLDEN} == GOLDEN


def test_the_table_is_of_settings_that_exist_and_are_not_in_older_documents() -> None:
    names = [key for row in ADDITIONS for key in row]
    assert len(set(names)) == len(names)
    assert set(names) == set(NOW) - set(GOLDEN)


# a document without a newest row of one setting is not to be told from an older one, and is read as that
_NEVER_ALONE = [key for row in ADDITIONS for key in row if row is not ADDITIONS[-1] or len(row) > 1]


@pytest.mark.parametrize("key", _NEVER_ALONE)
def test_a_document_that_lacks_one_of_several_additions_is_refused(key: str) -> None:
    document = {name: value for name, value in NOW.items() if name != key}
    assert completed(document) == document
    with pytest.raises(UsageError, match=key):
        Experiment.from_json(document)


@pytest.mark.parametrize("key", sorted(GOLDEN))
def test_a_setting_that_was_always_there_is_never_filled_in(key: str) -> None:
    for whole in (GOLDEN, NOW):
        with pytest.raises(UsageError, match=key):
            Experiment.from_json({name: value for name, value in whole.items() if name != key})


def test_an_unknown_setting_is_refused_in_old_and_new_documents() -> None:
    for whole in (GOLDEN, NOW):
        with pytest.raises(UsageError, match="sharpness"):
            Experiment.from_json({**whole, "sharpness": 1})


def test_what_is_filled_in_is_not_shared() -> None:
    completed(GOLDEN)["corrupt"]["labels"] = 1.0
    assert completed(GOLDEN)["corrupt"]["labels"] == 0.0
