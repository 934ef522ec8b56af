"""Reads the arrays of a folder of operators' outputs, which somebody may have sent: what is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.operators.outputs import ARRAYS, OperatorOutput

if TYPE_CHECKING:
    import numpy.lib.npyio
    import numpy.typing

# how ``ndrepro.training.operators`` stores an output of each dtype
_STORED = {"float32": "float32", "float64": "float64", "bfloat16": "int16"}
_MOST_BYTES = 1 << 28  # of one array; the largest of real ones has a twentieth
_AGAIN = "measure again: ndrepro operators measure ENV -o FOLDER"


class OperatorArrays:
    """The arrays that are in one ``outputs.npz``."""

    def __init__(self, path: Path, stored: numpy.lib.npyio.NpzFile) -> None:
        self.path = path
        self._stored = stored
        self._sizes = {entry.filename: entry.file_size for entry in stored.zip.infolist()} if stored.zip else {}

    def of(self, output: OperatorOutput) -> numpy.typing.NDArray[Any]:
        """The array of an output. Raises NdreproError where it is not there, cannot be read, or has another dtype."""
        import numpy as np

        name = str(output.array)
        where = f"{self.path}: array '{name}' ({output.operation}, {output.output})"
        if output.dtype not in _STORED:
            raise NdreproError(f"{where}: dtype '{output.dtype}', expected one of {', '.join(_STORED)}", _AGAIN)
        if f"{name}.npy" not in self._sizes:
            raise NdreproError(f"{where}: not there", _AGAIN)
        if (size := self._sizes[f"{name}.npy"]) > _MOST_BYTES:
            raise NdreproError(f"{where}: {size:,} bytes, expected at most {_MOST_BYTES:,}", _AGAIN)
        try:
            array = self._stored[name]
        except Exception as error:  # the readers of zip files and of arrays raise a dozen kinds for damaged ones
            raise NdreproError(f"{where}: cannot be read ({_reason(error)})", _AGAIN) from None
        if not isinstance(array, np.ndarray):
            raise NdreproError(f"{where}: no array", _AGAIN)
        if array.dtype != np.dtype(_STORED[output.dtype]):
            found, expected = str(array.dtype)[:80], _STORED[output.dtype]
            raise NdreproError(f"{where}: {found}, expected {expected} for {output.dtype}", _AGAIN)
        return array


@contextmanager
def operator_arrays(folder: Path) -> Iterator[OperatorArrays]:
    """The arrays of a folder, open. Raises NdreproError for a file that holds none."""
    import numpy as np

    path = folder / ARRAYS
    try:
        content = path.open("rb")
    except OSError as error:
        raise NdreproError(f"{path}: cannot be read ({error.strerror})", _AGAIN) from None
    with content:  # numpy leaves a damaged file open
        try:
            stored = np.load(content, allow_pickle=False)
        except Exception as error:  # as above
            raise NdreproError(f"{path}: no arrays that can be read ({_reason(error)})", _AGAIN) from None
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise NdreproError(f"{path}: one array, expected a file of numpy.savez", _AGAIN)
        with stored:
            yield OperatorArrays(path, stored)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
