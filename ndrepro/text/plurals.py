"""A number with its noun."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``1,200 runs``: for nouns whose plural takes an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
