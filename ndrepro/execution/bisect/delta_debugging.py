"""Delta debugging: which of many changes makes a difference, and where in a row of releases the result turns.

Zeller and Hildebrandt, Simplifying and isolating failure-inducing input (IEEE Transactions on Software Engineering,
2002). A test is asked about a set of changes and answers SAME (as without any), CHANGED, or UNRESOLVED where the set
cannot be put together. Nothing is known here of what a change is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
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
class Turn(Generic[Item]):
    """Two places in a row with different answers; of those between, all of them UNRESOLVED, nothing is known."""

    last: Item
    next: Item
    unresolved: tuple[Item, ...] = ()


def turns(
    row: Sequence[Item], answer: Callable[[Item], Hashable], *, everywhere: bool = False
) -> tuple[Turn[Item], ...]:
    """Where in ``row`` the answer turns, in its order.

    By halving: every stretch whose ends differ is looked into, down to neighbours. What is found is true whatever
    happens elsewhere, and all is found unless the answer turns and turns back inside a stretch whose ends are the
    same; with ``everywhere`` each place is asked, and nothing can hide. Of an end that is UNRESOLVED the nearest
    place that is not takes its part. Raises ValueError for a row of less than two.
    """
    if len(row) < 2:
        raise ValueError("a row of less than two has no place between")
    known: dict[int, Hashable] = {}

    def ask(place: int) -> Hashable:
        if place not in known:
            known[place] = answer(row[place])
        return known[place]

    def halve(low: int, high: int) -> Iterator[tuple[int, int]]:
        """Neighbours, or with nothing but unresolved places between them, of which the answers differ."""
        if ask(low) == ask(high):
            return
        while between := [place for place in range(low + 1, high) if known.get(place) != UNRESOLVED]:
            middle = between[len(between) // 2]
            if ask(middle) != UNRESOLVED:
                yield from halve(low, middle)
                yield from halve(middle, high)
                return
        yield low, high

    if everywhere:
        resolved = [place for place in range(len(row)) if ask(place) != UNRESOLVED]
    else:
        first = next((place for place in range(len(row)) if ask(place) != UNRESOLVED), len(row))
        resolved = [
            first,
            next((place for place in reversed(range(first, len(row))) if ask(place) != UNRESOLVED), first),
        ]
    found = [turn for low, high in pairwise(resolved) for turn in halve(low, high)]
    return tuple(Turn(row[low], row[high], tuple(row[low + 1 : high])) for low, high in found)
