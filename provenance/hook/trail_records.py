"""Writes the numerical trail of a process, a record for every K-th step, as ``provenance.formats.trail`` reads it.

A file has a fixed list of tensors. Where the tensors to follow become others (another optimizer takes its first step,
parameters are added) the next file begins, with the state before that step. The loss of a record is the sum, in double
precision, of the scalars on which ``backward`` was called since the record before; 0 where there was none.
"""

from __future__ import annotations

import ctypes
import os
import struct
import typing
from contextlib import ExitStack

from ..formats.trail_header import TensorName, encode_header, float_bits
from .followed_tensors import FollowedTensor, followed_tensors
from .process_file import ProcessFile, append
from .tensor_hashes import TensorHashes

# records whose numbers wait on a device are fetched together
_WAITING = 16
_FILES, _BYTES = 1000, 1 << 32
_FLOATS = {"torch.float64": "<d", "torch.float32": "<f", "torch.bfloat16": "<f", "torch.float16": "<e"}


class TrailRecords:
    """The trail of one process, ``every`` steps a record."""

    def __init__(self, torch: typing.Any, process: ProcessFile, every: int) -> None:
        self._torch, self._process, self._every = torch, process, every
        self._hashes: TensorHashes | None = None  # made at the first step: it needs numpy
        self._followed: list[FollowedTensor] = []
        self._trained: tuple[tuple[int, int], ...] = ()
        self._header = b""
        self._files = self._written = 0
        self._loss: typing.Any = 0.0
        self._waiting: list[tuple[int, typing.Any, list[typing.Any]]] = []

    def note_losses(self, tensors: typing.Iterable[typing.Any]) -> None:
        """Add the scalars among tensors on which ``backward`` is called to the loss of the next record."""
        with self._unseen():
            for tensor in tensors:
                tensor = getattr(tensor, "_local_tensor", tensor)
                if tensor.numel() != 1 or tensor.layout is not self._torch.strided:
                    continue
                if tensor.device.type == "cpu":
                    self._loss = self._loss + self._number(tensor)
                else:
                    self._loss = tensor.detach().reshape(()).to(self._torch.float64) + self._loss

    def before_step(self, step: int, optimizers: list[typing.Any]) -> None:
        """Find the tensors to follow where they may have become others; ``step`` steps have been taken."""
        alive = [each for each in optimizers if each is not None]
        trained = tuple((id(each), sum(len(group["params"]) for group in each.param_groups)) for each in alive)
        if trained == self._trained:
            return
        self._trained = trained
        if self._hashes is None:
            self._hashes = TensorHashes(self._torch)
        with self._unseen():
            self._followed = followed_tensors(self._torch, alive)
            self._leave_out_unreadable(self._hashes)
            header = encode_header([_named(each) for each in self._followed], self._every)
            if header == self._header:
                return
            self.flush()
            self._header = header
            if self._files >= _FILES:
                raise RuntimeError(f"the tensors to follow became others {_FILES} times")
            append(self._path(self._files), header, anew=True)
            self._files += 1
            loss, self._loss = self._loss, 0.0
            self._record(step)
            self._loss = loss

    def after_step(self, step: int) -> None:
        """Record the state after ``step`` steps, where its turn has come."""
        if step % self._every == 0:
            with self._unseen():
                self._record(step)

    def flush(self) -> None:
        """Write the records that wait for a device."""
        waiting, self._waiting = self._waiting, []
        for step, loss, hashes in waiting:
            device = next((each for each in hashes if not isinstance(each, int)), None)
            if device is not None:
                fetched = self._torch.stack([each for each in hashes if not isinstance(each, int)]).cpu().tolist()
                hashes = [each if isinstance(each, int) else fetched.pop(0) for each in hashes]
            bits = float_bits(float(loss))
            self._write([step, bits, *(each & 0xFFFFFFFFFFFFFFFF for each in hashes)])

    def _leave_out_unreadable(self, hashes: TensorHashes) -> None:
        readable = [each for each in self._followed if hashes.readable(each.tensor())]
        if len(readable) < len(self._followed):
            missing = [each.name for each in self._followed if each not in readable]
            self._process.note("trail", f"{len(missing)} tensors have no bytes to hash: {', '.join(missing[:3])}")
            self._followed = readable

    def _record(self, step: int) -> None:
        assert self._hashes is not None
        hashes = self._hashes.compute([each.tensor() for each in self._followed])
        loss, self._loss = self._loss, 0.0
        self._waiting.append((step, loss, hashes))
        on_host = isinstance(loss, float) and all(isinstance(each, int) for each in hashes)
        if on_host or len(self._waiting) >= _WAITING:
            self.flush()

    def _write(self, numbers: list[int]) -> None:
        content = struct.pack(f"<{len(numbers)}Q", *numbers)
        self._written += len(content)
        if self._written > _BYTES:
            raise RuntimeError(f"it has {_BYTES >> 30} GiB")
        append(self._path(self._files - 1), content)

    def _path(self, number: int) -> str:
        return os.path.join(self._process.folder, f"trail-{self._process.stem}-{number}.bin")

    def _number(self, tensor: typing.Any) -> float:
        """The value of a scalar in the CPU's memory."""
        layout = _FLOATS.get(str(tensor.dtype))
        if layout is None:
            return float(tensor.detach().item())
        content = ctypes.string_at(tensor.data_ptr(), tensor.element_size())
        # bfloat16 is the upper half of a float32
        return float(struct.unpack(layout, content.rjust(struct.calcsize(layout), b"\0"))[0])

    def _unseen(self) -> ExitStack:
        """Inside, torch neither differentiates nor calls the program's modes and subclasses for what is done here."""
        stack = ExitStack()
        c = self._torch._C
        for name in ("DisableTorchFunction", "_DisableTorchDispatch"):
            kind: typing.Any = getattr(c, name, None)
            if hasattr(kind, "__exit__"):
                stack.enter_context(kind())
            elif kind is not None:
                # before torch 2.1 it guards from its making to its deletion
                held = [kind()]
                stack.callback(held.clear)
        stack.enter_context(self._torch.no_grad())
        return stack


def _named(followed: FollowedTensor) -> TensorName:
    tensor = followed.tensor()
    return TensorName(followed.name, tuple(map(int, tensor.shape)), str(tensor.dtype).replace("torch.", ""))
