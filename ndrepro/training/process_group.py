"""One run by several processes, each with a share of every batch: the same run as by one process, but for rounding.

A process learns its place from the variables that ``torchrun`` sets, and that ``ndrepro run`` sets in the same way:

    RANK, WORLD_SIZE                    which process, of how many
    LOCAL_RANK                          which on this machine: the number of its GPU
    MASTER_ADDR, MASTER_PORT            where they meet

Processes talk by NCCL on GPUs and by gloo on CPUs. Every process draws the same first weights and the same order, and
computes its rows of each batch. Then

1. losses are divided by the images of the whole batch, and gradients summed over the processes, so that their sum is
   the gradient of one process on the whole batch, also where the shares are not equally large;
2. with statistics "global", batch norm and deconvolution take mean and covariance over all processes, with gradients
   through the sums (``layers.together``); with "process" each takes its own share's, and the running statistics of
   rank 0 are copied to all after every step, as torch's DistributedDataParallel does before it;
3. every process takes the same optimizer step on the same numbers. After every epoch they compare their weights, bit
   for bit, and stop with an error where they have diverged.

Processes stop together: whether one was asked to is agreed on after every step. Only rank 0 writes the run's files.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ndrepro.protocol.errors import DataError, DeviceError, NdreproError, PeerLost
from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.compute.determinism import choose_device
from ndrepro.training.compute.fingerprint import fingerprints_of
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.dropout import StreamDropout
from ndrepro.training.layers.global_batch_norm import GlobalBatchNorm2d, globalised
from ndrepro.training.layers.rewrite import exchange

# a million photographs are digested by one process while the others wait; a dead process is noticed by its parent
_PATIENCE = timedelta(hours=12)
_BUCKET_NUMBERS = 16 * 1024 * 1024
# a network's hashes in decimal digits have a hundredth of it
_DOCUMENT_BYTES = 1 << 24
_STRANGER = "see who else can reach this machine's ports: processes of one run trust each other"


class Alone:
    """The one process of a run: everything that several would have to agree on is as it is here."""

    share = Share()
    local_rank = 0
    before = 0
    images = 0

    @property
    def rank(self) -> int:
        """Which process this is; rank 0 writes."""
        return self.share.rank

    def connect(self, net: nn.Module) -> None:
        """Have the network's layers look at the whole batch where they should."""

    def begin_batch(self, images: int) -> None:
        """A batch of so many images, in all processes together, is next."""

    def sum_gradients(self, net: nn.Module) -> None:
        """Make every parameter's gradient the sum over the processes."""

    def end_step(self, net: nn.Module) -> None:
        """After the optimizer's step."""

    def sum(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over the processes, no gradient; in place where there are several."""
        return x

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag: whether it is up in any process."""
        return flags

    def places(self, device: torch.device) -> dict[str, Any]:
        """Where each of several processes is, and how they talk, for the record; nothing of one alone."""
        return {}

    def check_data(self, experiment: Experiment, described: Mapping[str, Any]) -> None:
        """Raises DataError where processes read other data, or one of them would have no image of the last batch."""

    def check_same(self, net: nn.Module) -> None:
        """Raises NdreproError if the processes' parameters are not the same bits."""

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """The result of ``work``: done by the first process of each machine, and by the others when that is over."""
        return work()

    def close(self) -> None:
        """Part from the other processes."""


ALONE = Alone()


class Several(Alone):
    """This process among several; see above. Raises PeerLost wherever another one is gone."""

    def __init__(self, share: Share, local_rank: int, statistics: str, device: torch.device) -> None:
        self.share = share
        self.local_rank = local_rank
        self._statistics = statistics
        self._device = device
        on_gpu = device.type == "cuda"
        self.backend = "nccl" if on_gpu else "gloo"
        _tell_lost(lambda: torch.distributed.init_process_group(self.backend, timeout=_PATIENCE))
        # flags and documents are the hosts' affair, and must not wait for a GPU
        self._hosts = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE) if on_gpu else None

    def connect(self, net: nn.Module) -> None:
        """See ``Alone``. Batch norms become ``GlobalBatchNorm2d`` with the same parameters under the same names."""
        _put_in(net, self, statistics=self._statistics == "global")

    def begin_batch(self, images: int) -> None:
        """See ``Alone``."""
        self.images = images
        self.before = self.share.of(0, images).start

    def total(self, x: Tensor) -> Tensor:
        """The sum of ``x`` over the processes, differentiable (``layers.together``)."""
        result: Tensor = _Total.apply(x, self)
        return result

    def sum_gradients(self, net: nn.Module) -> None:
        """See ``Alone``; parameters that no process has used have none."""
        for bucket in _buckets([each.grad for each in net.parameters() if each.grad is not None]):
            self._together(bucket, self.sum)

    def end_step(self, net: nn.Module) -> None:
        """With statistics of each process, the running statistics become those of rank 0."""
        if self._statistics == "global":
            return
        floating = [each for each in net.buffers() if each.is_floating_point()]
        for bucket in _buckets(floating):
            self._together(bucket, self._from_first)

    def sum(self, x: Tensor) -> Tensor:
        """See ``Alone``."""
        _tell_lost(lambda: torch.distributed.all_reduce(x, group=self._group(x)))
        return x

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """See ``Alone``."""
        up = torch.tensor(flags, dtype=torch.int32)
        _tell_lost(lambda: torch.distributed.all_reduce(up, torch.distributed.ReduceOp.MAX, group=self._hosts))
        return tuple(bool(each) for each in up.tolist())

    def places(self, device: torch.device) -> dict[str, Any]:
        """See ``Alone``."""
        here = {
            "rank": self.rank,
            "local_rank": self.local_rank,
            "hostname": socket.gethostname(),
            # a scheduler's name of the machine, where it gave it
            **({"slurm_node": node} if (node := os.environ.get("SLURMD_NODENAME")) else {}),
            "pid": os.getpid(),
            "device": str(device),
            "gpu": _gpu(device) if device.type == "cuda" else {"none": "it computes on the CPU"},
        }
        return {"processes": {"backend": self.backend, "ranks": self._gather(here)}}

    def check_data(self, experiment: Experiment, described: Mapping[str, Any]) -> None:
        """See ``Alone``."""
        trees = self._gather(described["tree_sha256"])
        if len(set(trees)) > 1:
            other = next(rank for rank, tree in enumerate(trees) if tree != trees[0])
            raise DataError(f"process {other} found other data than process 0", "give every machine the same files")
        split_sizes.check_last_batch(experiment, described["train_images"])

    def _gather(self, document: Any) -> list[Any]:
        """Every process's document, by rank: as JSON, since whoever reaches the port may be one of them.

        What torch itself sends as an object is unpickled where it arrives. Raises PeerLost for what is no document.
        """
        data = torch.frombuffer(bytearray(json.dumps(document).encode()), dtype=torch.uint8)
        lengths = [int(each) for each in self._each(torch.tensor([len(data)]))]
        if not all(0 < length <= _DOCUMENT_BYTES for length in lengths):
            raise PeerLost(f"another process of this run sent a document of {max(lengths)} bytes", _STRANGER)
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(data)] = data
        try:
            return [
                json.loads(bytes(each[:length].tolist()))
                for each, length in zip(self._each(padded), lengths, strict=True)
            ]
        except (ValueError, RecursionError):
            raise PeerLost("another process of this run sent what is no document", _STRANGER) from None

    def _each(self, x: Tensor) -> list[Tensor]:
        """``x`` of every process, by rank; of one shape and type everywhere."""
        found = [torch.empty_like(x) for _ in range(self.share.size)]
        _tell_lost(lambda: torch.distributed.all_gather(found, x, group=self._hosts))
        return found

    def check_same(self, net: nn.Module) -> None:
        """See ``Alone``."""
        names = [name for name, _ in net.named_parameters()]
        here = fingerprints_of(dict(net.named_parameters())).compute().cpu()
        everywhere = self._gather(here.tolist())
        parted = [name for name, *bits in zip(names, *everywhere, strict=True) if len(set(bits)) > 1]
        if parted:
            raise NdreproError(
                f"the {self.share.size} processes have different weights in {', '.join(parted[:4])}",
                "their machines or GPUs compute differently, or a memory is faulty; use equal ones",
            )

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """See ``Alone``."""
        done = work() if self.local_rank == 0 else None
        self.any(False)
        return done if self.local_rank == 0 else work()

    def close(self) -> None:
        """See ``Alone``."""
        self.any(False)
        torch.distributed.destroy_process_group()

    def _group(self, x: Tensor) -> Any:
        return self._hosts if x.device.type == "cpu" else None

    def _from_first(self, x: Tensor) -> Tensor:
        _tell_lost(lambda: torch.distributed.broadcast(x, 0, group=self._group(x)))
        return x

    def _together(self, tensors: list[Tensor], combine: Callable[[Tensor], Tensor]) -> None:
        """``combine`` of several tensors in one message, in place."""
        with torch.no_grad():
            flat = combine(torch.cat([each.reshape(-1) for each in tensors]))
            parts = flat.split([each.numel() for each in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


_LOOKING_AT_BATCHES = (Deconv2d, Delinear, GlobalBatchNorm2d)


class _Total(torch.autograd.Function):
    """A sum over processes in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Several) -> Tensor:
        ctx.group = group
        return group.sum(x.contiguous().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradient.contiguous().clone()), None


def join(experiment: Experiment, device: torch.device) -> Alone:
    """The processes of this run, met. Raises NdreproError where there are not as many as the experiment says."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != experiment.processes:
        raise NdreproError(
            f"WORLD_SIZE={size}, expected the experiment's processes={experiment.processes}",
            "start runs with `ndrepro run`, which sets it, or torchrun with as many processes",
        )
    if size == 1:
        return ALONE
    share = Share(int(os.environ["RANK"]), size)
    return Several(share, local_rank(), experiment.statistics, device)


def local_rank() -> int:
    """Which process this is on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def own_device(experiment: Experiment) -> torch.device:
    """This process's own device. Raises DeviceError as ``choose_device``, and for more processes than GPUs."""
    device = choose_device(experiment)
    if experiment.processes == 1 or device.type != "cuda":
        return device
    if local_rank() >= torch.cuda.device_count():
        raise DeviceError(
            f"processes={experiment.processes}: torch sees {torch.cuda.device_count()} GPUs here",
            "choose as many processes as GPUs, or --device cpu",
        )
    own = torch.device("cuda", local_rank())
    torch.cuda.set_device(own)
    return own


def _gpu(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "uuid": str(getattr(properties, "uuid", "")) or {"unavailable": "this torch does not say"},
    }


def _put_in(net: nn.Module, group: Several, *, statistics: bool) -> None:
    if statistics:
        globalise = cache(globalised)  # a layer that stands in several places stays one
        exchange(net, lambda child: globalise(child) if type(child) is nn.BatchNorm2d else None)
    for layer in net.modules():
        # masks are the whole batch's in any case
        if isinstance(layer, StreamDropout) or (statistics and isinstance(layer, _LOOKING_AT_BATCHES)):
            layer.together = group
        elif statistics and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise NdreproError(f"statistics=global: {type(layer).__name__} is not known", "use statistics=process")


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """The tensors in their order, some million numbers together, each bucket of one dtype."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(each.numel() for each in bucket) + tensor.numel() > _BUCKET_NUMBERS
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def _tell_lost(communicate: Callable[[], Any]) -> None:
    """``communicate``, whose failure means that another process is gone. Raises PeerLost."""
    try:
        communicate()
    except RuntimeError as error:
        raise PeerLost(f"another process of this run cannot be reached ({str(error).splitlines()[0][:200]})") from error
