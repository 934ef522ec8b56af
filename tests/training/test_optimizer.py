"""The update is torch's own bit for bit, and the schedule the recipe's cosine."""

import math

import pytest
import torch

from ndrepro.spec.experiment import Experiment
from ndrepro.training.optimizer import SGD, learning_rate


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))


@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 1e-3), (0.0, 1e-3), (0.9, 0.0)])
def test_the_update_is_torchs_bit_for_bit(momentum: float, weight_decay: float) -> None:
    ours, theirs = network(), network()
    optimizer = SGD(ours, momentum, weight_decay)
    reference = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay, foreach=False
    )
    for step in range(20):
        images = torch.rand(8, 40, generator=torch.Generator().manual_seed(step))
        rate = 0.1 / (step + 1)
        optimizer.zero_grad()
        ours(images).square().sum().backward()
        optimizer.step(rate)
        reference.zero_grad()
        theirs(images).square().sum().backward()
        reference.param_groups[0]["lr"] = rate
        reference.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_cosine_goes_from_the_start_value_to_zero() -> None:
    experiment = Experiment.from_name("vgg16_nd_100")
    total = 391 * 100
    rates = [learning_rate(experiment, step, total) for step in (0, total // 2, total)]
    assert rates == pytest.approx([0.1, 0.05, 0.0], abs=1e-12)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD(network().parameters(), lr=0.1), 10)
    for step in range(10):
        assert learning_rate(experiment, step, 10) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        reference.optimizer.step()
        reference.step()


def test_constant_stays() -> None:
    experiment = Experiment.from_name("vgg16_nd_1", {"schedule": "constant", "learning_rate": "0.01"})
    assert {learning_rate(experiment, step, 7) for step in range(7)} == {0.01}
    assert math.isclose(learning_rate(experiment, 3, 7), 0.01)


def test_exponential_falls_by_the_same_part_after_every_epoch() -> None:
    experiment = Experiment.from_name("vgg16_nd_4", {"schedule": "exponential", "decay": "0.5", "learning_rate": "0.8"})
    rates = [learning_rate(experiment, step, 4 * 7) for step in range(4 * 7)]
    assert rates == [0.8] * 7 + [0.4] * 7 + [0.2] * 7 + [0.1] * 7
