"""A network or data set of one's own has a name as others have, and what nothing could mean is refused."""

from __future__ import annotations

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import OwnImages

IMAGES = {"own.classes": "3", "own.channels": "1", "own.size": "16", "own.train_images": "9", "own.test_images": "3"}


@pytest.mark.parametrize(
    ("name", "arch", "folder"),
    [
        ("nets:MyNet_bn_5_digits", "nets:MyNet", "nets.MyNet_bn_5_digits"),
        ("mypkg.nets:my_net_nd_1", "mypkg.nets:my_net", "mypkg.nets.my_net_nd_1"),
        ("a.b.make_none_bn_3_own", "a.b:make_none", "a.b.make_none_bn_3_own"),
    ],
)
def test_a_name_is_the_experiment_and_back(name: str, arch: str, folder: str) -> None:
    experiment = Experiment.from_name(name)
    assert (experiment.arch, experiment.name) == (arch, folder)
    assert Experiment.from_name(folder) == experiment
    assert Experiment.from_json(experiment.to_json()) == experiment


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("nets:MyNet", {}, "unknown experiment"),
        ("nets.py:MyNet_bn", {}, "unknown experiment"),
        ("nets:MyNet_nd_full_1", {}, "nd_full for nets:MyNet"),
        ("nets:MyNet_bn_1", {"determinism": "canonical"}, "canonical for nets:MyNet"),
        ("nets:MyNet_bn_1", {"network_source": "abc"}, "64 hexadecimal digits"),
        (f"nets:{'M' * 200}_bn_1", {}, "expected at most 120"),
        ("lenet_bn_1", {"network_source": "0" * 64}, "lenet is a network of this project"),
        ("lenet_bn_1", {"own.classes": "3"}, "own.… for cifar10"),
        ("lenet_bn_1_own", {**IMAGES, "own.size": "8"}, "16x16 or more"),
        ("lenet_bn_1_own", {**IMAGES, "own.mean": "0.5,0.5"}, "expected 1 numbers from 0 to 1"),
        ("lenet_bn_1_own", {**IMAGES, "own.std": "0"}, "own.std"),
        ("lenet_bn_1_own", {**IMAGES, "jitter": "0.1"}, "colour images"),
    ],
)
def test_what_nothing_could_mean_is_refused(name: str, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Experiment.from_name(name, settings)
    assert said in caught.value.message and caught.value.cure


def test_images_of_ones_own_are_described_by_settings() -> None:
    unknown = Experiment.from_name("lenet_bn_1_own")
    assert not unknown.is_described and unknown.own == OwnImages()
    experiment = Experiment.from_name("lenet_bn_1_own", {**IMAGES, "own.mean": "0.25", "own.std": "0.5"})
    facts = experiment.facts
    assert experiment.is_described and experiment.image_size == 16
    assert (facts.num_classes, facts.channels, facts.mean, facts.std, facts.crop_padding) == (3, 1, (0.25,), (0.5,), 2)
