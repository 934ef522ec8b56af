"""Data are changed on purpose as the experiment says, the same everywhere, and test data only where it says so."""

import numpy as np
import pytest

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.data.readers.images import Images, Split
from ndrepro.training.data.transforms import corrupt_labels, crop, fit, prepare

COUNT = 400


@pytest.fixture(scope="module")
def images() -> Images:
    generator = np.random.RandomState(0)
    # every channel its own mean and spread
    pixels = [(generator.rand(COUNT, 32, 32) * spread + low) for low, spread in ((0, 100), (50, 200), (90, 10))]
    train = Split(np.stack(pixels, axis=1).astype(np.uint8), np.arange(COUNT) % 10)
    test = Split(generator.randint(0, 256, (50, 3, 32, 32)).astype(np.uint8), np.arange(50) % 10)
    return Images("cifar10", train, test, tuple("abcdefghij"), (), None, "made here")


def experiment(**settings: str) -> Experiment:
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    return Experiment.from_name("mlp512_none_1", {"crop": "none", "whiten": "false", **settings})


def prepared(images: Images, **settings: str) -> Images:
    return prepare(images, experiment(**settings))[0]


def test_without_a_setting_nothing_is_touched(images: Images) -> None:
    unchanged, described = prepare(images, experiment())
    assert described is None
    for split, before in ((unchanged.train, images.train), (unchanged.test, images.test)):
        assert split.images is before.images and split.labels is before.labels


@pytest.mark.parametrize(("fraction", "changed"), [("0.5", 0.45), ("1.0", 0.9), ("0.1", 0.09)])
def test_labels_become_random_classes(images: Images, fraction: str, changed: float) -> None:
    result, described = prepare(images, experiment(corrupt__labels=fraction))
    differ = result.train.labels != images.train.labels
    # of those redrawn one in ten gets the class that it had
    assert abs(differ.mean() - changed) < 4 * np.sqrt(changed * (1 - changed) / COUNT)
    assert described is not None
    assert described["labels_changed"] == differ.sum() < described["labels_redrawn"]
    assert abs(described["labels_redrawn"] / COUNT - float(fraction)) < 0.1
    assert (result.train.images == images.train.images).all()
    assert (result.test.labels == images.test.labels).all() and (result.test.images == images.test.images).all()
    assert described["pixels_sha256"]["test"] == images.describe()["pixels_sha256"]["test"]
    assert described["pixels_sha256"]["train"] != images.describe()["pixels_sha256"]["train"]


def test_more_corruption_keeps_what_less_has_done(images: Images) -> None:
    half, most = (prepared(images, corrupt__labels=fraction).train.labels for fraction in ("0.5", "0.9"))
    _, all_redrawn = corrupt_labels(images.train.labels, experiment(corrupt__labels="1.0"))
    was_half, was_most = half != images.train.labels, most != images.train.labels
    assert (half[was_half] == most[was_half]).all() and (most[was_most] == all_redrawn[was_most]).all()
    assert was_most.sum() > was_half.sum()


def test_corruption_has_a_seed_of_its_own_and_is_the_same_twice(images: Images) -> None:
    for settings in ({"corrupt__labels": "0.5"}, {"corrupt__pixels": "random"}, {"corrupt__pixels": "gaussian"}):
        first, again = prepared(images, **settings), prepared(images, **settings)
        other = prepared(images, **settings, seeds__corrupt="1")
        same = prepared(images, **settings, seeds__order="1", seeds__init="1", seeds__augment="1")
        for part in ("images", "labels"):
            assert (getattr(first.train, part) == getattr(again.train, part)).all()
            assert (getattr(first.train, part) == getattr(same.train, part)).all()
        assert not all(
            (getattr(first.train, part) == getattr(other.train, part)).all() for part in ("images", "labels")
        )


@pytest.mark.parametrize(
    "settings", [{"corrupt__labels": "0.5"}, *({"corrupt__pixels": kind} for kind in ("shuffled", "random"))]
)
def test_the_first_images_become_the_same_whether_or_not_more_follow(images: Images, settings: dict[str, str]) -> None:
    all_of_them, few = prepared(images, **settings), prepared(images.first(30, 10), **settings)
    assert (all_of_them.train.images[:30] == few.train.images).all()
    assert (all_of_them.train.labels[:30] == few.train.labels).all()


def test_shuffled_pixels_are_one_permutation_for_all_images(images: Images) -> None:
    shuffled = prepared(images, corrupt__pixels="shuffled", corrupt__test_pixels="true")
    places = np.arange(1024, dtype=np.int64).reshape(1, 1, 32, 32)
    order = prepare_places(places, "shuffled")[0, 0].reshape(-1)
    assert sorted(order) == list(range(1024)) and not (order == np.arange(1024)).all()
    for before, after in ((images.train.images, shuffled.train.images), (images.test.images, shuffled.test.images)):
        assert (before.reshape(len(before), 3, -1)[:, :, order] == after.reshape(len(after), 3, -1)).all()


def prepare_places(places: np.ndarray, kind: str) -> np.ndarray:
    """What becomes of an array of positions: the permutations that were drawn."""
    marked = Images(
        "cifar10", Split(places, np.zeros(len(places), np.int64)), Split(places, np.zeros(1)), (), (), None, ""
    )
    return prepare(marked, experiment(corrupt__pixels=kind))[0].train.images


def test_random_pixels_are_a_permutation_for_each_image(images: Images) -> None:
    places = np.repeat(np.arange(1024, dtype=np.int64).reshape(1, 1, 32, 32), COUNT, axis=0)
    orders = prepare_places(places, "random").reshape(COUNT, -1)
    assert all(sorted(order) == list(range(1024)) for order in orders)
    assert len({order.tobytes() for order in orders}) == COUNT
    after = prepared(images, corrupt__pixels="random").train.images.reshape(COUNT, 3, -1)
    before = images.train.images.reshape(COUNT, 3, -1)
    assert all((before[n][:, orders[n]] == after[n]).all() for n in range(COUNT))


def test_gaussian_images_have_the_moments_of_the_data_and_nothing_else_of_it(images: Images) -> None:
    noise = prepared(images, corrupt__pixels="gaussian").train.images
    assert noise.dtype == np.float32 and noise.shape == images.train.images.shape
    for channel in range(3):
        drawn, real = noise[:, channel].astype(np.float64), images.train.images[:, channel].astype(np.float64)
        assert abs(drawn.mean() - real.mean()) < 5 * real.std() / np.sqrt(real.size)
        assert drawn.std() == pytest.approx(real.std(), rel=0.01)
        skew = ((drawn - drawn.mean()) ** 3).mean() / drawn.std() ** 3
        kurtosis = ((drawn - drawn.mean()) ** 4).mean() / drawn.std() ** 4
        assert abs(skew) < 0.02 and abs(kurtosis - 3) < 0.05
        assert abs(np.corrcoef(drawn.reshape(-1), real.reshape(-1))[0, 1]) < 0.01


@pytest.mark.parametrize("kind", ["shuffled", "random", "gaussian"])
def test_test_images_stay_as_they_are_unless_asked_for(images: Images, kind: str) -> None:
    without = prepared(images, corrupt__pixels=kind)
    assert without.test.images is images.test.images
    assert not (without.train.images == images.train.images).all(), "the control"
    along = prepared(images, corrupt__pixels=kind, corrupt__test_pixels="true")
    assert not (along.test.images == images.test.images).all()
    assert (along.test.labels == images.test.labels).all()
    assert (along.train.images == without.train.images).all()


def test_the_middle_is_cropped_where_nothing_is_drawn(images: Images) -> None:
    plain = prepared(images, crop="28")
    assert (plain.train.images == images.train.images[..., 2:30, 2:30]).all()
    assert (plain.test.images == images.test.images[..., 2:30, 2:30]).all()
    drawn = prepared(images, crop="28", augment="true")
    assert drawn.train.images is images.train.images, "cropped as they are taken"
    assert drawn.test.images.shape[-1] == 28


def test_pixels_are_shuffled_among_those_that_are_left(images: Images) -> None:
    both = prepared(images, crop="28", corrupt__pixels="shuffled").train.images
    middle = crop(images.train.images, 28)
    assert (np.sort(both.reshape(COUNT, -1)) == np.sort(middle.reshape(COUNT, -1))).all()


def test_larger_images_have_black_around_them_and_smaller_ones_are_means() -> None:
    images = np.random.RandomState(0).randint(0, 256, (7, 3, 28, 28)).astype(np.uint8)
    padded = fit(images, 32)
    assert (padded[..., 2:30, 2:30] == images).all()
    assert padded.sum(dtype=np.int64) == images.sum(dtype=np.int64)
    assert fit(images, 31)[..., 1:29, 1:29].tolist() == images.tolist(), "one more row and column at the far edges"
    for size, factor in ((14, 2), (7, 4), (4, 7)):
        means = images.reshape(7, 3, size, factor, size, factor).mean(axis=(3, 5))
        assert (fit(images, size) == np.floor(means + 0.5)).all()
    assert (fit(images, 28) == images).all()


def test_many_images_are_shrunk_as_few_are() -> None:
    images = np.random.RandomState(0).randint(0, 256, (1203, 1, 4, 4)).astype(np.uint8)
    assert (fit(images, 2)[-5:] == fit(images[-5:], 2)).all()
