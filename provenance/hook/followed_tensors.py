"""Which tensors the trail follows, and their names: parameters and buffers of every module that an optimizer trains.

Modules are found among the objects that the garbage collector knows. Of those that are no part of another one, each
that has a parameter of an optimizer is followed whole, with its buffers and frozen parameters. They stand in the order
of the optimizers' parameters, so two runs of one program have the same names in the same order:

    layer1.0.weight               of the only module
    Generator.layer1.0.weight     of several; the second of a class is ``Generator#2``
    SGD.group0.parameter3         of no module

Wrappers are left out of the names (``torch.compile``'s, DataParallel's, checkpointing's), so that a run with one can
be compared with a run without. Only weak references are kept: the program's memory is freed when it expects it.
"""

from __future__ import annotations

import gc
import typing
import weakref

# modules around a network that add nothing but a name
_WRAPPER_CLASSES = ("DistributedDataParallel", "DataParallel", "OptimizedModule", "FullyShardedDataParallel")
_WRAPPER_NAMES = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_LIMIT = 100_000


class FollowedTensor(typing.NamedTuple):
    """A name, and where its tensor is now: a member of a module's dictionary, or an optimizer's own parameter."""

    name: str
    holder: typing.Any  # weak reference to the module, or to the parameter itself
    members: str  # "_parameters", "_buffers", or "" for the parameter itself
    key: str

    def tensor(self) -> typing.Any:
        """The tensor, or ``None`` where there is none any more."""
        holder = self.holder()
        if holder is None or not self.members:
            return holder
        return holder.__dict__[self.members].get(self.key)


def parameters_of(optimizers: list[typing.Any]) -> list[tuple[str, typing.Any]]:
    """Every parameter of the optimizers with the name that it has where no module has it."""
    found = []
    names: dict[str, int] = {}
    for optimizer in optimizers:
        owner = _numbered(type(optimizer).__name__, names)
        for number, group in enumerate(optimizer.param_groups):
            found += [(f"{owner}.group{number}.parameter{index}", each) for index, each in enumerate(group["params"])]
    return found


def followed_tensors(torch: typing.Any, optimizers: list[typing.Any]) -> list[FollowedTensor]:
    """The tensors to follow for these optimizers, each once."""
    parameters = parameters_of(optimizers)
    order = {id(parameter): place for place, (_, parameter) in reversed(list(enumerate(parameters)))}
    roots = _roots(torch, order)
    seen: set[int] = set()
    found: list[FollowedTensor] = []
    names: dict[str, int] = {}
    for root in roots:
        prefix = _numbered(type(root).__name__, names) + "." if len(roots) > 1 else ""
        found += [each for each in _tensors_of(root, prefix) if _first_time(each.tensor(), seen)]
    for name, parameter in parameters:
        if _first_time(parameter, seen):
            found.append(FollowedTensor(name, weakref.ref(parameter), "", ""))
    return found[:_LIMIT]


def _roots(torch: typing.Any, order: dict[int, int]) -> list[typing.Any]:
    """Modules with a parameter in ``order`` that are part of no other, wrappers taken off, by their first parameter."""
    modules = _alive(torch.nn.Module)
    inner = {id(child) for module in modules for child in module.__dict__.get("_modules", {}).values()}
    ranked: list[tuple[int, int, str, int, typing.Any]] = []
    for root in modules:
        if id(root) not in inner:
            root = _unwrapped(root)
            places = [order.get(id(each.tensor()), len(order)) for each in _tensors_of(root, "")]
            first = min(places, default=len(order))
            if first < len(order):
                ranked.append((first, -len(places), type(root).__name__, len(ranked), root))
    ranked.sort(key=lambda item: item[:4])
    seen: set[int] = set()
    # a module that only repeats what others before it have is no root of its own
    return [item[4] for item in ranked if any([_first_time(each.tensor(), seen) for each in _tensors_of(item[4], "")])]


def _alive(module_class: type) -> list[typing.Any]:
    """Every module of the process. By ``type``: ``isinstance`` may run code of the program, a proxy's for example."""
    kinds: dict[type, bool] = {}
    found = []
    for each in gc.get_objects():
        kind = type(each)
        known = kinds.get(kind)
        if known is None:
            known = kinds[kind] = issubclass(kind, module_class)
        if known:
            found.append(each)
    return found


def _unwrapped(root: typing.Any) -> typing.Any:
    while type(root).__name__ in _WRAPPER_CLASSES:
        inner = [child for child in root.__dict__.get("_modules", {}).values() if child is not None]
        if len(inner) != 1:
            break
        root = inner[0]
    return root


def _tensors_of(root: typing.Any, prefix: str) -> typing.Iterator[FollowedTensor]:
    """Every parameter and buffer below a module, each module once, as ``named_parameters`` goes through them."""
    waiting = [(prefix, root)]
    seen = set()
    while waiting:
        prefix, module = waiting.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        holder = weakref.ref(module)
        for members in ("_parameters", "_buffers"):
            for key, tensor in list(module.__dict__.get(members, {}).items()):
                if tensor is not None:
                    yield FollowedTensor(prefix + key, holder, members, key)
        children = [
            (prefix if name in _WRAPPER_NAMES else f"{prefix}{name}.", child)
            for name, child in module.__dict__.get("_modules", {}).items()
        ]
        waiting += reversed(children)


def _first_time(tensor: typing.Any, seen: set[int]) -> bool:
    if tensor is None or id(tensor) in seen:
        return False
    seen.add(id(tensor))
    return True


def _numbered(name: str, names: dict[str, int]) -> str:
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name}#{names[name]}"
