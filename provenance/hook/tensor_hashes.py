"""The trail's hash of tensors where they lie (``provenance.formats.fingerprint``), without touching the program's own.

In the CPU's memory the bytes are read in place, without any operation of torch that a profiler or a mode would see. On
a device they are hashed there, in pieces that bound the memory it takes, and the hashes stay there until they are
asked for: no step waits for the device.
"""

from __future__ import annotations

import ctypes
import typing

from ..formats.fingerprint import BLOCK_WORDS, block_constants, fingerprint, word_constants

# blocks hashed at once on a device: 8 MB of words, four times that of temporaries
_BLOCKS_AT_ONCE = 256


class TensorHashes:
    """Hashes of lists of tensors."""

    def __init__(self, torch: typing.Any) -> None:
        import numpy

        self._torch, self._numpy = torch, numpy
        self._plain = (torch.Tensor, torch.nn.Parameter)
        self._views: dict[tuple[int, int], typing.Any] = {}
        self._constants: dict[typing.Any, typing.Any] = {}

    def compute(self, tensors: list[typing.Any]) -> list[typing.Any]:
        """For each tensor its hash: an ``int``, or an int64 scalar tensor on its device, to be read as unsigned.

        Of what is ``None``, or has no memory of its own to read, it is 0.
        """
        return [0 if tensor is None else self._hash(tensor) for tensor in tensors]

    def readable(self, tensor: typing.Any) -> bool:
        """Whether a tensor has bytes of its own to hash, as a sparse or a foreign one has not."""
        try:
            self._hash(tensor)
        except Exception:
            return False
        return tensor.layout is self._torch.strided and tensor.device.type != "meta"

    def _hash(self, tensor: typing.Any) -> typing.Any:
        tensor = getattr(tensor, "_local_tensor", tensor)  # of a distributed tensor the part that is here
        if tensor.layout is not self._torch.strided or tensor.device.type == "meta":
            return 0
        if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg() or type(tensor) not in self._plain:
            tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        count = tensor.numel() * tensor.element_size()
        if not count:
            return 0
        return self._on_host(tensor, count) if tensor.device.type == "cpu" else self._on_device(tensor)

    def _on_host(self, tensor: typing.Any, count: int) -> int:
        place = tensor.data_ptr()
        view = self._views.get((place, count))
        if view is None:
            if len(self._views) > 4096:
                self._views.clear()
            octets: typing.Any = (ctypes.c_ubyte * count).from_address(place)
            view = self._views[place, count] = self._numpy.frombuffer(octets, dtype=self._numpy.uint8)
        return fingerprint(view)

    def _on_device(self, tensor: typing.Any) -> typing.Any:
        torch = self._torch
        octets = tensor.detach().reshape(-1).view(torch.uint8)
        missing = -octets.numel() % 4
        if missing:
            octets = torch.nn.functional.pad(octets, (0, missing))
        words = octets.view(torch.int32)
        blocks = -(-words.numel() // BLOCK_WORDS)
        within, between = self._on(tensor.device, blocks)
        total = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for start in range(0, blocks, _BLOCKS_AT_ONCE):
            piece = words[start * BLOCK_WORDS : (start + _BLOCKS_AT_ONCE) * BLOCK_WORDS].to(torch.int64) & 0xFFFFFFFF
            short = -piece.numel() % BLOCK_WORDS
            if short:
                piece = torch.nn.functional.pad(piece, (0, short))
            sums = (piece.view(-1, BLOCK_WORDS) * within).sum(dim=1)
            total += (sums * between[start : start + len(sums)]).sum()
        return total

    def _on(self, device: typing.Any, blocks: int) -> tuple[typing.Any, typing.Any]:
        within, between = self._constants.get(device, (None, ()))
        if len(between) < blocks:
            # the constants of more blocks begin with those of fewer
            count = max(blocks, 2 * len(between))
            signed = [each.view(self._numpy.int64).copy() for each in (word_constants(), block_constants(count))]
            within, between = (self._torch.from_numpy(each).to(device) for each in signed)
            self._constants[device] = within, between
        return within, between
