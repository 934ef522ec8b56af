"""What the callbacks have in common: numbers into rows, settings into a note, files into artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provenance.formats.folder_tree import files_below
from provenance.recording.script_run import Session


def scalars(metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """The finite and other numbers among some metrics; tensors of one element as numbers, anything else left out.

    A metric called "step" is left out: the row has the library's own count of optimizer steps.
    """
    found: dict[str, int | float] = {}
    for name, value in metrics.items():
        number = value.item() if hasattr(value, "item") and getattr(value, "numel", lambda: 1)() == 1 else value
        if isinstance(number, int | float) and not isinstance(number, bool) and name != "step":
            found[name] = number
    return found


def as_json(settings: Any) -> Any:
    """Settings as plain JSON; what is none by its text, without the address that an object's default text has."""
    return json.loads(json.dumps(settings, default=_text, allow_nan=False, skipkeys=True))


def keep_checkpoint(run: Session, path: str | Path | None) -> None:
    """Copy a checkpoint, a file or a folder of files, into the run's artifacts; nothing where there is none."""
    place = Path(path) if path else None
    if place is None or not place.exists():
        return
    files = [place] if place.is_file() else [each for each in files_below(place) if each.is_file()]
    for file in files:
        name = file.name if file == place else f"{place.name}/{file.relative_to(place).as_posix()}"
        run.artifact(file, f"checkpoints/{name}")


def _text(value: Any) -> str:
    text = str(value)
    return f"<{type(value).__module__}.{type(value).__qualname__}>" if " object at 0x" in text else text
