"""CITATION.cff of an archive of runs: who made it, what it is called, when, under which licence.

Source: https://citation-file-format.github.io (schema 1.2.0)
"""

from __future__ import annotations

import json
from collections.abc import Sequence

_SPDX = "https://spdx.org/licenses/"


def citation_file(title: str, authors: Sequence[str], date: str, licence: str | None, keyids: Sequence[str]) -> bytes:
    """The bytes of the file.

    Args:
        title: the archive's title.
        authors: people as "Family, Given", others as they are called; where none is given, the holders of ``keyids``,
            since that is all that is known of them.
        date: the day of release, YYYY-MM-DD.
        licence: an identifier of SPDX, or None.
        keyids: the keys that signed the runs.
    """
    lines = [
        "cff-version: 1.2.0",
        "message: If you use these runs, please cite them as below.",
        "type: dataset",
        f"title: {_text(title)}",
        "authors:",
    ]
    for author in authors or [f"holder of the signing key {keyid}" for keyid in keyids]:
        family, comma, given = (part.strip() for part in author.partition(","))
        if comma and family and given:
            lines += [f"  - family-names: {_text(family)}", f"    given-names: {_text(given)}"]
        else:
            lines.append(f"  - name: {_text(author)}")
    lines.append(f"date-released: {_text(date)}")
    if licence:
        lines.append(f"license: {_text(licence)}")
    return ("\n".join(lines) + "\n").encode("utf-8")


def licence_url(licence: str | None) -> str | None:
    """The page of a licence of SPDX's list."""
    return None if licence is None else f"{_SPDX}{licence}"


def _text(value: str) -> str:
    """A string of YAML, which every string of JSON is."""
    return json.dumps(value, ensure_ascii=False)
