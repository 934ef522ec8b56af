"""A network is refused images that it cannot take, before a run starts, with what to do instead."""

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, DESIGNS, METHODS, design_of
from ndrepro.protocol.experiment.combinations import combinations
from ndrepro.protocol.experiment.experiment import Experiment


def refused(name: str, **settings: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        Experiment.from_name(name, settings)
    return caught.value.message, caught.value.cure


def test_every_combination_listed_makes_an_experiment_and_no_other_does() -> None:
    listed = set(combinations())
    for arch in ARCHITECTURES:
        for method in METHODS:
            for dataset in DATASETS:
                try:
                    Experiment.of(arch, method, 1, dataset)
                    made = True
                except UsageError as error:
                    made = False
                    assert error.cure
                assert made == ((arch, method, dataset) in listed), (arch, method, dataset)


def test_methods_and_designs_are_names_of_the_catalogue() -> None:
    for designs in DESIGNS.values():
        assert set(designs) <= set(ARCHITECTURES)
        assert all(set(design.methods) <= set(METHODS) for design in designs.values())
    assert {facts.design for facts in DATASETS.values()} == set(DESIGNS)


def test_a_network_that_the_images_do_not_fit_says_how_they_would() -> None:
    message, cure = refused("vgg16_bn_1_mnist")
    assert message == "vgg16 takes images of 32x32 to 63x63, and mnist gives it 28x28"
    assert "--set size=32" in cure and "resnet18" in cure
    assert Experiment.from_name("vgg16_bn_1_mnist", {"size": "32"}).image_size == 32
    assert "--set size=32" in refused("vgg16_nd_1_tiny_imagenet")[1]
    assert Experiment.from_name("vgg16_nd_1_tiny_imagenet", {"size": "32"}).image_size == 32
    assert "--set size=48" in refused("vgg11_nd_1_stl10")[1]


def test_cropping_counts_and_so_do_its_bounds() -> None:
    message, cure = refused("vgg16_bn_1", crop="28")
    assert "28x28" in message and cure == "leave crop out, or crop to 32x32 to 63x63"
    assert "images are 32x32" in refused("lenet_bn_1", crop="33")[0]
    assert Experiment.from_name("lenet_bn_1_mnist", {"size": "32", "crop": "30"}).image_size == 30


def test_images_are_shrunk_by_whole_squares_only() -> None:
    message, cure = refused("resnet18_bn_1_stl10", size="30")
    assert "96x96" in message and "48, 32, 24" in cure
    for size in ("32", "97"):
        assert Experiment.from_name("resnet18_bn_1_stl10", {"size": size}).image_size == int(size)


def test_imagenet_has_its_own_networks_which_other_images_do_not_get() -> None:
    message, cure = refused("vgg16_bn_90_imagenet")
    assert message.startswith("vgg16 on imagenet") and cure.endswith("vgg11, resnet18, densenet121")
    assert "set size" in refused("resnet18_bn_90_imagenet", crop="200")[1]
    assert "file by file" in refused("resnet18_bn_90_imagenet", whiten="true")[0]
    assert Experiment.from_name("resnet18_bn_90_imagenet", {"size": "64"}).image_size == 64


def test_methods_that_a_network_does_not_have() -> None:
    assert refused("mlp512_bn_1")[0] == "bn for mlp512: it has no batch norm"
    assert "small_inception" in refused("vgg16_bn_downsample_1")[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"corrupt.pixels": "shuffled"}, "augment=true"),
        ({"corrupt.pixels": "mixed", "augment": "false"}, "not known"),
        ({"corrupt.labels": "1.5"}, "from 0 to 1"),
        ({"corrupt.test_pixels": "true"}, "corrupt.pixels is 'none'"),
        ({"jitter": "0.1", "augment": "false"}, "part of augmentation"),
        ({"dropout": "0.1"}, "no dropout layer"),
        ({"size": "0"}, "at least 1"),
        ({"decay": "1.1"}, "from 0 to 1"),
    ],
)
def test_settings_with_nothing_to_act_on_are_refused(settings: dict[str, str], said: str) -> None:
    assert said in refused("resnet18_bn_1", **settings)[0]


def test_recipes_come_with_the_names_and_give_way_to_settings() -> None:
    imagenet = Experiment.from_name("resnet18_bn_90_imagenet")
    assert (imagenet.batch_size, imagenet.weight_decay, imagenet.learning_rate) == (256, 1e-4, 0.1)
    assert Experiment.from_name("vgg11_nd_90_imagenet").learning_rate == 0.01
    assert Experiment.from_name("vgg11_nd_90_imagenet", {"learning_rate": "0.1"}).learning_rate == 0.1
    cifar = Experiment.from_name("vgg11_nd_90")
    assert (cifar.batch_size, cifar.weight_decay, cifar.learning_rate) == (128, 1e-3, 0.1)
    zhang = Experiment.from_name("small_alexnet_none_60")
    assert (zhang.batch_size, zhang.learning_rate, zhang.schedule, zhang.weight_decay) == (60, 0.01, "exponential", 0.0)
    assert (zhang.crop, zhang.whiten, zhang.augment, zhang.image_size) == (28, True, False, 28)
    assert Experiment.from_name("small_inception_bn_60").learning_rate == 0.1


def test_defaults_are_those_of_the_name_even_where_the_name_alone_is_refused() -> None:
    experiment = Experiment.from_name("vgg16_bn_1_mnist", {"size": "32"})
    changed = {key for key, value in experiment.to_json().items() if value != experiment.defaults()[key]}
    assert changed == {"size"}
    assert (
        Experiment.from_name("vgg11_nd_90_imagenet").defaults()
        == Experiment.from_name("vgg11_nd_90_imagenet").to_json()
    )


def test_the_default_designs_exist() -> None:
    assert design_of("resnet18", "imagenet") is DESIGNS["imagenet"]["resnet18"]
    assert design_of("lenet", "imagenet") is None
