"""What reading scores costs: a folder of many manifests, each really signed, verified once and then found unchanged.

The manifests are those of a real run, some 90 distributions and 35 kB each, with another identifier, seed and result;
``NDREPRO_BENCH_MANIFESTS`` says how many (3,000: 110 MB). Times are processor time for 100,000: of the first reading
half of it, since it is shared by two cores.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, result

_COUNT = int(os.environ.get("NDREPRO_BENCH_MANIFESTS", "3000"))
_SAMPLE = Path(__file__).parents[1] / "docs" / "runs" / "vgg16_nd_1" / "manifest.dsse.json"


def first_reading() -> Result:
    """Every manifest verified, its signature included, and the index written."""
    return result(f"index of 100,000 manifests (from {_COUNT:,})", [_times()[0] / 2], 60.0, "CPU s a core, of two")


def unchanged() -> Result:
    """The same folder again: every file looked at, nothing read but the index."""
    values = _times()[1]
    return result(f"the same, unchanged (from {_COUNT:,})", values, 1.0, "CPU s")


@cache
def _times() -> tuple[float, list[float]]:
    from ndrepro.analysis.scores import read_scores
    from provenance.trust import TrustPolicy

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "runs", folder / "keys", _COUNT)
        policy, index, seconds = TrustPolicy.load(folder / "keys"), folder / "index.sqlite", []
        for _ in range(4):
            start = sum(os.times()[:4])
            scores = read_scores(folder / "runs", index=index, policy=policy)
            seconds.append((sum(os.times()[:4]) - start) * 100_000 / _COUNT)
            if len(scores.rows) != _COUNT:
                raise RuntimeError(f"{len(scores.rows)} of {_COUNT} verified: {scores.refused[:1]}")
    return seconds[0], seconds[1:]


def make_folder(runs: Path, home: Path, count: int) -> None:
    """A folder of ``count`` signed runs and their ledger."""
    from provenance.digest import bytes_digest
    from provenance.ledger import Entry
    from provenance.signing import PAYLOAD_TYPE, KeyRing, pae, read_envelope, write_envelope

    signer = KeyRing(home).signer()
    payload = read_envelope(_SAMPLE.read_bytes())[1]
    previous, sequence, lines = "0" * 64, 0, []
    for number in range(count):
        run = f"20261121T000000Z-{number:06x}"
        begun, line = Entry.make(sequence + 1, "begun", run, {"name": "vgg16_nd_1"}, previous)
        lines.append(line)
        data = _variant(payload, run, number, begun)
        signature = signer.sign(pae(PAYLOAD_TYPE, data))
        envelope = write_envelope(PAYLOAD_TYPE, data, [(signer.public_key.keyid, bytes.fromhex(signature.signature))])
        folder = runs / "vgg16_nd_1" / run
        folder.mkdir(parents=True)
        (folder / "manifest.dsse.json").write_bytes(envelope)
        fields = {"outcome": "completed", "manifest": bytes_digest(envelope)}
        ended, line = Entry.make(sequence + 2, "ended", run, fields, begun.digest)
        lines.append(line)
        sequence, previous = ended.sequence, ended.digest
    (runs / "ledger.jsonl").write_bytes(b"\n".join([*lines, b""]))


def _variant(payload: bytes, run: str, number: int, begun: Any) -> bytes:
    """The payload of another run: identifier, seed, accuracy and ledger entry, in canonical JSON as before."""
    document = _parsed(payload)
    details, definition = document["predicate"]["runDetails"], document["predicate"]["buildDefinition"]
    asked = definition["externalParameters"]
    changes = (
        (f'"invocationId":"{details["metadata"]["invocationId"]}"', f'"invocationId":"{run}"'),
        ('"seed":0,', f'"seed":{number},'),
        *((f'"{stream}":"0"', f'"{stream}":"{number}"') for stream in asked["seeds"]),
        ('"test_accuracy":0.6926,"test_loss"', f'"test_accuracy":0.{5000 + number % 4999},"test_loss"'),
        (f'"digest":"{details["ledger"]["digest"]}"', f'"digest":"{begun.digest}"'),
        (f'"sequence":{details["ledger"]["sequence"]}', f'"sequence":{begun.sequence}'),
    )
    text = payload.decode("utf-8")
    for before, after in changes:
        text = text.replace(before, after, 1)
    return text.encode("utf-8")


@cache
def _parsed(payload: bytes) -> Any:
    return json.loads(payload)
