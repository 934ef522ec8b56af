"""Reads TOML that people write: studies, cluster profiles, signing policies, claims, whatever such a file holds."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from provenance.errors import NotFoundError, UsageError
from provenance.formats.bounded_read import read_small

TOML_BYTES = 1 << 20
_MOST_PARTS = 100
# tomllib keeps every beginning of a dotted key, so the memory that a key takes grows with the square of its parts
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{_MOST_PARTS}}}")


def read_toml(path: Path, example: str, *, pipes: bool = False) -> dict[str, Any]:
    """The document in a file of TOML.

    Args:
        path: the file, of at most 1 MiB.
        example: where a right one can be seen: the hint of the error.
        pipes: whether it may be a pipe, which may wait for its writer.

    Raises NotFoundError where there is none, StorageError for one that cannot be read, is no regular file or is too
    large, UsageError for what is not TOML.
    """
    try:
        data = read_small(path, pipes=pipes, limit=TOML_BYTES)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", "check the path") from None
    try:
        return parse_toml(data.decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {error}", example) from None


def parse_toml(text: str) -> dict[str, Any]:
    """A text of TOML as a document. Raises ValueError for any other text, and for one that only harms its reader."""
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("arrays or tables are nested too deeply") from None
    except ValueError:  # of int() alone
        raise ValueError(f"a number of more than {sys.get_int_max_str_digits()} digits") from None
