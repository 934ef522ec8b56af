"""Change the layers of a network all at once, or not at all, and report how each was changed.

A ``Rewrite`` collects what is to happen layer by layer and changes nothing; ``apply`` then changes the network, or
refuses with every reason together. It knows nothing of deconvolution but how to recognise it.

A replacement takes a layer's weight and settings and nothing else. Whatever else a layer carries (a ``forward`` of its
own, hooks, computed or quantized weights) would be lost without a word, so it is refused with a reason (``obstacle``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.training.layers.conversion import Conversion, LayerChange
from ndrepro.training.layers.deconv import Deconv2d, Delinear

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_Layer = TypeVar("_Layer", bound=nn.Module)


def exchange(net: nn.Module, new: Callable[[nn.Module], nn.Module | None]) -> int:
    """Put ``new`` of a child in its place, wherever that is a module; how many places there were."""
    count = 0
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if (other := new(child)) is not None:
                setattr(parent, name, other)
                count += 1
    return count


class Rewrite:
    """What is to become of each layer of ``module``.

    ``keep`` names what stays, with all that is inside, as ``named_modules`` has it, with ``*`` and ``?``. Raises
    UsageError for a name in ``keep`` or ``named`` that matches nothing.
    """

    def __init__(self, module: nn.Module, keep: Sequence[str], named: Sequence[str] = ()) -> None:
        self.module = module
        self.keep = tuple(keep)
        self.names: dict[int, list[str]] = {}
        for name, layer in module.named_modules(remove_duplicate=False):
            self.names.setdefault(id(layer), []).append(name)
        for pattern in (*keep, *named):
            self._check(pattern)
        attentions = [layer for layer in module.modules() if isinstance(layer, nn.MultiheadAttention)]
        self.read_directly = {id(layer) for attention in attentions for layer in attention.modules()}
        self._replacements: dict[int, nn.Module] = {}
        self._changes: dict[str, list[LayerChange]] = {"replaced": [], "removed": [], "left": []}
        self._seen: set[int] = set()
        self._refused: list[str] = []

    def each(self, kind: type[_Layer], *wider: type[nn.Module]) -> Iterator[_Layer]:
        """Every layer of a kind that can be changed; of a wider kind, those that cannot are refused."""
        for layer in self.module.modules():
            if not isinstance(layer, (kind, *wider)):
                continue
            if self.keeps(layer):
                self.leave(layer, "kept, as asked")
            elif (why := obstacle(layer)) is not None or layer is self.module:
                self._refuse(layer, why or "it is the whole network; put it into nn.Sequential")
            elif isinstance(layer, kind):
                yield layer

    def keeps(self, layer: nn.Module) -> bool:
        """Whether the layer, or something that it is part of, is to stay."""
        return any(
            fnmatchcase(whole, pattern)
            for name in self.names[id(layer)]
            for whole in _name_and_owners(name)
            for pattern in self.keep
        )

    def replace(self, layer: nn.Module, new: nn.Module, why: str) -> None:
        """``new`` is to stand wherever ``layer`` stands."""
        self._replacements[id(layer)] = new
        self._note("replaced", layer, new, why)

    def remove(self, layer: nn.Module, why: str) -> None:
        """The layer is to pass on what it gets."""
        self._replacements[id(layer)] = nn.Identity()
        self._note("removed", layer, nn.Identity(), why)

    def leave(self, layer: nn.Module, why: str) -> None:
        """The layer is to stay as it is."""
        self._note("left", layer, layer, why)

    def apply(self, rest: str) -> Conversion:
        """Change the network; layers not spoken of are left because of ``rest``.

        Raises UsageError, and changes nothing, if any layer was refused.
        """
        for layer in self.module.modules():
            if id(layer) not in self._seen:
                self._leave_or_refuse(layer, rest)
        if self._refused:
            raise UsageError(
                f"the network cannot be converted: {'; '.join(self._refused)}",
                "name these layers in keep= to leave them as they are",
            )
        for owner in list(self.module.modules()):
            for name, child in owner._modules.items():
                if id(child) in self._replacements:
                    owner._modules[name] = self._replacements[id(child)]
        out_of_place = self._make_out_of_place() if self._changes["removed"] else ()
        return Conversion(**{key: tuple(each) for key, each in self._changes.items()}, out_of_place=out_of_place)

    def _leave_or_refuse(self, layer: nn.Module, rest: str) -> None:
        has_state = any(True for _ in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)))
        if self.keeps(layer):
            if has_state:
                self.leave(layer, "kept, as asked")
        elif (why := unreadable(layer)) is not None:
            self._refuse(layer, why)
        elif has_state:
            self.leave(layer, "already deconvolved" if isinstance(layer, (Deconv2d, Delinear)) else rest)

    def _make_out_of_place(self) -> tuple[str, ...]:
        changed = [
            (name, layer) for name, layer in self.module.named_modules() if getattr(layer, "inplace", False) is True
        ]
        for _, layer in changed:
            layer.inplace = False
        return tuple(name for name, _ in changed)

    def _note(self, group: str, layer: nn.Module, new: nn.Module, why: str) -> None:
        self._seen.add(id(layer))
        name, *others = self.names[id(layer)]
        shared = f", also used as {', '.join(others)}" if others else ""
        self._changes[group].append(LayerChange(name, type(layer).__name__, type(new).__name__, why + shared))

    def _refuse(self, layer: nn.Module, why: str) -> None:
        self._seen.add(id(layer))
        name = self.names[id(layer)][0] or "the network"
        self._refused.append(f"{name} ({type(layer).__name__}): {why}")

    def _check(self, pattern: str) -> None:
        known = [name for names in self.names.values() for name in names if name]
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"'{pattern}' matches no layer of {type(self.module).__name__}",
                suggestion(pattern, known, "names are those of named_modules()"),
            )


def _name_and_owners(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def obstacle(layer: nn.Module) -> str | None:
    """Why ``layer``, a convolution, linear layer or batch norm, cannot be replaced; ``None`` where it can."""
    if (why := unreadable(layer)) is not None:
        return why
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        return "it is lazy and has no shape yet; pass one batch through the network first"
    if parametrize.is_parametrized(layer):
        return "its weight is computed by a parametrisation; remove that first"
    if any(getattr(layer, hooks, None) for hooks in _HOOKS):
        return "it has hooks, which would be lost; remove them first"
    if isinstance(layer, _ConvNd):
        return _of_convolution(layer)
    if isinstance(layer, _BatchNorm):
        return _own_forward(layer, *_PLAIN_NORMS)
    return _own_forward(layer, nn.Linear)


def unreadable(layer: nn.Module) -> str | None:
    """Why nothing can be told of ``layer``, of whatever kind; ``None`` where it is ordinary."""
    if isinstance(layer, torch.jit.ScriptModule):
        return "it is compiled by TorchScript; convert the network before compiling it"
    if "quantized" in type(layer).__module__.split("."):
        return "its weights are quantized"
    return None


def resolved_padding(convolution: nn.Conv2d) -> tuple[int, int] | None:
    """The padding in pixels, with "valid" and "same" worked out; ``None`` where "same" pads one side more."""
    if isinstance(convolution.padding, tuple):
        return (convolution.padding[0], convolution.padding[1])
    if convolution.padding == "valid":
        return (0, 0)
    totals = [d * (k - 1) for d, k in zip(convolution.dilation, convolution.kernel_size, strict=True)]
    return None if any(total % 2 for total in totals) else (totals[0] // 2, totals[1] // 2)


def _of_convolution(layer: _ConvNd) -> str | None:
    if not isinstance(layer, nn.Conv2d):
        return f"{type(layer).__name__} has no deconvolved form; only Conv2d has"
    if type(layer)._conv_forward is not nn.Conv2d._conv_forward:
        return f"{type(layer).__name__} convolves in its own way"
    if layer.padding_mode != "zeros":
        return f"padding_mode='{layer.padding_mode}', and only 'zeros' is whitened"
    if resolved_padding(layer) is None:
        return f"padding='same' with kernel {layer.kernel_size} pads one side more than the other"
    return _own_forward(layer, nn.Conv2d)


def _own_forward(layer: nn.Module, *plain: type[nn.Module]) -> str | None:
    if any(type(layer).forward is kind.forward for kind in plain if isinstance(layer, kind)):
        return None
    return f"{type(layer).__name__} does more than {plain[0].__name__} (a forward of its own)"
