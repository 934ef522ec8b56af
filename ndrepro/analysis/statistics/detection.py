"""The probability that a spot check draws a false epoch."""

from __future__ import annotations

from math import comb


def detection_probability(epochs: int, false: int, drawn: int) -> float:
    """The chance that at least one of ``false`` false epochs of ``epochs`` is among ``drawn`` epochs.

    Epochs are drawn without replacement, all equally likely (hypergeometric): 1 - C(n - k, s) / C(n, s). Raises
    ValueError where more are false or drawn than there are.
    """
    if not (0 <= false <= epochs and 0 <= drawn <= epochs):
        raise ValueError(f"{false} false and {drawn} drawn of {epochs} epochs")
    return 1.0 - comb(epochs - false, drawn) / comb(epochs, drawn)
