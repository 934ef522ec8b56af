"""The numerical trail of other people's training programs: real torch, real optimizers, real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from observed_programs import Observed, clean_environment, observe

from provenance.formats.fingerprint import fingerprint
from provenance.formats.trail import Trail, compare, float_bits, float_of
from provenance.hook.tensor_hashes import TensorHashes

TRAIN = """
import sys
import numpy, torch
from torch import nn
seed, threads, steps = map(int, sys.argv[1:4])
torch.manual_seed(seed); torch.set_num_threads(threads)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 4))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 3, 8, 8), torch.arange(64) % 4), 16)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
taken = 0
for images, labels in loader:
    if taken == steps: break
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(images), labels)
    loss.backward(); optimizer.step(); schedule.step(); taken += 1
    print(repr(loss.item()))
numpy.savez("state.npz", **{name: tensor.numpy() for name, tensor in net.state_dict().items()})
print(torch.rand(1).item(), len(torch.optim.SGD.step.__name__))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return observe(tmp_path_factory.mktemp("trained"), TRAIN, "3", "1", "3")


def trail_of(found: Observed, number: int = 0) -> Trail:
    return Trail(found.output / found.process.trails[number])


def test_each_step_has_the_losses_bits_and_the_hash_of_every_tensor(trained: Observed) -> None:
    trail = trail_of(trained)
    assert trained.process.problems == () and trail.problems() == []
    losses = [float(line) for line in trained.stdout.splitlines()[:3]]
    assert list(trail.records[:, 0]) == [0, 1, 2, 3]
    assert list(trail.records[:, 1]) == [0, *map(float_bits, losses)]
    with numpy.load(trained.output.parents[1] / "state.npz") as state:
        assert [each.name for each in trail.tensors] == list(state)
        assert [tuple(each.shape) for each in trail.tensors] == [state[name].shape for name in state]
        assert list(trail.records[-1, 2:]) == [fingerprint(state[name]) for name in state]


def test_what_torch_was_set_to_is_known_at_the_first_step_and_at_the_end(trained: Observed) -> None:
    torch = trained.process.torch
    assert torch is not None and torch.steps == 3 and torch.optimizers == ("SGD",)
    start, first, end = torch.moments
    assert (start.name, first.name, end.name) == ("import", "first step", "exit")
    assert start.random["python"] == end.random["python"] and start.random["torch"] != first.random["torch"]
    assert first.seeds["torch"] == "3" and first.flags["threads"] == 1
    assert first.flags["deterministic_algorithms"] is False
    assert first.random["torch"] != end.random["torch"]
    assert torch.loaders[0].startswith("DataLoader(num_workers=0, batch_size=16,")


def test_the_program_prints_and_computes_what_it_does_without_the_hook(trained: Observed, tmp_path: Path) -> None:
    program = trained.output.parents[1] / "program.py"
    command = [sys.executable, program, "3", "1", "3"]
    plain = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert (trained.returncode, trained.stdout, trained.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert (tmp_path / "state.npz").read_bytes() == (program.parent / "state.npz").read_bytes()


def test_the_same_again_is_identical_and_another_seed_differs_in_the_first_weights(
    trained: Observed, tmp_path: Path
) -> None:
    trail = trail_of(trained)
    again = trail_of(observe(tmp_path / "again", TRAIN, "3", "1", "3"))
    assert compare(trail, again).identical
    other = observe(tmp_path / "other", TRAIN, "4", "1", "3", trail="every=2")
    divergence = compare(trail, trail_of(other)).divergence
    assert divergence is not None and divergence.step == 0
    assert divergence.tensors[:2] == ("0.weight", "0.bias")
    assert list(trail_of(other).records[:, 0]) == [0, 2] and trail_of(other).problems() == []


MANY = """
import copy, gc, pickle, sys, warnings, weakref
import torch
from torch import nn
def step(optimizer, loss):
    optimizer.zero_grad(); loss.backward(); optimizer.step()
torch.manual_seed(0)

class Generator(nn.Module):
    def __init__(self): super().__init__(); self.layer = nn.Linear(2, 2)
class Critic(nn.Module):
    def __init__(self): super().__init__(); self.layer = nn.Linear(2, 1); self.register_buffer("mean", torch.zeros(2))
generator, critic = Generator(), Critic()
first, second = torch.optim.SGD(critic.parameters(), 0.1), torch.optim.Adam(generator.parameters(), 0.1)
x = torch.ones(3, 2)
step(first, critic.layer(x).sum())                             # trail 0: Critic alone, step 1
step(second, critic.layer(generator.layer(x)).sum())           # trail 1: both, step 2
critic.mean = critic.mean + 1
for part in (1.5, 2.5):                                        # accumulated: the losses' sum
    (critic.layer(x).sum() * 0 + part).backward()
first.step()                                                   # step 3
reference = weakref.ref(critic)
del first, second, generator, critic; gc.collect()
print("freed", reference() is None)

loose = nn.Parameter(torch.ones(2))
class Twice(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure); loose.data.add_(1)              # after the inner step: of the same record
twice = Twice([loose], 0.5)
torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)            # SGD.step gets torch's wrapper, too
step(twice, loose.sum())                                       # trail 2, step 4
print(loose.tolist())
class Fails(torch.optim.Adam):
    def step(self, closure=None): raise ValueError("no step")
fails = Fails([loose], 0.1)
for _ in range(2):
    try: fails.step()
    except ValueError as error: print(error)
step(twice, loose.sum())                                       # step 5
scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
with torch.autocast("cpu", torch.bfloat16): loss = (loose * loose).sum()
scaler.scale(loss * float("inf")).backward(); scaler.step(twice); scaler.update()  # skipped
twice.zero_grad()
scaler.scale((loose * 1).sum()).backward(); scaler.step(twice); scaler.update()    # step 6
print(len(pickle.dumps(twice)) > 0, copy.deepcopy(twice).param_groups[0]["lr"])
half = nn.Linear(2, 1).to(torch.bfloat16); frozen = nn.Linear(3, 3).requires_grad_(False); half.frozen = frozen
strided = nn.Parameter(torch.randn(2, 3).t()); half.strided = strided; half.empty = nn.Parameter(torch.empty(0))
last = torch.optim.SGD(half.parameters(), 0.1)
step(last, half(torch.ones(1, 2, dtype=torch.bfloat16)).sum())  # step 7
compiled = torch.compile(half, backend="eager")
step(last, compiled(torch.ones(1, 2, dtype=torch.bfloat16)).sum())  # step 8
graph = torch.compile(lambda value: (value * 2).sum(), backend="eager", fullgraph=True)
step(last, graph(half.weight))  # step 9
"""


def test_several_optimizers_accumulation_scalers_compilers_and_freed_memory(tmp_path: Path) -> None:
    found = observe(tmp_path, MANY)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["freed True", "[1.5, 1.5]", "no step", "no step", "True 0.5"]
    assert found.process.problems == ()
    trails = [trail_of(found, number) for number in range(len(found.process.trails))]
    assert [each.name for each in trails[0].tensors] == ["mean", "layer.weight", "layer.bias"]
    assert [each.name for each in trails[1].tensors] == [
        *("Critic.mean", "Critic.layer.weight", "Critic.layer.bias", "Generator.layer.weight", "Generator.layer.bias")
    ]
    assert [list(trail.records[:, 0]) for trail in trails[:2]] == [[0, 1], [1, 2, 3]]
    assert float_of(int(trails[1].records[2, 1])) == 4.0
    changed = trails[1].records[2, 2:] != trails[1].records[1, 2:]
    assert changed[0], "the buffer was replaced by another tensor"
    own = trails[2]
    assert [each.name for each in own.tensors] == ["Twice.group0.parameter0"]
    assert int(own.records[1, 0]) == 4 and int(own.records[1, 2]) == fingerprint(numpy.full(2, 1.5, "<f4"))
    assert sum(len(each) - 1 for each in trails) == 9 == found.process.torch.steps  # type: ignore[union-attr]
    last = trails[-1]
    assert {each.name for each in last.tensors} >= {"weight", "bias", "strided", "frozen.weight", "empty"}
    assert {each.dtype for each in last.tensors} == {"bfloat16", "float32"}
    assert "GradScaler(enabled=True" in " ".join(found.process.torch.loaders) or found.process.torch.loaders == ()  # type: ignore[union-attr]


DISTRIBUTED = """
import os, sys, torch, torch.multiprocessing
import torch.distributed as dist
from torch import nn
def work(rank, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    torch.manual_seed(rank)
    for step in range(2):
        optimizer.zero_grad(); net(torch.randn(8, 4)).square().mean().backward(); optimizer.step()
    dist.destroy_process_group()
if __name__ == "__main__":
    torch.multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method="fork")
"""


def test_each_rank_of_distributed_training_has_a_trail_of_its_own(tmp_path: Path) -> None:
    found = observe(tmp_path, DISTRIBUTED, str(tmp_path))
    assert found.returncode == 0, found.stderr
    ranks = {each.rank: each for each in found.processes if each.trails}
    assert ranks.keys() == {0, 1}
    one, other = (Trail(found.output / ranks[rank].trails[0]) for rank in (0, 1))
    assert [each.name for each in one.tensors] == ["weight", "bias"]  # without DistributedDataParallel's "module."
    assert len(one) == len(other) == 3
    assert (one.records[:, 2:] == other.records[:, 2:]).all(), "both have the same weights"
    assert (one.records[1:, 1] != other.records[1:, 1]).all(), "of other batches"
    assert all(each.ending == "exit" and each.problems == () for each in ranks.values())


@pytest.mark.slow
def test_training_whose_steps_are_not_seen_is_reported(tmp_path: Path) -> None:
    source = "import torch\nweight = torch.ones(2, requires_grad=True)\nweight.sum().backward()\n"
    process = observe(tmp_path, source).process
    assert process.trails == () and "backward was called 1x, but no step" in process.problems[0]


@pytest.mark.slow
def test_a_trail_can_be_turned_off(tmp_path: Path) -> None:
    found = observe(tmp_path, TRAIN, "3", "1", "1", trail="off")
    assert found.process.trails == () and found.process.torch is not None
    assert found.process.torch.steps == 1 and found.process.torch.moments[1].seeds["torch"] == "3"


@pytest.mark.slow
@pytest.mark.old_environment
@pytest.mark.parametrize("name", ["torch-1.13.1", "torch-2.0.1", "torch-2.4.1", "torch-2.8.0"])
def test_older_releases_of_torch_leave_the_same_trail(name: str, trained: Observed, tmp_path: Path) -> None:
    from ndrepro.execution.environments.matrix import cell, create
    from ndrepro.protocol.errors import EnvironmentMissing

    try:
        python = create(cell(name))
    except EnvironmentMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.message)
    found = observe(tmp_path, TRAIN, "3", "1", "3", python=python)
    assert found.returncode == 0, found.stderr
    assert found.process.problems == ()
    trail = trail_of(found)
    assert trail.tensors == trail_of(trained).tensors and len(trail) == 4
    assert list(trail.records[0]) == list(trail_of(trained).records[0]), "the first weights are the same"
    assert found.process.torch is not None and found.process.torch.version.startswith(name.removeprefix("torch-"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "bool", "uint8", "int64", "complex64"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (8192,), (8193,), (300, 8192), (2, 3, 1000)])
def test_hashes_of_a_device_are_those_of_the_host(dtype: str, shape: tuple[int, ...]) -> None:
    """The device's way, run on the CPU, gives the bits of the host's, which are the format's own."""
    torch = pytest.importorskip("torch")
    tensor = (torch.arange(1, 1 + int(numpy.prod(shape))).reshape(shape) * 77).to(getattr(torch, dtype))
    hashes = TensorHashes(torch)
    octets = tensor.reshape(-1).view(torch.uint8).numpy()
    expected = fingerprint(octets)
    assert hashes.compute([tensor, None, tensor.to_sparse() if dtype == "float32" and shape else None]) == [
        expected,
        0,
        0,
    ]
    assert int(hashes._on_device(tensor)) % 2**64 == expected
    if len(shape) > 1:
        assert hashes.compute([tensor.transpose(0, 1).contiguous().transpose(0, 1)]) == [expected]


def test_a_failure_of_the_trail_is_noted_and_the_program_goes_on(tmp_path: Path) -> None:
    breaking = TRAIN.replace("taken = 0", "torch.Tensor.data_ptr = None\ntaken = 0")
    found = observe(tmp_path, breaking, "3", "1", "2")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 3
    assert any("trail" in problem for problem in found.process.problems)
    assert found.process.ending == "exit" and found.process.torch is not None and found.process.torch.steps == 2
    assert found.process.random_at_exit["torch"] == "unavailable: TypeError"


def test_numpys_state_is_that_of_its_import_until_something_is_drawn_from_it(tmp_path: Path) -> None:
    source = """
import torch
import numpy.random
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([weight], lr=0.1)
for step in range(2):
    weight.sum().backward(); optimizer.step()
numpy.random.rand()
"""
    torch = observe(tmp_path, source, trail="off").process.torch
    assert torch is not None
    start, first, end = (moment.random["numpy"] for moment in torch.moments)
    assert start == first != end
