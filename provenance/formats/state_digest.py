"""SHA-256 of the complete state of a training: what carries over from one epoch to the next, in one canonical form.

    tensor   SHA-256 of the bytes in C order, little-endian
    part     SHA-256 of canonical JSON: [[name, dtype, [size, ...], tensor], ...] in the order of the names
    state    SHA-256 of canonical JSON: {"parts": {name: part}, "position": {...}, "schema": SCHEMA}

dtypes are spelled as numpy spells them ("float32", "int64"). The numbers of a position are whole numbers, texts, or
``None``; a float is given as its hexadecimal text (``float.hex``), which keeps every bit. Neither a library's version
nor a device has any part in it, so whoever can read the tensors, from memory or from a file, gets the same digest.

Unlike the trail's 64-bit hash (``provenance.formats.fingerprint``), which is linear and only locates differences,
SHA-256 also holds against an author who may choose the tensors. Needs numpy arrays, but not numpy itself.
"""

from __future__ import annotations

import hashlib
import os
import typing
from collections.abc import Mapping

from provenance.formats.canonical_json import canonical_bytes

if typing.TYPE_CHECKING:
    import numpy.typing

    Array = numpy.typing.NDArray[typing.Any]

SCHEMA = "urn:ndrepro:state:v1"
# hashing leaves the interpreter's lock, so tensors are hashed side by side
_THREADS = 4


def tensors_digest(tensors: Mapping[str, Array]) -> str:
    """The digest of a part of the state: its tensors by name, any shapes and dtypes."""
    from concurrent.futures import ThreadPoolExecutor  # which brings logging along

    names = sorted(tensors)
    arrays = [tensors[name] for name in names]
    if len(arrays) < 2:
        hashes = list(map(_sha256, arrays))
    else:
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            hashes = list(pool.map(_sha256, arrays))
    listing = [
        [name, array.dtype.name, list(array.shape), digest]
        for name, array, digest in zip(names, arrays, hashes, strict=True)
    ]
    return hashlib.sha256(canonical_bytes(listing)).hexdigest()


def state_digest(parts: Mapping[str, str], position: Mapping[str, int | str | None]) -> str:
    """The digest of a state: those of its parts by name, and where in the run it is."""
    document = {"schema": SCHEMA, "parts": dict(parts), "position": dict(position)}
    return hashlib.sha256(canonical_bytes(document)).hexdigest()


def _sha256(array: Array) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    # flat bytes: a view, which hashlib reads without a copy
    return hashlib.sha256(little.reshape(-1).view("u1").data).hexdigest()
