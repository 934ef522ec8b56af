"""Names and settings make experiments; wrong ones are refused with the nearest right ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.combinations import combinations
from ndrepro.protocol.experiment.experiment import DEFAULT_EXPERIMENT, STREAMS, Experiment
from ndrepro.protocol.experiment.names import DEFAULT_DATASET
from provenance.errors import CanonicalError
from provenance.formats.canonical_json import canonical_bytes, parse


@given(st.sampled_from(sorted(combinations())), st.integers(0, 99_999))
def test_a_name_is_the_experiment_and_back(names: tuple[str, str, str], epochs: int) -> None:
    arch, method, dataset = names
    suffix = "" if dataset == DEFAULT_DATASET else f"_{dataset}"
    experiment = Experiment.from_name(f"{arch}_{method}_{epochs}{suffix}")
    assert (experiment.arch, experiment.method, experiment.epochs, experiment.dataset) == (
        arch,
        method,
        epochs,
        dataset,
    )
    assert Experiment.from_name(experiment.name) == experiment
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_settings_reach_every_section() -> None:
    settings = {
        "learning_rate": "0.01",
        "deconv.block": "32",
        "seeds.order": "7",
        "augment": "false",
        "train_images": "none",
    }
    experiment = Experiment.from_name("vgg16_nd_100", settings)
    assert (experiment.learning_rate, experiment.deconv.block, experiment.augment) == (0.01, 32, False)
    assert [experiment.seed_of(name) for name in STREAMS] == [0, 7, 0, 0, 0, 0]
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_the_default_experiment_is_one() -> None:
    assert Experiment.from_name(DEFAULT_EXPERIMENT).dataset == "digits"


def test_canonical_has_one_thread() -> None:
    assert Experiment.from_name("vgg16_bn_1", {"determinism": "canonical"}).threads == 1
    with pytest.raises(UsageError, match="threads=2"):
        Experiment.from_name("vgg16_bn_1", {"determinism": "canonical", "threads": "2"})


@pytest.mark.parametrize(
    "wrong, right", [("vg16_nd_100", "vgg16_nd_100"), ("resnet_bn_20", "resnet18_bn_20"), ("vgg16_nd", "vgg16_nd_100")]
)
def test_a_wrong_name_gets_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f"unknown experiment '{wrong}'") as caught:
        Experiment.from_name(wrong)
    assert right in caught.value.cure


@pytest.mark.parametrize(
    "wrong", ["", "vgg16_nd_100_", "vgg16_nd_-1", "vgg16_nd_1e3", "vgg16_nd_100_mnist2", "VGG16_ND_1"]
)
def test_nearly_right_names_are_not_right(wrong: str) -> None:
    with pytest.raises(UsageError):
        Experiment.from_name(wrong)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("learning_rat", "1", "unknown setting 'learning_rat'"),
        ("deconv", "1", "unknown setting 'deconv'"),
        ("batch_size", "many", "expected a whole number"),
        ("batch_size", "0", "at least 1"),
        ("threads", "1000000", "from 1 to 4096"),
        ("learning_rate", "nan", "finite"),
        ("learning_rate", "inf", "finite"),
        ("augment", "maybe", "true or false"),
        ("seed", "-1", "from 0 to"),
        ("seeds.init", str(2**53 + 1), "up to 2\\^53"),
        ("batch_size", str(10**24), "up to 2\\^53"),
        ("determinism", "strict", "not known"),
        ("schedule", "stairs", "not known"),
        ("train_images", "0", "at least 1"),
    ],
)
def test_a_wrong_setting_is_named(key: str, value: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Experiment.from_name("vgg16_nd_100", {key: value})


@pytest.mark.parametrize("key", ["seed", "batch_size"])
def test_the_largest_whole_number_can_be_signed(key: str) -> None:
    largest = Experiment.from_name("vgg16_nd_100", {key: str(2**53)})
    assert parse(canonical_bytes(largest.to_json())) == largest.to_json()
    with pytest.raises(CanonicalError, match="beyond 2"):
        canonical_bytes({**largest.to_json(), key: 2**53 + 1})


def test_an_unknown_setting_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        Experiment.from_name("vgg16_nd_100", {"deconv.blok": "1"})
    assert "deconv.block" in caught.value.cure


@pytest.mark.parametrize(
    "change", [{"epochs": "3"}, {"epochs": True}, {"seed": 1.5}, {"deconv": None}, {"extra": 1}, {"arch": "vgg99"}]
)
def test_json_of_something_else_is_refused(change: dict[str, object]) -> None:
    document = Experiment.from_name("vgg16_nd_100").to_json()
    with pytest.raises(UsageError):
        Experiment.from_json({**document, **change})
    document.pop("seed")
    with pytest.raises(UsageError, match="seed"):
        Experiment.from_json(document)
