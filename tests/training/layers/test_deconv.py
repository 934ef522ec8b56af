"""The layers compute what the released implementation computes, and what the equations say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ndrepro.protocol.errors import UsageError
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.layers.deconv import Deconv2d, Delinear, resolve_block

pytestmark = pytest.mark.numerics

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
CLOSE = 1e-10


def layer_of(vector: dict[str, np.ndarray], **changes: object) -> torch.nn.Module:
    settings = json.loads(str(vector["config"])) | changes
    settings.pop("n_steps")
    kind = {"deconv2d": Deconv2d, "delinear": Delinear}[settings.pop("kind")]
    if kind is Deconv2d:
        settings.setdefault("out_channels", vector["weight"].shape[0])
    layer = kind(**settings).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(vector["weight"]))
        layer.bias.copy_(torch.from_numpy(vector["bias"]))
    return layer


def worst_difference(layer: torch.nn.Module, vector: dict[str, np.ndarray]) -> float:
    """The largest absolute difference over every output, gradient and buffer of every step."""
    differences = []

    def compare(name: str, value: torch.Tensor) -> None:
        assert value.shape == vector[name].shape
        differences.append(float(np.abs(value.detach().numpy() - vector[name]).max()))

    for step in range(json.loads(str(vector["config"]))["n_steps"]):
        x = torch.from_numpy(vector[f"x{step}"]).requires_grad_()
        layer.zero_grad()
        y = layer(x)
        (y * torch.from_numpy(vector[f"r{step}"])).sum().backward()
        compare(f"y{step}", y)
        compare(f"grad_x{step}", x.grad)
        compare(f"grad_weight{step}", layer.weight.grad)
        compare(f"grad_bias{step}", layer.bias.grad)
        compare(f"running_mean{step}", layer.running_mean)
        compare(f"running_deconv{step}", layer.running_deconv)
    layer.eval()
    compare("y_eval", layer(torch.from_numpy(vector["x0"])))
    return max(differences)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("kernel", ["reference", "fast"])
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_output_gradient_and_buffer_equals_the_released_layer(path: Path, kernel: str) -> None:
    vector = read(path)
    layer = layer_of(vector)
    if kernel == "fast":
        use_fast_kernels(torch.nn.Sequential(layer))
    assert worst_difference(layer, vector) < CLOSE


def test_six_vectors_are_compared() -> None:
    assert len(VECTORS) == 6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv3x3_block8", {"n_iter": 4}),
        ("conv3x3_block8", {"eps": 2e-5}),
        ("conv3x3_block8", {"momentum": 0.2}),
        ("conv3x3_block8", {"sampling_stride": 2}),
        ("first_conv_freeze2", {"freeze_iter": 1}),
        ("pointwise_stride2", {"sampling_stride": 2}),
        ("delinear_block8", {"n_iter": 6}),
    ],
)
def test_control_another_setting_is_seen_by_the_comparison(name: str, change: dict[str, float]) -> None:
    vector = read(Path(__file__).parent / "vectors" / f"{name}.npz")
    assert worst_difference(layer_of(vector, **change), vector) > CLOSE


def test_control_contiguous_blocks_are_another_function() -> None:
    vector = read(Path(__file__).parent / "vectors" / "conv3x3_block8.npz")

    class Contiguous(Deconv2d):
        def _rows(self, x: torch.Tensor) -> torch.Tensor:
            columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.sampling_stride)
            return columns.transpose(1, 2).reshape(1, -1, self.num_features)

        def _weight_rows(self) -> torch.Tensor:
            return self.weight.reshape(1, -1, self.num_features)

        def _as_kernel(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.reshape(self.weight.shape)

    layer = layer_of(vector)
    layer.__class__ = Contiguous
    assert worst_difference(layer, vector) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "in_shape"),
    [
        (
            {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "block": 2},
            (3, 4, 9, 8),
        ),
        ({"kernel_size": (1, 3), "padding": (0, 1), "groups": 2}, (3, 4, 7, 7)),
        ({"kernel_size": 1, "stride": (2, 1)}, (4, 4, 8, 8)),
        ({"kernel_size": 3, "padding": 1, "bias": False}, (4, 4, 8, 8)),
    ],
)
def test_whitening_the_patches_first_gives_the_same(arguments: dict, in_shape: tuple[int, ...]) -> None:
    """The weight is whitened instead of the data: here the data are, patch by patch, in plain NumPy."""
    torch.manual_seed(0)
    layer = Deconv2d(4, 6, n_iter=30, sampling_stride=2, **arguments).double()
    x = torch.randn(in_shape, dtype=torch.float64)
    y = layer(x).detach()

    def columns(stride: tuple[int, int]) -> np.ndarray:
        unfolded = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, stride)
        return unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1]).numpy()

    features, groups = layer.num_features, 4 // layer.block
    where = np.arange(features * groups).reshape(features, groups).T  # interleaved: row g is block g's columns
    if layer.groups > 1:
        where = where.T.reshape(groups, features)
    sampled = (
        columns(layer.sampling_stride)
        if layer.kernel_size != (1, 1)
        else columns((1, 1))[:: layer.sampling_stride[0] * layer.sampling_stride[1]]
    )
    every = columns(layer.stride)
    whitened = np.empty_like(every)
    pools = [where[g : g + 1] for g in range(groups)] if layer.groups > 1 else [where]
    for blocks in pools:
        rows = np.concatenate([sampled[:, block] for block in blocks])
        mean = rows.mean(0)
        covariance = layer.eps * np.eye(features) + (rows - mean).T @ (rows - mean) / len(rows)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors / np.sqrt(values) @ vectors.T
        for block in blocks:
            whitened[:, block] = (every[:, block] - mean) @ root
    weight = layer.weight.detach().reshape(layer.groups, 6 // layer.groups, -1).numpy()
    split = whitened.reshape(len(whitened), layer.groups, -1)
    expected = np.concatenate([split[:, g] @ weight[g].T for g in range(layer.groups)], axis=1)
    if layer.bias is not None:
        expected += layer.bias.detach().numpy()
    found = y.permute(0, 2, 3, 1).reshape(-1, 6).numpy()
    assert np.abs(found - expected).max() < 1e-6  # n_iter=30 against the true root


def test_delinear_whitens_any_leading_shape_alike() -> None:
    torch.manual_seed(0)
    layer = Delinear(12, 5, block=4, bias=False).double()
    x = torch.randn(6, 7, 12, dtype=torch.float64)
    assert torch.equal(layer(x).reshape(42, 5), layer(x.reshape(42, 12)))


def test_evaluation_does_not_look_at_the_batch() -> None:
    torch.manual_seed(0)
    layer = Deconv2d(4, 3, 3, padding=1)
    x = torch.randn(8, 4, 6, 6)
    in_training = layer(x)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.eval()
    alone, together = layer(x[:1]), layer(x)[:1]
    assert torch.allclose(alone, together, atol=1e-6)
    assert not torch.allclose(in_training[:1], together, atol=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def live_steps(freeze_iter: int, steps: int) -> list[int]:
    layer = Deconv2d(2, 2, 1, freeze=True, freeze_iter=freeze_iter)
    x = torch.randn(2, 2, 4, 4)
    changed = []
    for step in range(steps):
        before = layer.running_deconv.clone()
        layer(x + step)
        if not torch.equal(before, layer.running_deconv):
            changed.append(step)
    return changed


def test_a_freezing_layer_is_live_for_one_more_than_freeze_iter_of_every_ten_times_it() -> None:
    assert live_steps(freeze_iter=2, steps=45) == [0, 1, 2, 20, 21, 22, 40, 41, 42]


def test_by_default_101_batches_of_every_1000_are_live() -> None:
    assert live_steps(freeze_iter=100, steps=1002) == [*range(101), 1000, 1001]


def test_evaluation_does_not_count_as_a_step() -> None:
    layer = Deconv2d(2, 2, 1, freeze=True).eval()
    layer(torch.randn(2, 2, 4, 4))
    assert int(layer.step) == 0


def test_a_resumed_layer_goes_on_as_if_never_stopped() -> None:
    torch.manual_seed(0)
    batches = torch.randn(9, 4, 2, 5, 5)
    whole = Deconv2d(2, 3, 3, freeze=True, freeze_iter=3)
    for x in batches[:4]:
        whole(x)
    resumed = Deconv2d(2, 3, 3, freeze=True, freeze_iter=3)
    resumed.load_state_dict(whole.state_dict())
    forgetful = Deconv2d(2, 3, 3, freeze=True, freeze_iter=3)
    forgetful.load_state_dict({**whole.state_dict(), "step": torch.tensor(0)})
    for x in batches[4:]:
        expected = whole(x)
        assert torch.equal(resumed(x), expected)
        forgotten = forgetful(x)
    assert not torch.equal(forgotten, expected)  # control: without the counter it is another run


def test_a_layer_that_never_freezes_has_no_counter() -> None:
    assert "step" not in Deconv2d(2, 2, 1).state_dict()
    assert Deconv2d(2, 2, 1, freeze=True).state_dict()["step"].dtype == torch.int64


@pytest.mark.parametrize(
    ("block", "channels", "fitted"),
    [(64, 3, 3), (64, 64, 64), (64, 88, 8), (512, 1280, 256), (512, 2560, 512)],
)
def test_a_block_is_fitted_to_the_channels(block: int, channels: int, fitted: int) -> None:
    assert resolve_block(block, channels) == fitted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"in_channels": 4, "groups": 3}, "in_channels=4"),
        ({"out_channels": 3, "groups": 2}, "out_channels=3"),
        ({"n_iter": 0}, "n_iter=0"),
        ({"block": 0}, "block=0"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"eps": float("nan")}, "eps=nan"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"sampling_stride": 0}, "sampling_stride=0"),
        ({"freeze_iter": 0}, "freeze_iter=0"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name(arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Deconv2d(**({"in_channels": 4, "out_channels": 4, "kernel_size": 3} | arguments))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 8, 8), (2, 4, 8)])
def test_an_input_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Deconv2d(4, 4, 3)(torch.zeros(shape))


def test_delinear_refuses_other_features() -> None:
    with pytest.raises(UsageError, match="expected"):
        Delinear(4, 4)(torch.zeros(2, 5))
