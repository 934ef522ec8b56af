"""How much may be unpacked from a file of somebody else's: what is compressed is not trusted to be small."""

from __future__ import annotations

from pathlib import Path

from ndrepro.protocol.errors import DataError

# images may be compressed, and no further
_LEAST_BYTES, _MOST_TIMES = 1 << 28, 100


def expect_unpacked(path: Path, unpacked: int, stored: int, cure: str) -> None:
    """Raises DataError with ``cure`` where ``stored`` bytes stand for more ``unpacked`` bytes than pixels explain."""
    most = max(_LEAST_BYTES, _MOST_TIMES * stored)
    if unpacked > most:
        raise DataError(f"{path}: {unpacked:,} bytes when unpacked, expected at most {most:,}", cure)
