"""What is written in place of a secret."""

from __future__ import annotations


def marker(kind: str) -> str:
    """The mark that a secret of this kind leaves."""
    return f"[redacted:{kind}]"
