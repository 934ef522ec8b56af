"""A step that is watched leaves the bits that it leaves unwatched, and every operation is found where it belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrepro.protocol.replay_messages import BACKWARD, BATCH, FORWARD, LOSS, OPTIMIZER, Operation
from ndrepro.training.layers import stages
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.optimizer import SGD
from ndrepro.training.replay.operation_recorder import StepObserver, as_array, bits_of

STAGES = ["patches", "mean and covariance", "inverse square root", "running averages", "weight transform"]


class Small(nn.Module):
    """A deconvolution, a batch norm with an activation in place, an addition of its own, a whitened projection."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = Deconv2d(3, 4, 3, padding=1, n_iter=3, freeze=True)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.last = Delinear(64, 5, block=16)

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        return self.last(torch.flatten(out + self.body(out), 1))


def step(net: nn.Module, optimizer: SGD) -> Tensor:
    images = torch.arange(6 * 3 * 16, dtype=torch.float32).view(6, 3, 4, 4).sin()
    optimizer.zero_grad()
    loss = F.cross_entropy(net(images * 2), torch.arange(6) % 5)
    loss.backward()
    optimizer.step(0.1)
    return loss.detach()


def watched(wanted: int = -1) -> tuple[Small, StepObserver, tuple[Operation, ...]]:
    """The second step of a training, watched."""
    net = Small()
    optimizer = SGD(net, 0.9, 1e-3)
    step(net, optimizer)
    observer = StepObserver(net, optimizer, wanted)
    observer.open()
    step(net, optimizer)
    observer.close()
    return net, observer, observer.operations()


@pytest.fixture(scope="module")
def operations() -> tuple[Operation, ...]:
    return watched()[2]


def test_watching_changes_no_bit_and_leaves_nothing_behind() -> None:
    backward = torch.Tensor.backward
    net, _, _ = watched()
    plain = Small()
    optimizer = SGD(plain, 0.9, 1e-3)
    step(plain, optimizer), step(plain, optimizer)
    assert bits_of(dict(net.state_dict())) == bits_of(dict(plain.state_dict()))
    assert torch.Tensor.backward is backward
    assert stages._watcher is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    step(plain, optimizer)
    assert bits_of(dict(net.state_dict())) != bits_of(dict(plain.state_dict())), "a step more must show"


def test_the_parts_of_a_step_come_in_their_order(operations: tuple[Operation, ...]) -> None:
    parts = [operation.part for operation in operations]
    assert list(dict.fromkeys(parts)) == [BATCH, FORWARD, LOSS, BACKWARD, OPTIMIZER]
    assert parts == sorted(parts, key=[BATCH, FORWARD, LOSS, BACKWARD, OPTIMIZER].index)


@pytest.mark.parametrize("part", [FORWARD, BACKWARD])
@pytest.mark.parametrize(("path", "kind"), [("first", "Deconv2d"), ("last", "Delinear"), ("body.1", "BatchNorm2d")])
def test_operations_belong_to_their_module(operations: tuple[Operation, ...], part: str, path: str, kind: str) -> None:
    assert {each.kind for each in operations if (each.part, each.path) == (part, path)} == {kind}


def named(operations: tuple[Operation, ...], name: str, part: str) -> list[Operation]:
    return [each for each in operations if (each.name, each.part) == (name, part)]


def test_stages_of_a_deconvolution_are_told_forward_and_backward(operations: tuple[Operation, ...]) -> None:
    first = [each for each in operations if each.path == "first"]
    forward = dict.fromkeys(each.stage for each in first if each.part == FORWARD and each.name != "buffers")
    assert list(forward) == [*STAGES, "convolution"]
    # images have no gradient, so only a later layer has one through its statistics
    backward = {each.stage for each in operations if (each.path, each.part) == ("last", BACKWARD)}
    assert {"projection", "weight transform", "inverse square root", "mean and covariance"} <= backward
    (convolution,) = [each for each in named(operations, "aten.convolution_backward", BACKWARD) if each.path == "first"]
    assert convolution.stage == "convolution"
    assert convolution.node == "ConvolutionBackward0"


def test_an_addition_between_modules_is_their_parents(operations: tuple[Operation, ...]) -> None:
    assert [each.path for each in named(operations, "aten.add", FORWARD)] == [""]


def test_what_computes_nothing_is_left_out(operations: tuple[Operation, ...]) -> None:
    found = Counter(each.name for each in operations)
    assert not {"aten.view", "aten.t", "aten.detach", "aten.expand", "aten.transpose", "aten.empty"} & set(found)


def test_running_statistics_are_seen_although_their_operation_does_not_give_them_back(
    operations: tuple[Operation, ...],
) -> None:
    (norm,) = [each for each in operations if (each.name, each.path) == ("buffers", "body.1")]
    assert {"body.1.running_mean", "body.1.running_var"} <= set(norm.tensors)


def test_the_optimizer_names_weights_and_what_it_multiplies_by(operations: tuple[Operation, ...]) -> None:
    updates = [each for each in named(operations, "aten.add_", OPTIMIZER) if "alpha=-0.1" in each.arguments]
    assert [each.tensors[0] for each in updates] == [name for name, _ in Small().named_parameters()]
    assert updates[0].tensors[1] == "momentum of first.weight"


def test_a_wanted_operation_can_be_computed_again_from_what_was_kept(operations: tuple[Operation, ...]) -> None:
    functions: dict[str, Callable[..., Tensor]] = {"aten.bmm": torch.bmm, "aten.add": torch.add}
    for name, part in (("aten.bmm", BACKWARD), ("aten.add", FORWARD)):
        number = operations.index(named(operations, name, part)[0])
        _, observer, again = watched(number)
        assert again == operations
        assert observer.captured is not None
        assert torch.equal(functions[name](*observer.captured.inputs), observer.captured.outputs[0])


def test_an_input_that_is_changed_in_place_is_kept_as_it_was(operations: tuple[Operation, ...]) -> None:
    number = operations.index(named(operations, "aten.mul_", OPTIMIZER)[0])
    captured = watched(number)[1].captured
    assert captured is not None
    assert torch.equal(captured.inputs[0] * 0.9, captured.outputs[0])
    assert not torch.equal(captured.inputs[0], captured.outputs[0])


def test_numbers_that_numpy_lacks_are_kept_by_their_bits() -> None:
    array = as_array(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    assert array.dtype == np.int16
    assert [int(value) & 0xFFFF for value in array] == [0x3F80, 0xC000]
    tensor = torch.ones(2)
    kept = as_array(tensor)
    tensor.add_(1)
    assert kept.tolist() == [1.0, 1.0]
