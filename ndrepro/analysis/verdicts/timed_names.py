"""Outputs whose names have the time: as Hydra (``outputs/2026-11-30/12-00-01``) and TensorBoard make folders for runs.

Of two runs such names differ. They are paired where nothing but times differs in them, and one pair alone fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_DAY = r"(?:19|20)\d\d(?:-\d\d-\d\d|_\d\d_\d\d|\.\d\d\.\d\d|\d{4})"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\d\d"
_FRACTION = r"(?:[.,]\d{3,9}|[-_]\d{6})?"  # as datetime's text and %f have it
_CLOCK = rf"\d\d[-_:.h]?\d\d(?:[-_:.m]?\d\d{_FRACTION})?"
_SECONDS = rf"1\d{{9}}(?:\d{{3}})?{_FRACTION}"
_TIME = re.compile(
    rf"(?<![0-9A-Za-z])(?:(?:{_DAY}|{_MONTH})(?:[-_T. ]+{_CLOCK})?|\d\d(?:-\d\d-|_\d\d_|:\d\d:)\d\d|{_SECONDS})(?!\d)",
    re.ASCII,
)


def pairs(then: Iterable[str], now: Iterable[str]) -> Mapping[str, str]:
    """Path then -> path now, of those that differ in times alone; none where two of a run would be one."""
    before, after = _by_form(then), _by_form(now)
    return {
        before[form][0]: after[form][0]
        for form in before.keys() & after.keys()
        if len(before[form]) == len(after[form]) == 1
    }


def _by_form(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        form = _TIME.sub("\0", path)
        if form != path:
            found.setdefault(form, []).append(path)
    return found
