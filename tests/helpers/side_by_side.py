"""Trains a small network with every layer that looks at a batch: ``torchrun … side_by_side.py OUT.npz`` by processes.

Every case is trained by the very parts that a run is made of (``distributed``, ``optimizer``, ``trainer.mean_loss``),
in float64, on batches that do not divide equally; rank 0 writes all of them into OUT.npz. ``alone`` is the same in one
process. ``lenet`` is one step of a real network on real images, in float32 and in float64.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ndrepro.execution.runs.data_check import locate
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training import process_group
from ndrepro.training.checkpoint import state_tensors
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.data.readers.digits import load as load_digits
from ndrepro.training.deconv_kernels.kernels import use_fast_kernels
from ndrepro.training.dropout_streams import Dropouts
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.optimizer import SGD
from ndrepro.training.process_group import ALONE, Alone
from ndrepro.training.train_run import build
from ndrepro.training.trainer import mean_loss

BATCH, STEPS = 7, 4
REAL_BATCH = 16
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
CASES = ("global", "fast", "process", "global without averaging", "global without gradients of sums")
Arrays = dict[str, np.ndarray]


class Net(nn.Module):
    """All of them: plain and frozen, 1x1 (which samples pixels), grouped and strided; batch norm; dropout; linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Deconv2d(3, 8, 3, padding=1, freeze=True, freeze_iter=2, n_iter=3)
        self.narrow = Deconv2d(8, 8, 1, block=4)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = Deconv2d(8, 8, 3, stride=2, groups=4, sampling_stride=2)
        self.dropout = StreamDropout(0.25)
        self.linear = Delinear(8 * 5 * 5, 10, block=25)
        self.unused = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.narrow(torch.relu(self.first(x)))))
        x = self.dropout(torch.relu(self.grouped(x)))
        return self.linear(x.flatten(1))


def experiment(statistics: str = "global", processes: int = 1) -> Experiment:
    chosen = {"processes": str(processes), "statistics": statistics}
    return Experiment.from_name("lenet_bn_1_digits", chosen)


def network() -> nn.Module:
    torch.manual_seed(0)
    return Net().double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = np.random.RandomState(1)
    drawn = [(generator.standard_normal((BATCH, 3, 12, 12)), generator.randint(10, size=BATCH)) for _ in range(STEPS)]
    return [(torch.from_numpy(images), torch.from_numpy(labels)) for images, labels in drawn]


def train(group: Alone, sum_gradients: Callable[[nn.Module], None], fast: bool = False) -> tuple[Arrays, list[float]]:
    """State after the steps, and every step's loss; with fast deconvolution kernels where asked."""
    net = network()
    if fast:
        use_fast_kernels(net)
    group.connect(net)
    optimizer, dropouts, losses = SGD(net, 0.9, 1e-3), Dropouts(net, experiment()), []
    for step, (images, labels) in enumerate(batches()):
        rows = group.share.of(0, BATCH)
        optimizer.zero_grad()
        dropouts.seed(step)
        group.begin_batch(BATCH)
        loss = mean_loss(net(images[rows]), labels[rows], BATCH)
        loss.backward()
        sum_gradients(net)
        optimizer.step(0.05)
        group.end_step(net)
        losses.append(float(group.sum(loss.detach())))
    return arrays(net), losses


def alone() -> tuple[Arrays, list[float]]:
    return train(ALONE, ALONE.sum_gradients)


def real_batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The first of the bundled digits, normalised."""
    facts = DATASETS["digits"]
    split = load_digits(locate(experiment(), None)).train
    images = torch.from_numpy(split.images[:REAL_BATCH]).to(dtype) / 255
    return (images - facts.mean[0]) / facts.std[0], torch.from_numpy(split.labels[:REAL_BATCH])


def lenet(group: Alone, dtype: torch.dtype, sum_gradients: Callable[[nn.Module], None]) -> Arrays:
    """Parameters of LeNet with deconvolution after one step, at the learning rate of its experiments."""
    asked = Experiment.from_name("lenet_nd_1_digits")
    net = build(asked).to(dtype)
    group.connect(net)
    optimizer = SGD(net, asked.momentum, asked.weight_decay)
    images, labels = real_batch(dtype)
    rows = group.share.of(0, REAL_BATCH)
    group.begin_batch(REAL_BATCH)
    mean_loss(net(images[rows]), labels[rows], REAL_BATCH).backward()
    sum_gradients(net)
    optimizer.step(asked.learning_rate)
    return {name: tensor.detach().numpy().copy() for name, tensor in net.named_parameters()}


def own_statistics() -> Arrays:
    """What statistics of each process come to, computed in one: a network for each share, gradients added."""
    shares = [Share(0, 2).of(0, BATCH), Share(1, 2).of(0, BATCH)]
    nets = [network(), network()]
    optimizers = [SGD(net, 0.9, 1e-3) for net in nets]
    for step, (images, labels) in enumerate(batches()):
        for net, rows in zip(nets, shares, strict=True):
            net.zero_grad()
            Dropouts(net, experiment()).seed(step)
            # masks are the whole batch's
            net.dropout.together = type("Place", (), {"before": rows.start, "images": BATCH})()
            mean_loss(net(images[rows]), labels[rows], BATCH).backward()
        for mine, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            if mine.grad is not None:
                mine.grad = mine.grad + other.grad
                other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step(0.05)
        for mine, other in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
            other.copy_(mine)
    return arrays(nets[0])


def arrays(net: nn.Module) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in state_tensors(net).items()}


def main(out: Path) -> None:
    group = process_group.join(experiment("global", 2), torch.device("cpu"))
    assert isinstance(group, process_group.Several)
    found: Arrays = {}
    for case in CASES:
        one = copy.copy(group)
        one._statistics = case.split()[0].replace("fast", "global")
        averaged = one.sum_gradients if "averaging" not in case else ALONE.sum_gradients
        if "sums" in case:
            one.total = partial(own_gradient_only, one)  # type: ignore[method-assign]
        state, losses = train(one, averaged, fast=case == "fast")
        found.update({f"{case}/{name}": array for name, array in state.items()})
        found[f"{case}/losses"] = np.array(losses)
        parted = ""
        try:
            one.check_same(load(state))
        except Exception as error:
            parted = str(error)
        found[f"{case}/parted"] = np.array(parted)
    for precision, dtype in PRECISIONS.items():
        for case, summed in (("lenet", group.sum_gradients), ("lenet without averaging", ALONE.sum_gradients)):
            state = lenet(group, dtype, summed)
            found.update({f"{case} {precision}/{name}": array for name, array in state.items()})
    if group.rank == 0:
        np.savez(out, **found)
    group.close()


def own_gradient_only(group: Alone, x: torch.Tensor) -> torch.Tensor:
    """The sum over the processes, with the gradient of this one's term alone."""
    return x + (group.sum(x.detach().clone()) - x.detach())


def load(state: Arrays) -> nn.Module:
    net = network()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return net


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
