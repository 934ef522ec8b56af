"""A 64-bit order-sensitive integer hash of an array's bits: the same on every device, library and thread count.

The array's bytes are read as little-endian 32-bit words u_j (zero-padded at the end) in blocks of W = 8192 words.
Inside a block the hash is multilinear, and so is the hash of the blocks' sums S_m:

    S_m = sum_j k_j u_(mW + j)   mod 2^64,      H = sum_m c_m S_m   mod 2^64,

with odd 64-bit constants k and c. Integer sums are exact in any order, so every device gives the same H; a change
of one word always changes H (odd constants are invertible), and a change of several cancels for about one choice of
constants in 2^32. It locates differences between honest runs; it proves nothing against an author, who may choose the
bits: the hash is linear and its constants are public, so a test finds other weights with the same hash in a second.
That is what SHA-256 of the complete state is for (``provenance.formats.state_digest``).

The constants are splitmix64's sequence (Steele, Lea, Flood, OOPSLA 2014), so no generator of any library is asked.
k is made so that a CPU can sum 64-bit words w = u_2i + 2^32 u_(2i+1) at once: k_2i = a_i, k_(2i+1) = 2^32 a_i + b_i,
hence S = sum a_i w_i + sum b_i (w_i >> 32). The second sum keeps the high halves' sign bits from counting only as a
parity, which a plain 64-bit dot product would do.

``ndrepro.training.compute.fingerprint`` computes the same H in batches on a GPU. numpy is the only need here.
"""

from __future__ import annotations

import functools
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    import numpy.typing

    Words = numpy.typing.NDArray[numpy.uint64]
    Octets = numpy.typing.NDArray[numpy.uint8]

BLOCK_WORDS = 8192
_PAIRS = BLOCK_WORDS // 2
_WORD_BYTES = 8
# rows shifted at once: 8 blocks of 32 KB stay in a core's second-level cache
_ROWS = 8


def splitmix64(count: int, seed: int) -> Words:
    """``count`` values of splitmix64 from ``seed``, as uint64, made odd."""
    import numpy as np

    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


@functools.lru_cache(maxsize=1)
def pair_constants() -> tuple[Words, Words]:
    """The constants a and b of a block's 64-bit words, each (4096,)."""
    return splitmix64(_PAIRS, 1), splitmix64(_PAIRS, 2)


@functools.lru_cache(maxsize=1)
def word_constants() -> Words:
    """The constants k of a block's 32-bit words, (8192,): what a, b amount to."""
    import numpy as np

    a, b = pair_constants()
    k = np.empty(BLOCK_WORDS, dtype=np.uint64)
    k[0::2] = a
    k[1::2] = (a << np.uint64(32)) + b
    return k


@functools.lru_cache(maxsize=256)
def block_constants(count: int) -> Words:
    """The constants c of ``count`` blocks."""
    return splitmix64(count, 3)


def fingerprint(array: numpy.typing.NDArray[typing.Any]) -> int:
    """The hash H of an array's bits in C order, as an unsigned 64-bit integer. An empty array has H = 0."""
    import numpy as np

    octets = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = octets.size // (4 * BLOCK_WORDS)
    cut = whole * 4 * BLOCK_WORDS
    sums = np.empty(whole + (cut < octets.size), dtype=np.uint64)
    if whole:
        sums[:whole] = _block_sums(_words(octets[:cut]).reshape(whole, _PAIRS))
    if cut < octets.size:
        sums[whole:] = _block_sums(_words(octets[cut:]).reshape(1, -1))
    return int(np.dot(sums, block_constants(sums.size)))


def fingerprints(arrays: Sequence[Octets]) -> Words:
    """The hash H of each array of bytes, uint64 (N,): ``fingerprint`` of each in less time where many are small.

    Those below one block are summed together, since each call of numpy costs more than their arithmetic.
    """
    import numpy as np

    hashes = np.zeros(len(arrays), dtype=np.uint64)
    small = []
    for place, octets in enumerate(arrays):
        if octets.size >= 4 * BLOCK_WORDS:
            hashes[place] = fingerprint(octets)
        elif octets.size:
            small.append(place)
    if small:
        hashes[small] = _hashes_below_one_block([arrays[place] for place in small])
    return hashes


def _hashes_below_one_block(pieces: Sequence[Octets]) -> Words:
    """H of arrays of 1 to 32767 bytes each, as one array of words between whose sums cuts are made."""
    import numpy as np

    padding = bytes(_WORD_BYTES)
    octets = b"".join(part for piece in pieces for part in (piece.data, padding[: -piece.size % _WORD_BYTES]))
    words = np.frombuffer(octets, dtype="<u8").astype(np.uint64, copy=False)
    starts, a, b = _joined_constants(tuple(-(-piece.size // _WORD_BYTES) for piece in pieces))
    sums: Words = np.add.reduceat(words * a + (words >> np.uint64(32)) * b, starts)
    return sums * block_constants(1)


@functools.lru_cache(maxsize=16)
def _joined_constants(counts: tuple[int, ...]) -> tuple[numpy.typing.NDArray[numpy.int64], Words, Words]:
    """Where each of several blocks with ``counts`` words begins, and their constants a and b one after the other."""
    import numpy as np

    starts = np.cumsum((0, *counts[:-1]), dtype=np.int64)
    a, b = (np.concatenate([constants[:count] for count in counts]) for constants in pair_constants())
    return starts, a, b


def _words(octets: Octets) -> Words:
    """Bytes as 64-bit words, zero-padded; without a copy where length and alignment allow."""
    import numpy as np

    if octets.size % _WORD_BYTES:
        octets = np.concatenate([octets, np.zeros(-octets.size % _WORD_BYTES, dtype=np.uint8)])
    elif octets.ctypes.data % _WORD_BYTES:
        octets = octets.copy()
    return octets.view("<u8").astype(np.uint64, copy=False)


def _block_sums(words: Words) -> Words:
    """The sums S_m of M blocks of P <= 4096 pairs of words, (M, P) -> (M,)."""
    import numpy as np

    a, b = (constants[: words.shape[1]] for constants in pair_constants())
    sums = np.empty(len(words), dtype=np.uint64)
    high = np.empty((_ROWS, words.shape[1]), dtype=np.uint64)
    for start in range(0, len(words), _ROWS):
        rows = words[start : start + _ROWS]
        shifted = np.right_shift(rows, np.uint64(32), out=high[: len(rows)])
        sums[start : start + _ROWS] = _row_sums(rows, a) + _row_sums(shifted, b)
    return sums


def _row_sums(rows: Words, constants: Words) -> Words:
    """Every row of (M, P) times ``constants`` (P,), (M,): as ``dot``, which takes twice as long for whole numbers."""
    import numpy as np

    sums: Words = np.einsum("ij,j->i", rows, constants)
    return sums
