"""The hash is the sum that its docstring says, sees what it must see, and is the same however memory lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.formats.fingerprint import (
    BLOCK_WORDS,
    block_constants,
    fingerprint,
    fingerprints,
    pair_constants,
    word_constants,
)


def by_definition(octets: bytes) -> int:
    """H word by word in Python integers, as the docstring has it."""
    octets += bytes(-len(octets) % 4)
    words = [int.from_bytes(octets[at : at + 4], "little") for at in range(0, len(octets), 4)]
    blocks = [words[at : at + BLOCK_WORDS] for at in range(0, len(words), BLOCK_WORDS)]
    k = [int(value) for value in word_constants()]
    sums = [sum(a * b for a, b in zip(k, block, strict=False)) for block in blocks]
    return sum(int(c) * s for c, s in zip(block_constants(len(blocks)), sums, strict=True)) % 2**64


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8191, 8192, 8193, 30_001])
def test_equals_its_definition(count: int) -> None:
    values = np.random.RandomState(count).standard_normal(count).astype(np.float32)
    assert fingerprint(values) == by_definition(values.tobytes())


@given(st.binary(max_size=200))
def test_equals_its_definition_for_any_bytes(octets: bytes) -> None:
    assert fingerprint(np.frombuffer(octets, dtype=np.uint8)) == by_definition(octets)


@given(st.lists(st.binary(max_size=20)), st.integers(32_760, 32_776))
def test_many_together_are_each_by_itself(pieces: list[bytes], size: int) -> None:
    """``size`` is about a block's, from which on an array is hashed alone."""
    pieces.insert(len(pieces) // 2, bytes(range(256)) * 129)
    pieces.append(pieces[len(pieces) // 2][:size])
    hashes = fingerprints([np.frombuffer(piece, dtype=np.uint8) for piece in pieces])
    assert hashes.tolist() == [fingerprint(np.frombuffer(piece, dtype=np.uint8)) for piece in pieces]


def test_constants_are_odd_and_never_change() -> None:
    a, b = pair_constants()
    assert bool((word_constants() & np.uint64(1)).all())
    # a changed constant would make old trails unreadable
    assert (int(a[0]), int(b[0]), int(block_constants(1)[0])) == CONSTANTS
    assert fingerprint(np.arange(10, dtype=np.float32)) == KNOWN


CONSTANTS = (0x910A2DEC89025CC1, 0x975835DE1C9756CF, 0x1D0B14E4DB018FED)
KNOWN = 1980059621558059008


@given(st.integers(0, 39_999), st.integers(0, 31))
def test_any_one_bit_is_seen(position: int, bit: int) -> None:
    words = WORDS.copy()
    words[position] ^= np.uint32(1 << bit)
    assert fingerprint(words) != BEFORE


WORDS = np.random.RandomState(0).randint(0, 2**32, 40_000, dtype=np.uint32)
BEFORE = fingerprint(WORDS)


@given(st.integers(0, 19_998), st.integers(1, 200))
def test_two_flipped_signs_do_not_cancel(position: int, distance: int) -> None:
    """The attack on a plain dot product of 64-bit words: signs of two high halves count only as a parity."""
    words = WORDS.copy()
    first, second = 2 * position + 1, (2 * (position + distance) + 1) % len(words)
    words[[first, second]] ^= np.uint32(1 << 31)
    assert fingerprint(words) != BEFORE
    plain = np.dot(words.view(np.uint64), np.arange(1, 40_001, 2, dtype=np.uint64))
    assert plain == np.dot(WORDS.view(np.uint64), np.arange(1, 40_001, 2, dtype=np.uint64)), "the control"


def test_order_is_seen() -> None:
    assert fingerprint(WORDS[::-1]) != BEFORE
    swapped = WORDS.copy()
    swapped[:8192], swapped[8192:16384] = WORDS[8192:16384].copy(), WORDS[:8192].copy()
    assert fingerprint(swapped) != BEFORE


def test_layout_of_memory_is_not_seen() -> None:
    matrix = WORDS.reshape(200, 200)
    assert fingerprint(np.asfortranarray(matrix)) == BEFORE
    shifted = np.concatenate([np.zeros(1, dtype=np.uint32), WORDS])[1:]
    assert shifted.ctypes.data % 8 == 4 or WORDS.ctypes.data % 8 == 4, "one of the two is not aligned"
    assert fingerprint(shifted) == BEFORE
