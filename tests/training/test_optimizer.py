"""The update is torch's own bit for bit, and the schedule the recipe's cosine."""

import math

import pytest
import torch

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.optimizer import SGD


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 1e-3), (0.0, 1e-3), (0.9, 0.0)])
def test_the_update_is_torchs_bit_for_bit(momentum: float, weight_decay: float, foreach: bool) -> None:
    ours, theirs = network(), network()
    optimizer = SGD(ours, momentum, weight_decay)
    reference = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay, foreach=foreach
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
    rates = [experiment.rate_at(step, total) for step in (0, total // 2, total)]
    assert rates == pytest.approx([0.1, 0.05, 0.0], abs=1e-12)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD(network().parameters(), lr=0.1), 10)
    for step in range(10):
        assert experiment.rate_at(step, 10) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        reference.optimizer.step()
        reference.step()


def test_constant_stays() -> None:
    experiment = Experiment.from_name("vgg16_nd_1", {"schedule": "constant", "learning_rate": "0.01"})
    assert {experiment.rate_at(step, 7) for step in range(7)} == {0.01}
    assert math.isclose(experiment.rate_at(3, 7), 0.01)


def test_exponential_falls_by_the_same_part_after_every_epoch() -> None:
    experiment = Experiment.from_name("vgg16_nd_4", {"schedule": "exponential", "decay": "0.5", "learning_rate": "0.8"})
    rates = [experiment.rate_at(step, 4 * 7) for step in range(4 * 7)]
    assert rates == [0.8] * 7 + [0.4] * 7 + [0.2] * 7 + [0.1] * 7


HE = {"schedule": "step", "weight_decay": "1e-4"}  # the rest of He et al. (2016), section 4.2, is the default


def test_steps_divide_by_ten_where_he_et_al_divide() -> None:
    experiment = Experiment.from_name("resnet18_bn_160", HE)
    assert (experiment.learning_rate, experiment.momentum, experiment.batch_size) == (0.1, 0.9, 128)
    total = 64_000
    rates = {step: experiment.rate_at(step, total) for step in (0, 31_999, 32_000, 47_999, 48_000, total - 1)}
    assert list(rates.values()) == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]


def test_steps_are_torchs_at_the_fractions_asked_for() -> None:
    experiment = Experiment.from_name("resnet18_bn_10", {**HE, "drops": "0.3,0.6,0.9", "drop": "5"})
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[30, 60, 90], gamma=0.2)
    for step in range(100):
        assert experiment.rate_at(step, 100) == pytest.approx(reference.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("drops", ["", "0.75,0.5", "0,0.5", "0.5,1", "0.5,,0.75", "half", "nan", "0.5,0.5"])
def test_drops_that_are_no_ascending_fractions_are_refused(drops: str) -> None:
    with pytest.raises(UsageError, match="drops="):
        Experiment.from_name("resnet18_bn_10", {**HE, "drops": drops})
