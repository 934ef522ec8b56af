"""Where two trails part, which tensor lies nearest, how the difference grows; and that no difference is a finding."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compared_runs import TENSORS, parted, records, write_trail
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrepro.analysis.comparison.cause_ranking import Observation
from ndrepro.analysis.comparison.trail_divergence import compare_trails, growth
from ndrepro.text.plain_json import plain
from provenance.errors import TrailError
from provenance.formats.trail import Trail, float_bits

ALL = range(len(TENSORS))


def test_equal_trails_are_identical_to_the_last_step(tmp_path: Path) -> None:
    first, second = (write_trail(tmp_path / name, records(40)) for name in "ab")
    found = compare_trails(first, second)
    assert found.identical and found.divergence is None
    assert (found.last_steps, found.shared_records, found.notes) == ((40, 40), 41, ())


def test_the_first_step_the_losses_and_the_growth_are_told(tmp_path: Path) -> None:
    first = write_trail(tmp_path / "a", records(100))
    second = write_trail(tmp_path / "b", parted(records(100), 7, ALL, loss=1e-7, grows=1.1))
    divergence = compare_trails(first, second).divergence
    assert divergence is not None
    assert (divergence.step, divergence.equal_steps, divergence.loss_differs) == (7, 6, True)
    assert divergence.losses is not None and divergence.losses[1] == pytest.approx(divergence.losses[0], rel=1e-6)
    assert (divergence.tensors, divergence.of) == (tuple(tensor.name for tensor in TENSORS), 5)
    assert [point.step for point in divergence.growth] == [7, 8, 9, 11, 15, 23, 39, 71, 100]
    for point in divergence.growth:
        size = 1e-7 * 1.1 ** (point.step - 7)
        assert point.tensors == 5
        assert point.relative == pytest.approx(size / (1 + size), rel=1e-6)
    assert divergence.everywhere_from == 7
    assert divergence.largest == divergence.growth[-1]


@settings(max_examples=25)
@given(st.integers(1, 30), st.sets(st.integers(0, 4), min_size=1))
def test_any_first_difference_is_found(tmp_path_factory: pytest.TempPathFactory, step: int, columns: set[int]) -> None:
    folder = tmp_path_factory.mktemp("any")
    first = write_trail(folder / "a", records(30))
    second = write_trail(folder / "b", parted(records(30), step, sorted(columns)))
    divergence = compare_trails(first, second).divergence
    assert divergence is not None and divergence.step == step
    assert divergence.tensors == tuple(TENSORS[column].name for column in sorted(columns))
    assert not divergence.loss_differs and all(point.relative == 0 for point in divergence.growth)


def test_nearest_is_the_first_statistic_in_the_forward_pass_and_the_last_tensor_on_the_way_back(tmp_path: Path) -> None:
    plain = write_trail(tmp_path / "a", records(9))

    def nearest(name: str, step: int, columns: list[int], loss: float | None) -> str:
        divergence = compare_trails(
            plain, write_trail(tmp_path / name, parted(records(9), step, columns, loss))
        ).divergence
        assert divergence is not None
        return divergence.nearest_tensor

    assert nearest("forward", 3, [0, 1, 2, 3, 4], 1e-6) == "bn1.running_mean"
    assert nearest("later", 3, [0, 2, 3, 4], 1e-6) == "bn1.running_var"
    assert nearest("no statistics", 3, [0, 3], 1e-6) == "conv1.weight"
    assert nearest("backward", 3, [0, 3], None) == "fc.weight"
    assert nearest("first weights", 0, [3, 4], None) == "fc.weight"
    assert nearest("loss alone", 3, [], 1e-6) == ""


def test_statistics_that_the_step_changed_alike_show_that_both_saw_the_same_batch(tmp_path: Path) -> None:
    plain = write_trail(tmp_path / "a", records(9))

    def witness(name: str, table: object, other: Path = plain) -> str:
        divergence = compare_trails(other, write_trail(tmp_path / name, table)).divergence
        assert divergence is not None
        return divergence.same_batch_by

    assert witness("same", parted(records(9), 1, [0, 3], 1e-6)) == "bn1.running_mean"
    assert witness("other", parted(records(9), 1, [0, 1, 3], 1e-6)) == ""
    assert witness("at the start", parted(records(9), 0, [0])) == ""
    frozen = records(9)
    frozen[1:, 3] = frozen[0, 3]  # statistics that stand still are no witness
    still = write_trail(tmp_path / "still", frozen)
    assert witness("frozen", parted(frozen, 1, [0, 3], 1e-6), still) == ""


def test_first_weights_that_differ_have_no_loss(tmp_path: Path) -> None:
    found = compare_trails(
        write_trail(tmp_path / "a", records(5)), write_trail(tmp_path / "b", parted(records(5), 0, [0]))
    )
    assert found.divergence is not None
    assert (found.divergence.step, found.divergence.losses, found.divergence.tensors) == (0, None, ("conv1.weight",))


@pytest.mark.parametrize(("loss", "in_loss"), [(None, False), (1e-6, True)])
def test_statistics_of_a_programs_first_record_are_of_its_first_forward_pass(
    tmp_path: Path, loss: float | None, in_loss: bool
) -> None:
    """It is taken when the optimizer is first called: threads, say, are a cause, and the first weights are equal."""
    table = parted(records(5), 1, [0, 1, 2], loss)
    table[0, 3] ^= 1
    found = compare_trails(write_trail(tmp_path / "a", records(5)), write_trail(tmp_path / "b", table))
    assert found.divergence is not None and found.divergence.in_first_forward_pass
    seen = Observation.of(found, same_pixels=True, other_tensors=False)
    assert (found.divergence.step, found.divergence.tensors) == (0, ("bn1.running_mean",))
    assert (seen.step, seen.in_loss) == (1, in_loss)
    weights = compare_trails(
        write_trail(tmp_path / "c", records(5)), write_trail(tmp_path / "d", parted(records(5), 0, [0, 1]))
    )
    assert weights.divergence is not None and not weights.divergence.in_first_forward_pass


@pytest.mark.parametrize("cut", [0, 11])
def test_a_trail_that_was_cut_short_is_compared_as_far_as_it_goes(tmp_path: Path, cut: int) -> None:
    first = write_trail(tmp_path / "a", records(40))
    second = write_trail(tmp_path / "b", records(20))
    if cut:
        second.write_bytes(second.read_bytes()[:-cut])
    found = compare_trails(first, second)
    assert found.divergence is None and not found.identical
    assert found.last_steps == ((40, 20) if not cut else (40, 19))
    assert found.notes == (() if not cut else ("the second trail: 45 bytes after record 19 are no whole record",))


def test_a_piece_is_compared_with_its_own_steps(tmp_path: Path) -> None:
    whole = write_trail(tmp_path / "whole", records(30))
    piece = write_trail(tmp_path / "piece", records(10, first=20))
    found = compare_trails(whole, piece)
    assert (found.shared_records, found.divergence) == (11, None)
    assert found.notes == ("the second trail begins at step 20",)
    other = parted(records(10, first=20), 23, [3])
    divergence = compare_trails(whole, write_trail(tmp_path / "other", other)).divergence
    assert divergence is not None and (divergence.step, divergence.equal_steps) == (23, 2)
    started = parted(records(10, first=20), 20, [3])
    divergence = compare_trails(whole, write_trail(tmp_path / "started", started)).divergence
    assert divergence is not None and (divergence.step, divergence.losses, divergence.loss_differs) == (20, None, False)


def test_losses_that_are_no_numbers_are_compared_by_their_bits(tmp_path: Path) -> None:
    one, two = records(6), records(6)
    one[3:, 1] = two[3:, 1] = float_bits(math.nan)
    two[5:, 1] = float_bits(math.inf)
    paths = write_trail(tmp_path / "a", one), write_trail(tmp_path / "b", two)
    steps, counts, difference, relative = growth(*map(Trail, paths))
    assert steps.tolist() == list(range(7)) and counts.tolist() == [0] * 7
    assert difference[:5].tolist() == [0.0] * 5 and relative[:5].tolist() == [0.0] * 5
    assert np.isnan(difference[5:]).all()
    divergence = compare_trails(*paths).divergence
    assert divergence is not None and divergence.step == 5 and divergence.tensors == ()
    assert math.isnan(divergence.largest.relative)


def test_other_networks_are_refused_and_damaged_trails_named(tmp_path: Path) -> None:
    first = write_trail(tmp_path / "a", records(5))
    narrow = write_trail(tmp_path / "b", records(5, tensors=2), TENSORS[:2])
    with pytest.raises(TrailError, match="different tensors"):
        compare_trails(first, narrow)
    (tmp_path / "c").write_bytes(b"no trail")
    with pytest.raises(TrailError, match=r"/c: not a numerical trail"):
        compare_trails(first, tmp_path / "c")


def test_a_trail_whose_steps_are_miscounted_is_compared_by_place(tmp_path: Path) -> None:
    wrong = records(9)
    wrong[4:, 0] += np.uint64(1)
    found = compare_trails(write_trail(tmp_path / "a", records(9)), write_trail(tmp_path / "b", wrong))
    assert found.notes == ("the second trail: record 4 says step 5",)
    assert found.divergence is not None and found.divergence.step == 4 and found.divergence.tensors == ()


def test_the_json_holds_what_was_found(tmp_path: Path) -> None:
    first = write_trail(tmp_path / "a", records(10))
    found = compare_trails(first, write_trail(tmp_path / "b", parted(records(10), 2, [1], loss=1e-3)))
    written = json.loads(json.dumps(plain(found)))
    assert written["identical"] is False and written["shared_records"] == 11
    assert written["divergence"]["step"] == 2 and written["divergence"]["nearest_tensor"] == "bn1.running_mean"
    assert len(written["divergence"]["growth"]) == 5


def test_comparing_loads_no_torch(tmp_path: Path) -> None:
    path = write_trail(tmp_path / "a", records(3))
    script = (
        "import sys; from pathlib import Path\n"
        "from ndrepro.analysis.comparison import run_comparison, trail_divergence\n"
        "print(trail_divergence.compare_trails(*[Path(sys.argv[1])] * 2).identical, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
