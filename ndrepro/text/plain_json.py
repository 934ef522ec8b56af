"""The JSON of what commands and reports print: dataclasses by their fields, NaN and infinities as words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Objects, arrays, texts and numbers of any result; an object with ``to_json`` is what that returns."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    wild = isinstance(value, float) and not math.isfinite(value)
    return str(value) if wild or isinstance(value, Path) else value
