"""Crops are made of the same pixels as torchvision's, and are as large and as long as its own would be."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms
from torchvision.transforms import functional

from ndrepro.training.data.crops import ATTEMPTS, DRAWS, centre_crop, random_crop, training_crop

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0])
SIZES = [(640, 427), (427, 640), (300, 300), (224, 500), (1000, 60), (60, 1000), (33, 40)]


def drawn(seed: int) -> list[float]:
    return np.random.RandomState(seed).random_sample(DRAWS).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_training_crop_has_torchvisions_pixels(seed: int) -> None:
    draws = drawn(seed)
    crop = random_crop(*PHOTOGRAPH.size, draws)
    expected = functional.resized_crop(PHOTOGRAPH, crop.top, crop.left, crop.height, crop.width, [224, 224])
    expected = functional.hflip(expected) if crop.flip else expected
    assert (training_crop(PHOTOGRAPH, 224, draws) == np.asarray(expected).transpose(2, 0, 1)).all()


def test_both_sides_of_the_mirror_come_up() -> None:
    assert {random_crop(640, 427, drawn(seed)).flip for seed in range(20)} == {True, False}


@pytest.mark.parametrize("size", [224, 64, 33])
@pytest.mark.parametrize("shape", SIZES)
def test_the_middle_is_torchvisions(shape: tuple[int, int], size: int) -> None:
    image = PHOTOGRAPH.resize(shape)
    short = round(size * 256 / 224)
    expected = transforms.Compose([transforms.Resize(short), transforms.CenterCrop(size)])(image)
    assert (centre_crop(image, size) == np.asarray(expected).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", SIZES)
def test_crops_lie_in_the_image_whatever_is_drawn(shape: tuple[int, int]) -> None:
    width, height = shape
    extremes = [[0.0] * DRAWS, [math.nextafter(1, 0)] * DRAWS]
    for draws in [*(drawn(seed) for seed in range(200)), *extremes]:
        crop = random_crop(width, height, draws)
        assert crop.left >= 0 and crop.left + crop.width <= width and crop.width > 0
        assert crop.top >= 0 and crop.top + crop.height <= height and crop.height > 0


def test_an_image_that_no_attempt_fits_is_cropped_in_the_middle() -> None:
    draws = [math.nextafter(1, 0)] * DRAWS  # the whole area, as wide as can be: too wide for a tall image
    assert random_crop(300, 900, draws)[:4] == (0, 250, 300, 400)
    wide = [value for _ in range(ATTEMPTS) for value in (math.nextafter(1, 0), 0.0, 0.5, 0.5)] + [0.9]
    assert random_crop(900, 300, wide)[:4] == (250, 0, 400, 300)


def test_areas_shapes_and_places_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = Image.new("RGB", (500, 375))
    params = transforms.RandomResizedCrop.get_params
    theirs = np.array([params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)], dtype=np.float64)
    crops = [random_crop(500, 375, drawn(seed)) for seed in range(4000)]
    ours = np.array([(crop.top, crop.left, crop.height, crop.width) for crop in crops], dtype=np.float64)
    for found, expected in zip(ours.T, theirs.T, strict=True):
        for share in (0.1, 0.5, 0.9):
            assert abs((found <= np.quantile(expected, share)).mean() - share) < 0.035
    areas = [(values[:, 2] * values[:, 3]).mean() for values in (ours, theirs)]
    assert areas[0] == pytest.approx(areas[1], rel=0.05)
