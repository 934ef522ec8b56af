"""Trails are written whole, read with numpy alone, cut at a step, and say where two of them part."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.errors import TrailError
from provenance.formats.trail import MAGIC, TensorName, Trail, TrailWriter, compare, float_bits, float_of

TENSORS = (TensorName("conv.weight", (4, 3), "float32"), TensorName("bn.count", (), "int64"))


def write(path: Path, records: list[list[int]], tensors: tuple[TensorName, ...] = TENSORS, keep: int = 0) -> Trail:
    with TrailWriter(path, tensors, keep) as writer:
        for record in records:
            writer.append(np.array([record], dtype=np.uint64))
    return Trail(path)


def steps(count: int, start: int = 0) -> list[list[int]]:
    return [[step, float_bits(1.0 / (step + 1)), 10 * step, 2**64 - 1 - step] for step in range(start, start + count)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    trail = write(tmp_path / "a", steps(5))
    assert trail.tensors == TENSORS
    assert trail.records.tolist() == steps(5)
    assert trail.last() == (4, 0.2)
    assert trail.problems() == []


@given(st.floats())
def test_a_loss_keeps_its_bits(value: float) -> None:
    assert float_bits(float_of(float_bits(value))) == float_bits(value)
    assert float_of(float_bits(value)) == value or math.isnan(value)


def test_records_can_be_mapped_aligned(tmp_path: Path) -> None:
    trail = write(tmp_path / "a", steps(2))
    assert (trail.path.stat().st_size - 2 * 4 * 8) % 64 == 0


def test_a_torn_tail_is_left_out_and_told(tmp_path: Path) -> None:
    trail = write(tmp_path / "a", steps(3))
    with trail.path.open("ab") as stream:
        stream.write(b"\x01" * 13)
    torn = Trail(trail.path)
    assert len(torn) == 3
    assert torn.problems() == ["13 bytes after record 2 are no whole record"]


def test_a_resumed_trail_is_the_one_that_never_stopped(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", steps(6))
    write(tmp_path / "cut", steps(5))
    resumed = write(tmp_path / "cut", steps(3, start=3), keep=3)
    assert resumed.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("tensors, keep", [(TENSORS, 9), (TENSORS[:1], 2)])
def test_a_trail_is_not_continued_where_it_does_not_fit(
    tmp_path: Path, tensors: tuple[TensorName, ...], keep: int
) -> None:
    before = write(tmp_path / "a", steps(3)).path.read_bytes()
    with pytest.raises(TrailError):
        TrailWriter(tmp_path / "a", tensors, keep)
    assert (tmp_path / "a").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"NDTRAIL", b"not a trail at all", MAGIC + b"\xff\xff\xff\x7f{", MAGIC + b"\x02\x00\x00\x00{}"]
)
def test_what_is_no_trail_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(TrailError, match="bad"):
        Trail(tmp_path / "bad")


def test_a_missing_step_is_found(tmp_path: Path) -> None:
    trail = write(tmp_path / "a", steps(2) + steps(1, start=3))
    assert trail.problems() == ["record 2 says step 3"]


def test_equal_trails_are_identical(tmp_path: Path) -> None:
    same = compare(write(tmp_path / "a", steps(9)), write(tmp_path / "b", steps(9)), chunk=4)
    assert same.identical
    assert same.compared == 9


def test_the_first_step_and_every_tensor_that_differ_are_named(tmp_path: Path) -> None:
    other = steps(9)
    other[5][3] ^= 1
    for record in other[6:]:
        record[1] ^= 1
        record[2] ^= 1
    found = compare(write(tmp_path / "a", steps(9)), write(tmp_path / "b", other), chunk=4).divergence
    assert found is not None
    assert (found.step, found.loss_differs, found.tensors) == (5, False, ("bn.count",))


def test_a_shorter_trail_is_not_identical(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path / "a", steps(9)), write(tmp_path / "b", steps(8)))
    assert comparison.divergence is None
    assert not comparison.identical


def test_trails_of_other_networks_are_not_compared(tmp_path: Path) -> None:
    narrow = [record[:3] for record in steps(3)]
    with pytest.raises(TrailError, match=r"bn\.count"):
        compare(write(tmp_path / "a", steps(3)), write(tmp_path / "b", narrow, TENSORS[:1]))


def test_the_last_step_is_read_without_numpy(tmp_path: Path) -> None:
    write(tmp_path / "a", steps(3))
    script = (
        "import sys; from pathlib import Path; from provenance.formats.trail import Trail\n"
        "print(Trail(Path(sys.argv[1])).last()[0], 'numpy' in sys.modules)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a")]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["2", "False"]


def test_the_trail_of_a_piece_is_compared_with_the_same_steps_of_the_whole(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", steps(9))
    piece = steps(4, start=3)
    piece[0][1] = 0  # the state before the piece's first step has no loss
    found = compare(whole, write(tmp_path / "piece", piece))
    assert (found.compared, found.starts, found.divergence) == (4, (0, 3), None)
    assert not found.identical
    piece[2][2] ^= 1
    for pair in ((whole, write(tmp_path / "other", piece)), (Trail(tmp_path / "other"), whole)):
        divergence = compare(*pair).divergence
        assert divergence is not None and (divergence.step, divergence.tensors) == (5, ("conv.weight",))


def test_trails_without_a_shared_step_have_nothing_compared(tmp_path: Path) -> None:
    found = compare(write(tmp_path / "a", steps(3)), write(tmp_path / "b", steps(3, start=7)))
    assert (found.compared, found.divergence, found.identical) == (0, None, False)
    assert compare(write(tmp_path / "c", []), Trail(tmp_path / "a")).compared == 0


def test_records_beyond_the_first_chunk_are_compared(tmp_path: Path) -> None:
    other = steps(9)
    other[7][2] ^= 1
    first, second = write(tmp_path / "a", steps(9)), write(tmp_path / "b", other)
    for chunk in (1, 3, 7, 8, 100):
        found = compare(first, second, chunk).divergence
        assert found is not None and found.step == 7
