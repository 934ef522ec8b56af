"""Delta debugging: which of many changes makes a difference, and from which of a row of releases on.

Zeller and Hildebrandt, Simplifying and isolating failure-inducing input (IEEE Transactions on Software Engineering,
2002). A test is asked about a set of changes and answers SAME (as without any), CHANGED, or UNRESOLVED where the set
cannot be put together. Nothing is known here of what a change is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

SAME = "same"
CHANGED = "changed"
UNRESOLVED = "unresolved"

Item = TypeVar("Item")


def minimal(items: Sequence[Item], test: Callable[[tuple[Item, ...]], str]) -> tuple[Item, ...]:
    """A smallest set of ``items`` that makes the difference: no proper subset with one item less was seen to make it.

    The algorithm ``ddmin`` (section 3.2), after each item was asked about by itself in the order given: the first that
    makes the difference alone is the answer. Law: ``test(minimal(items, test)) == CHANGED``.

    Raises ValueError unless all of ``items`` together make the difference.
    """
    if test(tuple(items)) != CHANGED:
        raise ValueError("all changes together make no difference")
    if len(items) > 1:
        for item in items:
            if test((item,)) == CHANGED:
                return (item,)
    kept, parts = tuple(items), 2
    while len(kept) >= 2:
        smaller = _smaller(kept, parts, test)
        if smaller is not None:
            # of a part, halves are tried next; of the rest, parts of the size that they have now
            parts = 2 if len(smaller) * 2 <= len(kept) else max(parts - 1, 2)
            kept = smaller
        elif parts < len(kept):
            parts = min(2 * parts, len(kept))
        else:
            break
    return kept


def _smaller(kept: tuple[Item, ...], parts: int, test: Callable[[tuple[Item, ...]], str]) -> tuple[Item, ...] | None:
    """A part of ``kept``, or all but one part, that makes the difference; None where none does."""
    bounds = [round(place * len(kept) / parts) for place in range(parts + 1)]
    cut = [kept[low:high] for low, high in pairwise(bounds)]
    rest = [kept[:low] + kept[high:] for low, high in pairwise(bounds)]
    for candidate in (*cut, *(rest if parts > 2 else [])):  # of two halves each is the other's rest
        if test(candidate) == CHANGED:
            return candidate
    return None


@dataclass(frozen=True)
class Step(Generic[Item]):
    """Two neighbours in a row: ``last_same`` answers SAME, ``first_changed`` CHANGED, all between are UNRESOLVED."""

    last_same: Item
    first_changed: Item
    unresolved: tuple[Item, ...]


def first_change(row: Sequence[Item], test: Callable[[Item], str]) -> Step[Item]:
    """Where in ``row`` the answer turns from SAME to CHANGED, by halving.

    The first of ``row`` is taken to be SAME and the last CHANGED. What comes out is true of its two neighbours,
    whatever happens elsewhere in the row: should the answer turn more than once, it is one of these places. Raises
    ValueError for a row of less than two.
    """
    if len(row) < 2:
        raise ValueError("a row of less than two has no place between")
    same, changed = 0, len(row) - 1
    unresolved: set[int] = set()
    while open_places := [place for place in range(same + 1, changed) if place not in unresolved]:
        middle = open_places[len(open_places) // 2]
        answer = test(row[middle])
        if answer == UNRESOLVED:
            unresolved.add(middle)
        elif answer == CHANGED:
            changed = middle
        else:
            same = middle
    between = tuple(row[place] for place in sorted(unresolved) if same < place < changed)
    return Step(row[same], row[changed], between)
