"""The results of a search, in a file beside the study's: ``studies/seeds.toml`` and ``studies/seeds.found.json``.

The file holds the description of the search and a row for every network and data set that has been searched to the
end of its budget, with the winner's values and the digests of its signed manifests. It is kept with the study, so that
everyone who runs the grid runs it with the same values. It is not signed: each run of the grid signs the values that
it had, and anyone can repeat the search in the same folder of runs, where nothing is trained twice. Rows of a
search with another description are kept and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.messages import read_json, write_json
from ndrepro.protocol.study.search_space import Search, SearchOutcome, Target, values_by_target

SCHEMA = "urn:ndrepro:found:v1"


def found_file(study: Path) -> Path:
    """The file of search results of the study in the file ``study``."""
    return study.with_suffix(".found.json")


def read_values(study: Path, search: Search) -> dict[Target, Mapping[str, float]]:
    """The values found so far; none where there is no file. Raises UsageError for a wrong one."""
    return values_by_target(search, read_found(found_file(study), search))


def read_found(path: Path, search: Search) -> tuple[SearchOutcome, ...]:
    """The rows of this very search in the order of the file. Raises UsageError for a file that is not one."""
    if not path.exists():
        return ()
    cure = "get the original file again, or remove it and search again"
    try:
        document = read_json(path)
        if document["schema"] != SCHEMA:
            raise UsageError(f"schema {document['schema']!r}, expected {SCHEMA!r}")
        rows = [(row.pop("search"), SearchOutcome.from_json(row)) for row in document["found"]]
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.cure or cure) from None
    except NdreproError as error:
        raise UsageError(error.message, cure) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path}: not what a search writes ({type(error).__name__}: {error})", cure) from None
    return tuple(found for asked, found in rows if asked == _plain(search))


def write_found(path: Path, search: Search, rows: Mapping[Target, SearchOutcome]) -> None:
    """Put the rows into the file, in place of older ones for the same targets; written whole or not at all."""
    kept = {found.target: found for found in read_found(path, search)} | dict(rows)
    document = {
        "schema": SCHEMA,
        "found": [{"search": _plain(search), **found.to_json()} for _, found in sorted(kept.items())],
    }
    write_json(path, document)


def _plain(search: Search) -> Any:
    """The search as JSON has it, so that a description read from a file equals one that was not."""
    return json.loads(json.dumps(search.to_document()))
