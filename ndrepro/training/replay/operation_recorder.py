"""Watches one training step operation by operation, forward and backward, without changing a bit of it.

torch shows every operation that reaches its kernels to a ``TorchDispatchMode``, in the backward pass too. To which
module and stage a forward operation belongs is known from hooks on the modules (``layers.stages`` in a deconvolution);
a backward one belongs to the node of autograd's graph that is computed, and the node to the module in whose forward
pass it was made. So an addition between two modules is found as their parent's.

Of every tensor that an operation gives, or changes in place, the fingerprint is kept, not the tensor: memory stays as
it was. The tensors of one operation are written when they are asked for, in a second replay. What computes nothing is
left out: views, and memory that is not yet filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ndrepro.protocol.replay_messages import BACKWARD, BATCH, FORWARD, LOSS, OPTIMIZER, Operation, TensorBits
from ndrepro.training.compute import torch_compat
from ndrepro.training.compute.fingerprint import fingerprints_of
from ndrepro.training.layers.stages import watching
from ndrepro.training.optimizer import SGD

_DONE = "done"
_UNFILLED = ("aten.empty", "aten.new_empty", "aten.resize_")
_SUM = "sum of gradients"
_LONGEST_ARGUMENTS = 240


@dataclass
class _Seen:
    """An operation, until it is known what it belongs to."""

    part: str
    path: str
    kind: str
    name: str
    arguments: str
    tensors: tuple[str, ...]
    outputs: list[tuple[tuple[int, ...], str, Tensor]]
    stage: str = ""
    node: str = ""


@dataclass
class Captured:
    """The tensors of one operation, on the host: what it took, before it ran, and what it gave."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


class StepObserver(TorchDispatchMode):
    """Watches from ``open`` to ``close``. ``wanted`` is the number of the operation whose tensors are kept."""

    def __init__(self, net: nn.Module, optimizer: SGD, wanted: int = -1) -> None:
        super().__init__()
        self._net = net
        self._optimizer = optimizer
        self._wanted = wanted
        self.captured: Captured | None = None
        self._names = {id(tensor): name for name, tensor in net.state_dict(keep_vars=True).items()}
        self._names.update({id(buffer): f"momentum of {name}" for name, buffer in optimizer.momentum_buffers.items()})
        self._part = BATCH
        self._modules: list[tuple[str, nn.Module]] = []
        self._marks: list[int] = []  # where each open module's present stage begins
        self._seen: list[_Seen] = []
        self._backward_from = 0  # operations from here on wait for their node to end
        self._nodes: dict[int, Any] = {}
        self._paused = False
        self._stack = ExitStack()

    def open(self) -> None:
        """Begin to watch: the next operation is the first."""
        for path, module in self._net.named_modules():
            self._stack.callback(module.register_forward_pre_hook(self._entering(path)).remove)
            self._stack.callback(module.register_forward_hook(self._leaving()).remove)
        self._stack.enter_context(watching(self._stage_done))
        self._stack.enter_context(self._backward_seen())
        self._stack.enter_context(self._optimizer_seen())
        self._stack.enter_context(self)

    def close(self) -> None:
        """Stop watching; the network, the optimizer and torch are as they were."""
        self._stack.close()
        self._nodes.clear()

    def operations(self) -> tuple[Operation, ...]:
        """Everything that was seen, in its order."""
        bits = iter(_hexadecimal([output[2] for seen in self._seen for output in seen.outputs]))
        return tuple(
            Operation(
                part=seen.part,
                path=seen.path,
                kind=seen.kind,
                stage=seen.stage,
                name=seen.name,
                node=seen.node,
                arguments=seen.arguments,
                tensors=seen.tensors,
                outputs=tuple(TensorBits(shape, dtype, next(bits)) for shape, dtype, _ in seen.outputs),
            )
            for seen in self._seen
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and note it."""
        kwargs = kwargs or {}
        if self._paused or self._part == _DONE:
            return func(*args, **kwargs)
        inputs = list(_tensors((args, kwargs)))
        kept = [_on_host(tensor) for tensor in inputs] if len(self._seen) == self._wanted else []
        result = func(*args, **kwargs)
        name = ".".join(str(func).split(".")[:2])
        outputs = _computed(name, inputs, list(_tensors(result)))
        if outputs and not name.startswith(_UNFILLED):
            if len(self._seen) == self._wanted:
                self.captured = Captured(kept, [_on_host(tensor) for tensor in outputs])
            self._note(name, inputs, outputs, _as_text(args, kwargs))
        return result

    def _note(self, name: str, inputs: list[Tensor], outputs: list[Tensor], arguments: str) -> None:
        path, module = self._modules[-1] if self._modules else ("", None)
        names = dict.fromkeys(self._names[id(each)] for each in (*inputs, *outputs) if id(each) in self._names)
        kept = [(tuple(each.shape), str(each.dtype).replace("torch.", ""), fingerprint_of(each)) for each in outputs]
        kind = type(module).__name__ if module is not None else ""
        self._seen.append(_Seen(self._part, path, kind, name, arguments, tuple(names), kept))

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            # what was made between the modules is their parent's
            self._belong(_tensors(inputs), "")
            if module is self._net:
                self._part = FORWARD
            self._modules.append((path, module))
            self._marks.append(len(self._seen))

        return hook

    def _leaving(self) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._note_statistics(module)
            self._belong(_tensors(output), "")
            self._modules.pop()
            self._marks.pop()
            if module is self._net:
                self._part = LOSS

        return hook

    def _note_statistics(self, module: nn.Module) -> None:
        """A module's own buffers as it leaves them: some operations change them without giving them back."""
        buffers = [buffer for buffer in module.buffers(recurse=False) if buffer.numel()]
        if not buffers:
            return
        self._paused = True
        try:
            if len(self._seen) == self._wanted:
                self.captured = Captured([], [_on_host(buffer) for buffer in buffers])
            self._note("buffers", [], buffers, "")
        finally:
            self._paused = False

    def _stage_done(self, stage: str, results: tuple[Tensor, ...]) -> None:
        if not self._modules:
            return
        path = self._modules[-1][0]
        for seen in self._seen[self._marks[-1] :]:
            if seen.path == path and not seen.stage:
                seen.stage = stage
        self._belong(results, stage)
        self._marks[-1] = len(self._seen)

    def _belong(self, results: Iterable[Tensor], stage: str) -> None:
        """Autograd's nodes behind ``results`` that are not yet known belong to the present module and stage."""
        path, module = self._modules[-1] if self._modules else ("", None)
        kind = type(module).__name__ if module is not None else ""
        waiting: list[Any] = [tensor.grad_fn for tensor in results if tensor.grad_fn is not None]
        while waiting:
            node = waiting.pop()
            if node is None or id(node) in self._nodes:
                continue
            self._nodes[id(node)] = node  # held, so that no other node takes its identity
            waiting.extend(function for function, _ in node.next_functions)
            place = self._place_of(node, path, kind, stage)
            self._stack.callback(node.register_hook(self._node_done(node.name(), *place)).remove)

    def _place_of(self, node: Any, path: str, kind: str, stage: str) -> tuple[str, str, str]:
        """Path, kind and stage of a node; that of a parameter's gradient is the parameter's own module."""
        variable = getattr(node, "variable", None)
        name = self._names.get(id(variable))
        if name is None:
            return path, kind, stage
        owner = name.rpartition(".")[0]
        return owner, type(self._net.get_submodule(owner)).__name__, f"gradient of {name.rpartition('.')[2]}"

    def _node_done(self, node: str, path: str, kind: str, stage: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            adding = True
            for seen in self._seen[self._backward_from :]:
                # gradients that meet are added before the node that takes them is computed
                adding = adding and seen.name in ("aten.add", "aten.add_")
                seen.path, seen.kind = path, kind
                seen.stage, seen.node = (_SUM, "") if adding else (stage, node)
            self._backward_from = len(self._seen)

        return hook

    @contextmanager
    def _backward_seen(self) -> Iterator[None]:
        plain = torch.Tensor.backward

        def backward(tensor: Tensor, *args: Any, **kwargs: Any) -> None:
            self._belong([tensor], "loss")
            self._part, self._backward_from = BACKWARD, len(self._seen)
            plain(tensor, *args, **kwargs)
            self._part = OPTIMIZER

        torch.Tensor.backward = backward  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            torch.Tensor.backward = plain  # type: ignore[method-assign]

    @contextmanager
    def _optimizer_seen(self) -> Iterator[None]:
        optimizer: Any = self._optimizer
        plain = optimizer.step

        def step(*args: Any, **kwargs: Any) -> Any:
            self._part = OPTIMIZER
            result = plain(*args, **kwargs)
            self._part = _DONE
            return result

        optimizer.step = step
        try:
            yield
        finally:
            del optimizer.step


def fingerprint_of(tensor: Tensor) -> Tensor:
    """The fingerprint of one tensor's bits as int64 (), on the tensor's own device where it can be computed there."""
    plain = tensor.detach().contiguous()
    if plain.device.type != "cpu" and (not plain.numel() or plain.element_size() % 4):
        plain = plain.cpu()
    return fingerprints_of({"": plain}).compute()[0]


def bits_of(tensors: dict[str, Tensor]) -> dict[str, TensorBits]:
    """Shape, dtype and fingerprint of every tensor, by name."""
    bits = _hexadecimal([fingerprint_of(tensor) for tensor in tensors.values()])
    return {
        name: TensorBits(tuple(tensor.shape), str(tensor.dtype).replace("torch.", ""), one)
        for (name, tensor), one in zip(tensors.items(), bits, strict=True)
    }


def as_array(tensor: Tensor) -> np.ndarray:
    """A copy of the tensor for numpy; one of a dtype that numpy lacks as whole numbers of the same bits."""
    plain = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    return plain.numpy()


def _hexadecimal(fingerprints: list[Tensor]) -> list[str]:
    """Sixteen digits each; fetched from the device together."""
    if not fingerprints:
        return []
    places = {each.device for each in fingerprints}
    values: dict[int, int] = {}
    for place in places:
        mine = [(index, each) for index, each in enumerate(fingerprints) if each.device == place]
        together = torch.stack([each for _, each in mine]).cpu().numpy().view(np.uint64)
        values.update({index: int(value) for (index, _), value in zip(mine, together, strict=True)})
    return [f"{values[index]:016x}" for index in range(len(fingerprints))]


def _computed(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
    """The outputs that the operation computed: a view of an input is none, an input changed in place is one."""
    in_place = name.endswith("_") and not name.endswith("__")
    if in_place or name.startswith("aten._foreach"):
        return outputs
    memory = {torch_compat.memory_of(tensor) for tensor in inputs}
    return [tensor for tensor in outputs if not tensor.numel() or torch_compat.memory_of(tensor) not in memory]


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().cpu()


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)


def _as_text(args: Any, kwargs: Any) -> str:
    """Arguments that are no tensors; a tensor as a dot."""

    def told(value: Any) -> str:
        if isinstance(value, Tensor):
            return "."
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(told, value))}]"
        return repr(value)

    words = [told(value) for value in args] + [f"{key}={told(value)}" for key, value in kwargs.items()]
    return ", ".join(words)[:_LONGEST_ARGUMENTS]
