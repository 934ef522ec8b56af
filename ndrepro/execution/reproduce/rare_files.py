"""The order in which a claim names files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from ndrepro.execution.programs.input_files import is_code


def rare_first(paths: Iterable[str]) -> list[str]:
    """Source first, then files of rare kinds: one of them may be behind many of another kind."""
    kinds = Counter(map(_kind, names := [*paths]))
    return sorted(names, key=lambda name: (not is_code(name), kinds[_kind(name)], name))


def _kind(path: str) -> str:
    """The end of a file's name, or the whole of a hidden file's."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1] or name * name.startswith(".")
