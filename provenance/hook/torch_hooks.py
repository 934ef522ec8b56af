"""Follows the optimizers of a program that imported torch: the numerical trail, and what torch was set to.

Optimizers are followed by the hooks that torch calls around every ``step`` (torch 2.0 and later; of 1.13 the wrapper in
which torch itself puts every optimizer's ``step``), losses in ``torch.autograd.backward``, which ``Tensor.backward``
calls. Nothing of torch is asked while it traces or compiles, or while a CUDA graph is captured: steps that are only
part of a compiled graph or of a replayed one leave no record.

A step is that of the outermost optimizer, where one calls another. Steps count over all optimizers of the process.
"""

from __future__ import annotations

import functools
import sys
import typing
import weakref

from .process_file import ProcessFile
from .random_states import random_states
from .torch_state import loaders, seeds, torch_flags
from .trail_records import TrailRecords

_OFF, _EVERY = "off", "every="


class TorchObserver:
    """What follows torch in one process.

    Args:
        torch: the module, as the program imported it.
        process: where ``torch`` facts go.
        trail: ``auto``, ``off`` or ``every=K``.
    """

    def __init__(self, torch: typing.Any, process: ProcessFile, trail: str) -> None:
        self._torch = torch
        self._every = 0 if trail == _OFF else int(trail[len(_EVERY) :]) if trail.startswith(_EVERY) else 1
        compiler = getattr(torch, "compiler", None)
        self._is_compiling = getattr(compiler, "is_compiling", None) or _never
        self.restart(process)

    def restart(self, process: ProcessFile) -> None:
        """Begin anew, in a process that was forked."""
        self._process = process
        self._steps = self._backwards = 0
        self._optimizers: list[typing.Any] = []  # weak references, in order of first steps
        self._facts: dict[str, typing.Any] = {
            "version": str(self._torch.__version__),
            "steps": 0,
            "optimizers": [],
            "moments": [],
            "loaders": [],
        }
        process.torch = self._facts
        self._written = False
        # frames of the optimizers' steps that are under way, by thread
        self._under_way: dict[int, list[typing.Any]] = {}
        self._records = TrailRecords(self._torch, process, self._every) if self._every else None

    def install(self) -> None:
        """Have torch call what follows. Raises AttributeError or KeyError where this torch is laid out otherwise."""
        module: typing.Any = sys.modules["torch.optim.optimizer"]  # torch.optim hides it
        if hasattr(module, "register_optimizer_step_post_hook"):
            module.register_optimizer_step_pre_hook(self._before_step)
            module.register_optimizer_step_post_hook(self._after_step)
        else:
            self._follow_by_wrapper(module.Optimizer)
        if self._every:
            self._follow_backward()
        # no flags: asking for threads would settle their number, which the program may still choose
        self._facts["moments"].append({"name": "import", "flags": {}, "random": random_states(), "seeds": {}})

    def add_first_states(self, states: dict[str, str]) -> None:
        """Take the states that generators had when their modules were imported, before torch's import or after it."""
        for moment in self._facts["moments"]:
            if moment["name"] == "import":
                moment["random"].update(states)

    def finish(self) -> None:
        """Write what waits, and the state of torch at the end."""
        self._facts["steps"] = self._steps
        if self._backwards and not self._steps:
            seen = f"backward was called {self._backwards}x, but no step of a torch.optim.Optimizer was seen"
            self._process.note("trail", f"{seen}: it may be compiled")
        self._facts["moments"] = [each for each in self._facts["moments"] if each["name"] != "exit"]
        self._add_moment("exit")
        if self._records is not None:
            self._records.flush()

    def _follow_by_wrapper(self, optimizer_class: typing.Any) -> None:
        original = optimizer_class._hook_for_profile
        observer = self

        @functools.wraps(original)
        def hook_for_profile(self: typing.Any) -> None:
            original(self)
            step = type(self).step
            if not getattr(step, "followed", False):
                type(self).step = observer._wrapped(step)

        optimizer_class._hook_for_profile = hook_for_profile

    def _wrapped(self, step: typing.Any) -> typing.Any:
        @functools.wraps(step)
        def wrapper(optimizer: typing.Any, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:
            self._before_step(optimizer)
            result = step(optimizer, *args, **kwargs)
            self._after_step(optimizer)
            return result

        wrapper.followed = True  # type: ignore[attr-defined]
        return wrapper

    def _follow_backward(self) -> None:
        autograd = self._torch.autograd
        original = autograd.backward
        is_compiling, note = self._is_compiling, self._note_losses

        @functools.wraps(original)
        def backward(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
            if not is_compiling():
                note(args, kwargs)
            return original(*args, **kwargs)

        autograd.backward = backward

    def _is_capturing(self) -> bool:
        """Whether a CUDA graph is captured now; a machine without a driver cannot be asked."""
        return bool(self._torch.cuda.is_initialized() and self._torch.cuda.is_current_stream_capturing())

    def _note_losses(self, args: typing.Any, kwargs: typing.Any) -> None:
        records = self._records
        if records is None:
            return
        try:
            if self._is_capturing():
                return
            self._backwards += 1
            named = dict(zip(("tensors", "grad_tensors"), args))
            named.update(kwargs)
            tensors, weights = named.get("tensors"), named.get("grad_tensors")
            if weights is None:
                records.note_losses(tensors if isinstance(tensors, (tuple, list)) else (tensors,))
        except Exception as error:
            self._stop("the loss", error)

    def _before_step(self, optimizer: typing.Any, args: object = None, kwargs: object = None) -> None:
        if self._is_compiling():
            return
        try:
            frame = sys._getframe(1)
            under_way = self._under_way.setdefault(_thread(), [])
            if under_way:
                # a step that raised never ended
                callers = _callers(frame)
                under_way[:] = [each for each in under_way if id(each) in callers]
            under_way.append(frame)
            if len(under_way) == 1:
                self._enter(optimizer)
        except Exception as error:
            self._stop("the step's beginning", error)

    def _after_step(self, optimizer: typing.Any, args: object = None, kwargs: object = None) -> None:
        if self._is_compiling():
            return
        try:
            frame = sys._getframe(1)
            under_way = self._under_way.get(_thread(), [])
            outermost = bool(under_way) and under_way[0] is frame
            if frame in under_way:
                del under_way[under_way.index(frame) :]
            if outermost:
                self._steps += 1
                if self._records is not None and not self._is_capturing():
                    self._records.after_step(self._steps)
        except Exception as error:
            self._stop("the step's end", error)

    def _enter(self, optimizer: typing.Any) -> None:
        """Take note of an optimizer's first step, and record the state before it."""
        known = [reference() for reference in self._optimizers]
        if not any(each is optimizer for each in known):
            if not self._facts["optimizers"]:
                self._facts["loaders"] = loaders()
                self._add_moment("first step")
            name = type(optimizer).__name__
            if name not in self._facts["optimizers"]:
                self._facts["optimizers"].append(name)
            self._optimizers = [ref for ref, alive in zip(self._optimizers, known) if alive is not None]
            self._optimizers.append(weakref.ref(optimizer))
        if not self._written:
            self._written = True  # a process that is killed leaves its flags
            self._process.write()
        if self._records is not None and not self._is_capturing():
            self._records.before_step(self._steps, [ref() for ref in self._optimizers])

    def _add_moment(self, name: str) -> None:
        torch = self._torch
        self._facts["moments"].append(
            {"name": name, "flags": torch_flags(torch), "random": random_states(), "seeds": seeds(torch)}
        )

    def _stop(self, part: str, error: Exception) -> None:
        """No more records: a trail with a hole would look like another run."""
        self._process.note(f"trail, {part}", error)
        self._records = None


def _never() -> bool:
    return False


def _thread() -> int:
    import _thread

    return _thread.get_ident()


def _callers(frame: typing.Any) -> set[int]:
    found = set()
    while frame is not None:
        found.add(id(frame))
        frame = frame.f_back
    return found
