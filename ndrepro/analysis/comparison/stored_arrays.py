"""Reads the arrays in a file of ``numpy.savez`` that somebody else's code wrote: what is wrong is named.

Such are the outputs of operators that somebody sent, and the tensors that recorded code left in its sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import NdreproError
from provenance.formats.bounded_read import open_regular

if TYPE_CHECKING:
    import numpy.lib.npyio
    import numpy.typing

_MOST_BYTES = 1 << 28  # of a compressed array; others take on disk what they take in memory


class StoredArrays:
    """The arrays in one file, by their ``names``; ``cure`` is for messages."""

    def __init__(self, path: Path, stored: numpy.lib.npyio.NpzFile, cure: str) -> None:
        self.path = path
        self.names = tuple(stored.files)
        self._cure = cure
        self._stored = stored
        self._entries = {entry.filename: entry for entry in stored.zip.infolist()} if stored.zip else {}

    def read(self, name: str, about: str = "") -> numpy.typing.NDArray[Any]:
        """The array of that name. Raises NdreproError where it is not there, is too large or cannot be read."""
        import numpy as np

        where = f"{self.path}: array '{name}'{about}"
        entry = self._entries.get(f"{name}.npy")
        if entry is None:
            raise NdreproError(f"{where}: not there", self._cure)
        if entry.file_size > max(_MOST_BYTES, entry.compress_size):
            raise NdreproError(f"{where}: {entry.file_size:,} bytes, expected at most {_MOST_BYTES:,}", self._cure)
        try:
            array = self._stored[name]
        except Exception as error:  # the readers of zip files and of arrays raise a dozen kinds for damaged ones
            raise NdreproError(f"{where}: cannot be read ({_reason(error)})", self._cure) from None
        if not isinstance(array, np.ndarray):
            raise NdreproError(f"{where}: no array", self._cure)
        return array


@contextmanager
def stored_arrays(path: Path, cure: str) -> Iterator[StoredArrays]:
    """The arrays of a file, open. Raises NdreproError for a file that holds none."""
    import numpy as np

    try:
        content = open(open_regular(path), "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise NdreproError(f"{path}: cannot be read ({error.strerror})", cure) from None
    with content:  # numpy leaves a damaged file open
        try:
            stored = np.load(content, allow_pickle=False)
        except Exception as error:  # as above
            raise NdreproError(f"{path}: no arrays that can be read ({_reason(error)})", cure) from None
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise NdreproError(f"{path}: one array, expected a file of numpy.savez", cure)
        with stored:
            yield StoredArrays(path, stored, cure)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
