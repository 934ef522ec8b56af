"""A verified manifest as a row of the index, and back.

What a run shares with hundreds of others (experiment, settings, versions, who signed: its kind) is kept once, as JSON;
a row has what is its own. So an index is a fifth as large and read several times as fast.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ndrepro.analysis.results.examine import Examined, Unfinished
from ndrepro.analysis.results.result_row import Score

T = TypeVar("T")

NUMBERS = (
    "train_accuracy",
    "test_accuracy",
    "train_loss",
    "test_loss",
    "train_top5_accuracy",
    "test_top5_accuracy",
    "train_seconds",
)
# "folder" follows from the path, "signer" from the key, "manifest_digest" is a column of every manifest
OWN = ("run_id", "started", "payload_digest", "seed", "seeds", *NUMBERS)
_KIND = tuple(name for name in Score.__dataclass_fields__ if name not in (*OWN, "folder", "signer", "manifest_digest"))
COLUMNS = ("path", "kind", "digest", "sequence", "entry", "outcome", *OWN)


class Row(NamedTuple):
    """One verified manifest: who signed it, its kind, and the values of ``COLUMNS`` but for "kind"."""

    keyid: str
    kind: str
    path: bytes
    digest: bytes
    sequence: int
    entry: bytes
    outcome: str
    own: tuple[Any, ...]


def row_of(examined: Examined, keyids: Mapping[str, str]) -> Row:
    """The row of a manifest that was verified; ``keyids`` has the identifier of every trusted key by its name."""
    result = examined.result
    assert isinstance(result, Score | Unfinished)  # what was refused has no row
    if isinstance(result, Score):
        fields = vars(result)
        kind = {name: fields[name] for name in _KIND}
        numbers = (_stored(fields[name]) for name in NUMBERS)
        seeds = json.dumps(dict(result.seeds), sort_keys=True)
        own = (result.run_id, result.started, bytes.fromhex(result.payload_digest), result.seed, seeds, *numbers)
    else:
        kind, own = {"name": result.name}, (result.run_id, "", b"", 0, "{}", *(None for _ in NUMBERS))
    sequence, entry = examined.began
    ids = bytes.fromhex(examined.digest), sequence, bytes.fromhex(entry), examined.outcome
    return Row(keyids[result.signer], json.dumps(kind), os.fsencode(examined.path), *ids, own)


def score_from(values: tuple[Any, ...], kind: str, signer: str) -> Score:
    """The score in the values of "path", "digest" and ``OWN``."""
    path, digest, run_id, started, payload, seed, seeds, *numbers = values
    fields = dict(_parsed(kind))
    fields["folder"] = Path(os.fsdecode(os.path.dirname(path)))
    fields |= {"signer": signer, "manifest_digest": digest.hex(), "run_id": run_id, "started": started, "seed": seed}
    fields |= {"payload_digest": payload.hex(), "seeds": _parsed(seeds)}
    for name, number in zip(NUMBERS, numbers, strict=True):
        fields[name] = float(number) if type(number) is str else number
    return _made(Score, fields)


def unfinished_from(path: bytes, run_id: str, outcome: str, kind: str, signer: str) -> Unfinished:
    """The run that did not complete."""
    return Unfinished(run_id, Path(os.fsdecode(os.path.dirname(path))), _parsed(kind)["name"], outcome, signer)


def _stored(number: float | None) -> float | str | None:
    # SQLite has no NaN, and would store nothing in its place
    return number if number is None or -1e308 < number < 1e308 else repr(number)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    return json.loads(text)


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """A frozen dataclass with these fields: what its __init__ would do one by one, and five times as slowly."""
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made
