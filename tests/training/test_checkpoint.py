"""A checkpoint holds the whole state, appears only when whole, and is refused where it does not belong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ndrepro.protocol.errors import CheckpointError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.training_state import Place
from ndrepro.training import models
from ndrepro.training.checkpoint import _read, _write, load_checkpoint, save_checkpoint, state_tensors
from ndrepro.training.initialise import initialise
from ndrepro.training.optimizer import make_optimizer
from provenance.errors import StorageError

EXPERIMENT = Experiment.from_name("lenet_nd_1_digits")
PLACE = Place(step=3, epoch=0, batch=3, loss_sum=0.1 + 0.2, correct=7, seen=48)


def trained(steps: int, experiment: Experiment = EXPERIMENT):  # type: ignore[no-untyped-def]
    net = models.build(experiment.arch, experiment.method, 10)
    initialise(net, experiment)
    optimizer = make_optimizer(net, experiment)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 32, 32, generator=generator)).sum().backward()
        optimizer.step(0.1)
    return net, optimizer


def test_state_and_momentum_come_back_bit_for_bit(tmp_path: Path) -> None:
    net, optimizer = trained(3)
    save_checkpoint(tmp_path / "checkpoints" / "c", PLACE, EXPERIMENT, net, optimizer)
    other, its_optimizer = trained(0)
    assert load_checkpoint(tmp_path / "checkpoints" / "c", EXPERIMENT, other, its_optimizer) == PLACE
    for name, tensor in state_tensors(net).items():
        assert torch.equal(tensor, state_tensors(other)[name]), name
    assert set(its_optimizer.momentum_buffers) == {name for name, _ in net.named_parameters()}
    for name, momentum in optimizer.momentum_buffers.items():
        assert torch.equal(momentum, its_optimizer.momentum_buffers[name]), name


def test_freeze_counters_and_running_statistics_are_in_it() -> None:
    net, _ = trained(2)
    names = state_tensors(net)
    assert any(name.endswith("running_deconv") for name in names)
    counters = [int(tensor) for name, tensor in names.items() if name.endswith(".step")]
    assert 2 in counters


def test_sums_at_the_start_of_an_epoch_are_refused(tmp_path: Path) -> None:
    net, optimizer = trained(1)
    for sums in ({"correct": 7, "seen": 48}, {"loss_sum": 0.5}, {"seen": 1}):
        save_checkpoint(tmp_path / "c", Place(step=6, epoch=1, batch=0, **sums), EXPERIMENT, net, optimizer)
        with pytest.raises(CheckpointError, match="sums of epoch 2, which starts here, are not zero"):
            load_checkpoint(tmp_path / "c", EXPERIMENT, net, optimizer)


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    net, optimizer = trained(1)
    path = tmp_path / "step-000000003.safetensors"
    save_checkpoint(path, PLACE, EXPERIMENT, net, optimizer)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step-000000003.*damaged"):
        load_checkpoint(path, EXPERIMENT, net, optimizer)


def test_another_experiments_checkpoint_is_refused(tmp_path: Path) -> None:
    net, optimizer = trained(1)
    save_checkpoint(tmp_path / "c", PLACE, EXPERIMENT, net, optimizer)
    other = Experiment.from_name("lenet_nd_1_digits", {"learning_rate": "0.2"})
    with pytest.raises(CheckpointError, match="another experiment"):
        load_checkpoint(tmp_path / "c", other, net, optimizer)
    with pytest.raises(CheckpointError, match="not there"):
        load_checkpoint(tmp_path / "nothing", EXPERIMENT, net, optimizer)


def test_nothing_half_written_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, optimizer = trained(1)
    save_checkpoint(tmp_path / "c", PLACE, EXPERIMENT, net, optimizer)
    before = (tmp_path / "c").read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StorageError, match="the disk is full"):
        save_checkpoint(tmp_path / "c", Place(4, 0, 4), EXPERIMENT, net, optimizer)
    assert (tmp_path / "c").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_from_before_the_top_5_were_counted_says_that_they_are_not(tmp_path: Path) -> None:
    net, optimizer = trained(1)
    for place, expected in ((PLACE, None), (Place(step=3, epoch=1, batch=0), 0)):
        save_checkpoint(tmp_path / "c", place, EXPERIMENT, net, optimizer)
        tensors, document = _read(tmp_path / "c")
        del document["place"]["correct_top5"]
        _write(tmp_path / "c", tensors, document)
        assert load_checkpoint(tmp_path / "c", EXPERIMENT, net, optimizer) == replace(place, correct_top5=expected)
