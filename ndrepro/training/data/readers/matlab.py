"""MATLAB files (.mat, versions 4 to 7.2), read by scipy: variables by name. Nothing in a file is run."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import DataError

# arrays of arrays, each of which has eight bytes or more, and zlib makes at most 1,032 bytes of one
_OF_ARRAYS, _MOST_IN_A_BYTE = ("cell", "struct", "object"), 1032 // 8


def read_mat(path: Path, content: bytes, *, simplified: bool = False) -> dict[str, Any]:
    """Every variable in the file by name; ``path`` is for messages.

    Arrays have MATLAB's own shape. ``simplified``: axes of length 1 are dropped, text is str, an array of structures
    is a list of dictionaries. Raises DataError for a damaged file or one that scipy does not read.
    """
    from scipy.io import loadmat, whosmat  # here, since most runs do without: it takes as long to import as numpy

    try:
        for name, shape, kind in whosmat(io.BytesIO(content)):
            if kind in _OF_ARRAYS and math.prod(shape) > _MOST_IN_A_BYTE * len(content):
                raise ValueError(f"{name}: an array of {math.prod(shape)} arrays in {len(content)} bytes")
        variables: dict[str, Any] = loadmat(io.BytesIO(content), simplify_cells=simplified)
    except Exception as error:  # of a damaged file scipy raises whatever its parsing runs into
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read as a MATLAB file ({reason})", "copy or download it afresh") from None
    return variables
