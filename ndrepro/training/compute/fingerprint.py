"""The trail's hash of every tensor of a network, where the tensors lie: ``provenance.formats.fingerprint`` on any
device.

On the CPU each tensor's own memory is hashed in place. On a GPU that would be hundreds of launches a step; there all
tensors are copied into one padded buffer, block by block, and hashed in half a dozen launches, and the hashes stay on
the device until the trail is written. Integer sums are exact, so both ways give the same 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from provenance.formats.fingerprint import BLOCK_WORDS, block_constants, fingerprints, word_constants
from provenance.formats.trail import TensorName

_WORD_BYTES = 4


def tensor_names(tensors: Mapping[str, torch.Tensor]) -> tuple[TensorName, ...]:
    """Names, shapes and dtypes as the trail's header wants them."""
    return tuple(
        TensorName(name, tuple(tensor.shape), str(tensor.dtype).replace("torch.", ""))
        for name, tensor in tensors.items()
    )


class HostFingerprints:
    """Hashes of tensors in the CPU's memory; of contiguous ones where they lay when this was made."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._places = [_octets(tensor) if tensor.is_contiguous() else tensor for tensor in tensors.values()]

    def compute(self) -> torch.Tensor:
        """The hashes now, int64 (tensors,), read as unsigned."""
        octets = [_octets(place) if isinstance(place, torch.Tensor) else place for place in self._places]
        return torch.from_numpy(fingerprints(octets).view(np.int64))


class DeviceFingerprints:
    """Hashes of tensors on one device, computed there.

    Raises ValueError for a tensor that is not contiguous or not of whole 32-bit words: a view of it would be a copy,
    and the trail would continue to hash the bits of the first step.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if not tensor.is_contiguous() or tensor.element_size() % _WORD_BYTES:
                raise ValueError(f"{name}: {tensor.dtype} with strides {tensor.stride()} cannot be hashed in place")
        self._words = [tensor.detach().reshape(-1).view(torch.int32) for tensor in tensors.values()]
        blocks = [-(-words.numel() // BLOCK_WORDS) for words in self._words]
        device = self._words[0].device
        # one buffer, every tensor padded with zeros to whole blocks
        self._buffer = torch.zeros(sum(blocks) * BLOCK_WORDS, dtype=torch.int32, device=device)
        starts = np.concatenate([[0], np.cumsum(blocks)[:-1]]) * BLOCK_WORDS
        self._places = [
            self._buffer[start : start + words.numel()]
            for start, words in zip(starts.tolist(), self._words, strict=True)
        ]
        self._within = _on(word_constants(), device)
        constants = [block_constants(count) for count in blocks]
        self._between = _on(np.concatenate(constants), device)
        self._owner = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(blocks)).to(device)

    def compute(self) -> torch.Tensor:
        """The hashes now, int64 (tensors,) on the device, read as unsigned."""
        for place, words in zip(self._places, self._words, strict=True):
            place.copy_(words)
        unsigned = self._buffer.view(-1, BLOCK_WORDS).to(torch.int64) & 0xFFFFFFFF
        sums = (unsigned * self._within).sum(dim=1)
        hashes = torch.zeros(len(self._words), dtype=torch.int64, device=sums.device)
        return hashes.index_add_(0, self._owner, sums * self._between)


def fingerprints_of(tensors: Mapping[str, torch.Tensor]) -> HostFingerprints | DeviceFingerprints:
    """The quicker way for the device on which the tensors lie."""
    on_host = all(tensor.device.type == "cpu" for tensor in tensors.values())
    return HostFingerprints(tensors) if on_host else DeviceFingerprints(tensors)


def _octets(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's bytes, in place where it is contiguous; also of dtypes that numpy does not know."""
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, dtype=np.uint8)


def _on(constants: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(constants.view(np.int64).copy()).to(device)
