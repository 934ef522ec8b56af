"""How a numerical trail's file begins, and how a loss is written in it (``provenance.formats.trail``).

On its own, and in what Python 3.8 understands, because the start-up hook takes a copy of it into other people's
programs (``provenance.hook``).
"""

from __future__ import annotations

import json
import struct
import typing
from dataclasses import asdict, dataclass

MAGIC = b"NDTRAIL\x01"
SCHEMA = "urn:ndrepro:trail:v1"
_ALIGNMENT = 64


@dataclass(frozen=True)
class TensorName:
    """One tensor of the state: its name, shape, and dtype as numpy spells it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def float_bits(value: float) -> int:
    """The bits of a float64, as an unsigned integer. A float32 or bfloat16 loss is exact in it."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def float_of(bits: int) -> float:
    """The float64 of those bits: ``float_of(float_bits(x))`` has x's bits."""
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


def encode_header(tensors: typing.Sequence[TensorName], every: int = 1) -> bytes:
    """The bytes before the first record. ``every``: records are that many steps apart."""
    document: dict[str, typing.Any] = {"schema": SCHEMA, "tensors": [asdict(tensor) for tensor in tensors]}
    if every != 1:
        document["every"] = every
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()
    fixed = len(MAGIC) + 4
    padding = -(fixed + len(text)) % _ALIGNMENT
    return MAGIC + struct.pack("<I", len(text) + padding) + text + b" " * padding
