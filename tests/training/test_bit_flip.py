"""A nudge flips the bit that it names and no other; one that the network cannot take is refused by name."""

import pytest
import torch

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.train_run import build


def bits(**settings: str) -> dict[str, torch.Tensor]:
    net = build(Experiment.from_name("lenet_nd_1_digits", settings))
    return {name: tensor.detach().clone().view(torch.int32) for name, tensor in net.named_parameters()}


@pytest.mark.parametrize(("element", "bit", "mask"), [(0, 0, 1), (449, 22, 1 << 22), (7, 31, -(1 << 31))])
def test_one_bit_of_one_weight_differs_and_no_other(element: int, bit: int, mask: int) -> None:
    plain, nudged = bits(), bits(nudge=f"conv1.weight:{element}:{bit}")
    assert [name for name in plain if not torch.equal(plain[name], nudged[name])] == ["conv1.weight"]
    changed = plain["conv1.weight"].flatten() ^ nudged["conv1.weight"].flatten()
    assert changed.nonzero().flatten().tolist() == [element]
    assert int(changed[element]) == mask


def test_the_same_nudge_twice_is_the_same_start() -> None:
    first, second = bits(nudge="conv1.weight:3:1"), bits(nudge="conv1.weight:3:1")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conv9.weight:0:0", r"no parameter 'conv9\.weight'"),
        ("conv1.weight:450:0", "element 450 of 450"),
    ],
)
def test_a_nudge_that_the_network_has_no_place_for_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bits(nudge=text)


def test_a_nudge_that_leaves_no_number_is_refused() -> None:
    """The scale of a batch norm starts at 1; its exponent's highest bit makes that infinite, the lowest a half."""
    build(Experiment.from_name("mobilenetv2_bn_1_digits", {"nudge": "bn1.weight:0:23"}))
    with pytest.raises(UsageError, match="no finite number"):
        build(Experiment.from_name("mobilenetv2_bn_1_digits", {"nudge": "bn1.weight:0:30"}))
