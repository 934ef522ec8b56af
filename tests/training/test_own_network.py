"""A network of one's own is imported from the run's files and seeded; what a record could not hold is refused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ndrepro.execution.own_sources.network_files import NetworkFiles
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training import own_network, train_run
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.layers.dropout import StreamDropout
from provenance.formats.digest import file_digest

GOOD = """
import torch
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels=3):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.LayerNorm(4), nn.Dropout(0.25), nn.Linear(4, num_classes),
        )
class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)
class Tied(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = Net(num_classes)
        self.head = self.net[7].weight
    def forward(self, x):
        return self.net(x)
def one_score(num_classes): return Net(1)
def no_module(num_classes): return 3
def raises(num_classes): raise KeyError("oops")
def no_classes(image_size): return Net(10)
def wrong_images(num_classes): return Net(num_classes, in_channels=5)
number = 3
"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., nn.Module]]:
    """Builds a network of the module ``own_nets`` above, as a run does; every call imports it anew."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(name: str, text: str = GOOD, module: str = "own_nets", **settings: str) -> nn.Module:
        sys.modules.pop(module, None)
        folder = tmp_path / module
        files = NetworkFiles({f"{module}.py": text.encode()})
        files.write(folder)
        experiment = Experiment.from_name(f"{module}:{name}_digits", {**settings, "network_source": files.digest})
        with torch.random.fork_rng(devices=[]):
            return train_run.build(experiment, folder)

    yield call
    sys.modules.pop("own_nets", None)


def test_first_weights_are_drawn_from_the_seed_and_equal_under_both_methods(build: Callable[..., nn.Module]) -> None:
    first, again, other = build("Net_bn_1"), build("Net_bn_1"), build("Net_bn_1", **{"seeds.init": "1"})
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(first[0].weight, other[0].weight)
    whitened = build("Net_nd_1")
    assert torch.equal(whitened[0].weight, first[0].weight)


def test_methods_convert_and_dropout_draws_from_the_stream(build: Callable[..., nn.Module]) -> None:
    kinds = {
        method: [type(layer) for layer in build(f"Net_{method}_1", dropout="0.5")] for method in ("bn", "none", "nd")
    }
    assert nn.BatchNorm2d in kinds["bn"] and nn.BatchNorm2d not in kinds["none"]
    assert Deconv2d in kinds["nd"] and nn.BatchNorm2d not in kinds["nd"]
    assert all(StreamDropout in found and nn.Dropout not in found for found in kinds.values())
    dropout = next(layer for layer in build("Net_bn_1") if isinstance(layer, StreamDropout))
    assert dropout.p == 0.25


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Noisy_bn_1", "draws random numbers"),
        ("Tied_bn_1", "share memory"),
        ("one_score_bn_1", "it makes (2, 1), expected (2, 10)"),
        ("no_module_bn_1", "returned a int"),
        ("raises_bn_1", "raised KeyError"),
        ("no_classes_bn_1", "no argument num_classes"),
        ("wrong_images_bn_1", "images 3x32x32 raised RuntimeError"),
        ("number_bn_1", "no callable number"),
        ("absent_bn_1", "no callable absent"),
    ],
)
def test_what_cannot_be_trained_as_recorded_is_refused(name: str, said: str, build: Callable[..., nn.Module]) -> None:
    with pytest.raises(UsageError) as caught:
        build(name)
    assert said in caught.value.message


def test_what_lies_in_a_checkout_is_not_installed(
    build: Callable[..., nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout is on the path of its environment, for this project's packages: the original files may lie in it."""
    checkout = tmp_path / "checkout"
    (checkout / "ndrepro" / "training").mkdir(parents=True)
    (checkout / "own_nets.py").write_text("raise ImportError('not the file that the run keeps')\n")
    monkeypatch.syspath_prepend(str(checkout))
    with pytest.raises(UsageError, match="own_nets is an installed module too"):
        build("Net_bn_1")
    (checkout / "pyproject.toml").touch()
    assert isinstance(build("Net_bn_1"), nn.Sequential)


def test_other_files_and_hidden_modules_are_refused(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No module named 'absent_module'"):
        build("Net_bn_1", text="import absent_module\n")
    with pytest.raises(UsageError, match="an installed module too"):
        build("Net_bn_1", module="colorsys")
    with pytest.raises(UsageError, match="an installed module too"):
        build("Net_bn_1", module="torchvision")
    with pytest.raises(UsageError, match=r"has no nn\.Dropout"):
        build("Net_bn_1", text=GOOD.replace("nn.Dropout(0.25)", "nn.ReLU()"), dropout="0.1")
    build("Net_bn_1")
    experiment = Experiment.from_name("own_nets:Net_bn_1_digits")
    with pytest.raises(UsageError, match="the experiment names"):
        train_run.build(replace(experiment, network_source="0" * 64), tmp_path / "own_nets")


def test_a_file_that_was_changed_after_its_digest_was_checked_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor bytecode of it. Before, who may write into the run's folder had other code executed than is recorded."""
    (tmp_path / "shape.py").write_text("WIDTH = 4\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    digests = {str(path): file_digest(path).sha256 for path in tmp_path.glob("*.py")}
    own_network._import_only(digests, tmp_path)
    assert importlib.import_module("shape").WIDTH == 4 and not (tmp_path / "__pycache__").exists(), "the control"
    del sys.modules["shape"]
    (tmp_path / "shape.py").write_text("WIDTH = 5\n")
    (tmp_path / "other.py").write_text("")
    importlib.invalidate_caches()
    for name in ("shape", "other"):
        with pytest.raises(ImportError, match="was changed since its digest was checked"):
            importlib.import_module(name)
