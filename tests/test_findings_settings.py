"""What the pages of findings say of how their studies were run is what the study files say."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.study.study import StudyRun
from ndrepro.report.figures.generalization_figures import FITTED_PERCENT
from ndrepro.training.models import build

FINDINGS = Path(__file__).resolve().parents[1] / "docs" / "findings"


def runs_of(study: str) -> tuple[StudyRun, ...]:
    return load_study(find_study(study)).runs()


def text_of(page: str) -> str:
    return " ".join((FINDINGS / page).read_text(encoding="utf-8").split())


def short(number: float) -> str:
    """0.0001 as 1e-4."""
    return f"{number:.0e}".replace("e-0", "e-")


def steps(run: StudyRun) -> int:
    return -(-run.experiment.train_images // run.experiment.batch_size)


def test_seeds() -> None:
    text, runs = text_of("seeds.md"), runs_of("seeds_small")
    first, last = runs[0].experiment, runs[-1].experiment
    said = [
        f"learning rate {first.learning_rate} with a cosine, momentum {first.momentum}, weight decay"
        f" {short(first.weight_decay)}, batch {first.batch_size}, no augmentation, {first.epochs} epochs on"
        f" {first.train_images:,} training images of {first.size}x{first.size}. Tested on all {first.test_images} test"
        f" images of the digits, and on {last.test_images:,} of CIFAR-10",
        f"{len(runs)} runs on the CPU",
        f"LeNet fits the {last.train_images:,} training images",
        f"With six epochs on {last.train_images:,} images",
        "an MLP of 512 units",
    ]
    assert [each for each in said if each not in text] == [] and last.dataset == "cifar10"


def test_generalization() -> None:
    text, runs = text_of("generalization.md"), runs_of("generalization_small")
    small = [run for run in runs if run.experiment.arch != "small_inception"]
    first, other = small[0].experiment, next(run for run in runs if run.experiment.arch == "small_inception")
    images, epochs = first.train_images, first.epochs
    total, inception = epochs * steps(small[0]), other.experiment
    parameters = sum(each.numel() for each in build("small_inception", "bn", 10).parameters())
    said = [
        f"figures 1a to 1c on {images} images and two networks",
        f"{images} training and {first.test_images} test images of CIFAR-10, cropped to 28x28, each whitened by itself;"
        f" SGD, momentum {first.momentum}, learning rate {first.learning_rate} times {first.decay} an epoch, batch"
        f" {first.batch_size}, {epochs} epochs ({total} steps)",
        "an MLP of 512 units",
        f"{len(small)} runs on the CPU",
        f"With {first.test_images} test images the standard error of an accuracy of 20 % is"
        f" {100 * sqrt(0.2 * 0.8 / first.test_images):.1f} points",
        f"the first epoch that ended with {FITTED_PERCENT:g} % train accuracy",
        f"train and test are after {epochs} epochs, in percent, n = 1",
        f"any of the changed pixels after {epochs} epochs, which says that {total} steps are few",
        f"With {images} images and {epochs} epochs the resolution is an epoch",
        f"small Inception ({parameters / 1e6:.2f} million parameters, learning rate {inception.learning_rate})",
        f"The same {inception.train_images} and {inception.test_images} images, {inception.epochs} epochs"
        f" ({inception.epochs * steps(other)} steps), **two seeds each**: {len(runs) - len(small)} runs",
        f"has fitted its {inception.train_images} images after {inception.epochs * steps(other)} steps",
        f"{inception.test_images} test images have a standard error of"
        f" {100 * sqrt(0.3 * 0.7 / inception.test_images):.1f} points",
        f"train at learning rate {inception.learning_rate} is what the figure shows",
    ]
    (strong,) = {run.experiment.weight_decay for run in runs} - {0.0, first.weight_decay}
    jitter, dropout = (max(getattr(run.experiment, name) or 0 for run in runs) for name in ("jitter", "dropout"))
    said += [
        f"without a regulariser, with weight decay {short(strong)}, and with augmentation (random crops, flips,",
        f"contrast within {100 * jitter:g} %) and {100 * dropout:g} % dropout as well",
    ]
    assert [each for each in said if each not in text] == []
    shares = sorted({run.experiment.corrupt.labels for run in small})
    assert f"or {', '.join(f'{100 * each:g}' for each in shares[1:-1])} or {100 * shares[-1]:g} % of them" in text


@pytest.mark.parametrize("study", ["versions", "axes_small", "cpu_isa"])
def test_sensitivity(study: str) -> None:
    text, runs = text_of("sensitivity.md"), runs_of(study)
    first = runs[0].experiment
    sizes = f"{first.epochs} epochs of {steps(runs[0])} steps of {first.batch_size} images"
    said = {
        "versions": f"{sizes}, the first {first.train_images} of the bundled digits at their own"
        f" {first.size}x{first.size}, all 360 for testing; learning rate {first.learning_rate}, cosine",
        "axes_small": f"{sizes}, the first {first.train_images} digits at {first.size}x{first.size}, all 360 for"
        f" testing, learning rate {first.learning_rate}, cosine, no augmentation",
        "cpu_isa": f"{sizes}, the first {first.train_images} digits at {first.size}x{first.size}, all 360 for testing,"
        f" learning rate {first.learning_rate}, cosine, one thread, ten seeds",
    }
    assert said[study] in text
    if study == "versions":
        plain = [run for run in runs if run.experiment.nudge == "none" and run.experiment.threads == 1]
        releases, seeds = {run.environment for run in plain}, {run.experiment.seed for run in runs}
        assert f"of its time | {len(releases)} x 2 methods x {len(seeds)} seeds |" in text
        assert f"""is flipped (`nudge = "conv1.conv.weight:0:0"`) | 2 x {len(seeds)} |""" in text
        assert f"two threads in place of one | 2 x {len(seeds)} |" in text
        assert len(runs) == (len(releases) + 2) * 2 * len(seeds)


def test_fashion_mnist() -> None:
    first = runs_of("fashion_mnist")[0].experiment
    said = (
        f"One epoch of 60,000 images with the recipe of Table 1 (batch {first.batch_size}, learning rate"
        f" {first.learning_rate}, cosine to 0, weight decay {short(first.weight_decay)}, crop and flip), tested on"
        f" 10,000 (standard error of one accuracy about {100 * sqrt(0.8 * 0.2 / 10_000):.1f} points)"
    )
    assert said in text_of("results.md") and first.schedule == "cosine"
