"""The set that is found makes the difference and could not be smaller; the release that is found is where it turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.execution.bisect.delta_debugging import CHANGED, SAME, UNRESOLVED, Turn, minimal, turns

ITEMS = tuple(range(12))


@given(st.sets(st.sampled_from(ITEMS), min_size=1, max_size=4))
def test_what_is_needed_together_is_found_and_nothing_else(needed: set[int]) -> None:
    assert set(minimal(ITEMS, lambda chosen: CHANGED if needed <= set(chosen) else SAME)) == needed


@given(st.lists(st.sets(st.sampled_from(ITEMS), min_size=1, max_size=3), min_size=1, max_size=3))
def test_of_several_causes_one_is_found_whole(causes: list[set[int]]) -> None:
    def test(chosen: tuple[int, ...]) -> str:
        return CHANGED if any(cause <= set(chosen) for cause in causes) else SAME

    found = minimal(ITEMS, test)
    assert set(found) in causes
    assert all(test(tuple(item for item in found if item != left)) == SAME for left in found)


def test_a_set_that_cannot_be_put_together_counts_neither_way() -> None:
    """Item 3 makes the difference, and cannot move without 4."""

    def test(chosen: tuple[int, ...]) -> str:
        if (3 in chosen) != (4 in chosen):
            return UNRESOLVED
        return CHANGED if 3 in chosen else SAME

    assert set(minimal(ITEMS, test)) == {3, 4}


def test_an_item_that_makes_the_difference_alone_takes_one_question_each() -> None:
    asked: list[tuple[int, ...]] = []

    def test(chosen: tuple[int, ...]) -> str:
        asked.append(chosen)
        return CHANGED if 1 in chosen else SAME

    assert minimal(ITEMS, test) == (1,)
    assert asked == [ITEMS, (0,), (1,)]


def test_no_difference_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no difference"):
        minimal(ITEMS, lambda chosen: SAME)


@given(st.integers(2, 40).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count - 1))))
def test_the_turn_is_found_by_halving(row: tuple[int, int]) -> None:
    count, first = row
    asked: list[int] = []

    def answer(release: int) -> str:
        asked.append(release)
        return CHANGED if release >= first else SAME

    assert turns(range(count), answer) == (Turn(first - 1, first),)
    assert len(asked) == len(set(asked)) <= count.bit_length() + 2


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30))
def test_asked_everywhere_no_turn_hides(row: list[int]) -> None:
    expected = [(at, at + 1) for at in range(len(row) - 1) if row[at] != row[at + 1]]
    places = range(len(row))
    assert [(turn.last, turn.next) for turn in turns(places, lambda at: row[at], everywhere=True)] == expected
    halved = [(turn.last, turn.next) for turn in turns(places, lambda at: row[at])]
    assert set(halved) <= set(expected), "what halving finds is true"
    assert bool(halved) == (row[0] != row[-1])
    if row == sorted(row):
        assert halved == expected, "and whole, where nothing comes back"


def test_halving_does_not_see_what_is_undone_again() -> None:
    row = "aabba"
    assert turns(range(5), lambda at: row[at]) == ()
    assert turns(range(5), lambda at: row[at], everywhere=True) == (Turn(1, 2), Turn(3, 4))


def test_what_could_not_be_tried_between_is_named() -> None:
    row = ["1", "2", "3", "4", "5"]
    answers = {"1": SAME, "2": SAME, "3": UNRESOLVED, "4": CHANGED, "5": CHANGED}
    for everywhere in (False, True):
        assert turns(row, answers.__getitem__, everywhere=everywhere) == (Turn("2", "4", ("3",)),)
    last = {**answers, "5": UNRESOLVED}
    assert turns(row, last.__getitem__) == (Turn("2", "4", ("3",)),), "the nearest place takes the part of an end"
    assert turns(row, {**dict.fromkeys(row, UNRESOLVED), "1": SAME}.__getitem__) == ()
    with pytest.raises(ValueError, match="less than two"):
        turns(["1"], answers.__getitem__)
