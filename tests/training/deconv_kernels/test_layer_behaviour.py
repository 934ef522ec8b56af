"""A layer with a fast kernel beyond one step: it freezes, evaluates, is copied and refuses non-finite input."""

from __future__ import annotations

import copy

import pytest
import torch
from deconv_shapes import with_fast_kernel
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ndrepro.protocol.errors import NonFiniteStatistics
from ndrepro.training.deconv_kernels.finite_check import FiniteCheck
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d, Delinear

pytestmark = pytest.mark.numerics


class Operators(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def operators(layer: nn.Module, x: torch.Tensor) -> list[str]:
    with torch.no_grad(), Operators() as seen:
        layer(x)
    return [name for name in seen.names if "detach" not in name]


def small() -> Deconv2d:
    torch.manual_seed(0)
    return with_fast_kernel(Deconv2d(4, 3, 3, padding=1))


def test_a_freezing_layer_follows_the_reference_through_thaw_and_checkpoint() -> None:
    torch.manual_seed(0)
    reference = Deconv2d(2, 3, 3, freeze=True, freeze_iter=2).double()
    fast = with_fast_kernel(reference)
    for step, x in enumerate(torch.randn(25, 3, 2, 6, 6, dtype=torch.float64)):
        expected, found = reference(x), fast(x)
        assert torch.allclose(expected, found, rtol=0, atol=1e-10)
        assert int(reference.step) == int(fast.step) == (step + 1) % 20
        for layer, y in ((reference, expected), (fast, found)):
            layer.zero_grad()
            y.square().sum().backward()
        assert torch.allclose(reference.weight.grad, fast.weight.grad, rtol=0, atol=1e-9)
        if step == 7:
            resumed = with_fast_kernel(Deconv2d(2, 3, 3, freeze=True, freeze_iter=2).double())
            resumed.load_state_dict(fast.state_dict())
            fast = resumed


def test_the_counter_is_read_again_when_something_else_wrote_it() -> None:
    layer = Deconv2d(2, 3, 3, freeze=True, freeze_iter=2)
    assert not layer.frozen
    layer.step.fill_(3)
    assert layer.frozen
    layer.step = torch.tensor(1)
    assert not layer.frozen
    twin = copy.deepcopy(layer)
    twin.step += 2
    assert twin.frozen and not layer.frozen


def test_evaluation_folds_once_until_something_changes() -> None:
    layer, x = small(), torch.randn(5, 4, 6, 6)
    layer(x)
    layer.eval()
    first = operators(layer, x)
    assert operators(layer, x) == ["aten::convolution"] and len(first) > 4

    def changes_result(change: object) -> bool:
        with torch.no_grad():
            before = layer(x)
            change()
            after, reference = layer(x), copy.deepcopy(layer)
            reference.kernel = None
            assert torch.allclose(after, reference(x), atol=1e-6)
        return not torch.equal(before, after)

    assert changes_result(lambda: layer.weight.mul_(1.5))
    assert changes_result(lambda: layer.bias.add_(1))
    assert changes_result(lambda: layer.running_mean.add_(1))
    assert changes_result(lambda: layer.running_deconv.mul_(2))
    assert changes_result(lambda: layer.load_state_dict(small().state_dict()))
    assert changes_result(lambda: setattr(layer.weight, "data", layer.weight.detach() * 3))
    assert not changes_result(lambda: None)


def test_evaluation_with_gradients_gives_them() -> None:
    layer, x = small().eval(), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        kept = layer(x)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(kept, y) and layer.weight.grad is not None


def test_an_empty_batch_is_evaluated() -> None:
    assert small().eval()(torch.zeros(0, 4, 6, 6)).shape == (0, 3, 6, 6)


def test_without_a_gradient_of_the_input_none_is_computed() -> None:
    layer, x = small(), torch.randn(5, 4, 6, 6)
    layer(x).sum().backward()
    assert layer.weight.grad is not None and x.grad is None


def test_a_second_derivative_is_refused() -> None:
    layer, x = small(), torch.randn(5, 4, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_an_input_that_is_not_finite_is_refused_with_the_layers_name(value: float) -> None:
    net = nn.Sequential(Deconv2d(4, 300, 3), nn.Flatten(), Delinear(300 * 16, 4))
    use_fast_kernels(net)
    x = torch.randn(5, 4, 6, 6)
    net(x)
    x[3, 2, 1, 1] = value
    before = {name: each.clone() for name, each in net.named_buffers()}
    with pytest.raises(NonFiniteStatistics, match=r"layer 0 \(Deconv2d\)"):
        net(x)
    assert all(torch.equal(each, before[name]) for name, each in net.named_buffers())


def test_a_constant_input_without_eps_is_refused() -> None:
    net = nn.Sequential(Deconv2d(4, 4, 1, eps=0.0))
    use_fast_kernels(net)
    with pytest.raises(NonFiniteStatistics, match="constant while eps=0"):
        net(torch.ones(5, 4, 6, 6))


def test_on_a_device_the_first_layer_and_step_are_found_without_a_look_in_between() -> None:
    check = FiniteCheck()
    meta = {name: torch.tensor([[[1.0]]]) for name in ("a", "b", "c")}
    for step, wrong in ((1, None), (2, ("b", float("nan"))), (3, ("a", float("inf")))):
        for name, norm in meta.items():
            check.collect(name, norm if wrong is None or wrong[0] != name else norm * wrong[1])
        check.end_step(step)
    with pytest.raises(NonFiniteStatistics, match="step 2: layer b"):
        check.raise_if_any()
    check.raise_if_any()  # once
