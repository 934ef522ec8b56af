"""What reading scores costs: a folder of many manifests, each really signed, verified once and then found unchanged.

The manifests are those of a real run, some 90 distributions and 35 kB each, with another identifier, seed and result;
``NDREPRO_BENCH_MANIFESTS`` says how many (20,000: 750 MB). Times are processor time for 100,000, of the first reading
half of it, since it is shared by two cores; every reading is a process of its own, and reports its peak memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, result

_COUNT = int(os.environ.get("NDREPRO_BENCH_MANIFESTS", "20000"))
_AGAIN = 3
# what changed less than two seconds before it was read is verified once more
_SETTLES_SECONDS = 2.5
_WHOSE = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
_MEGABYTE = 1 << 10  # ru_maxrss counts KiB
_SAMPLE = Path(__file__).parents[1] / "docs" / "runs" / "vgg16_nd_1" / "manifest.dsse.json"


@dataclass(frozen=True)
class Reading:
    """One reading: processor seconds until every score is known, and the peak of memory that it needed in MiB."""

    seconds: float
    megabytes: float


def first_reading() -> Result:
    """Every manifest verified, its signature included, and the cache written."""
    seconds = _readings(_COUNT)[0].seconds * 100_000 / _COUNT
    return result(f"scores of 100,000 manifests (from {_COUNT:,})", [seconds / 2], 150.0, "CPU s a core, of two")


def unchanged() -> Result:
    """The same folder again: every file looked at, the ledger read, every score out of the cache."""
    values = [reading.seconds * 100_000 / _COUNT for reading in _readings(_COUNT)[1:]]
    return result(f"the same, unchanged (from {_COUNT:,})", values, 15.0, "CPU s")


def memory() -> Result:
    """What the scores of 100,000 runs take in memory: they are held all at once."""
    values = [reading.megabytes * 100_000 / _COUNT for reading in _readings(_COUNT)]
    return result(f"memory for 100,000 scores (from {_COUNT:,})", values, 700.0, "MiB")


@cache
def _readings(count: int) -> list[Reading]:
    """The first reading of a new folder, and those after it."""
    with tempfile.TemporaryDirectory() as name:
        make_folder(Path(name) / "runs", Path(name) / "keys", count)
        time.sleep(_SETTLES_SECONDS)
        found = []
        for _ in range(1 + _AGAIN):
            words = [sys.executable, "-m", __name__, name, str(count)]
            told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found.append(Reading(**json.loads(told)))
    return found


def read(folder: Path, count: int) -> Reading:
    """Read a folder that ``make_folder`` made, in this process."""
    from ndrepro.analysis.results.results import read_results
    from provenance.attestation.trust import TrustPolicy

    policy, start, before = TrustPolicy.load(folder / "keys"), _cpu_seconds(), _peak()
    scores = read_results(folder / "runs", cache=folder / "keys" / "cache", policy=policy)
    finite = sum(row.finite for row in scores.rows)
    if not len(scores.rows) == finite == count:
        raise RuntimeError(f"{finite} of {count} verified: {scores.refused[:1]}")
    return Reading(_cpu_seconds() - start, _peak() - before)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEGABYTE


def _cpu_seconds() -> float:
    """Processor seconds of this process and of its workers that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, _WHOSE))


def make_folder(runs: Path, home: Path, count: int) -> None:
    """A folder of ``count`` signed runs and their ledger."""
    from provenance.attestation.dsse import PAYLOAD_TYPE, read_envelope, write_envelope
    from provenance.attestation.key_home import KeyRing
    from provenance.formats.digest import bytes_digest
    from provenance.ledger_entries.entry import Entry, EntryLine
    from provenance.signatures.public_key import pae

    signer, key = KeyRing(home).signer(), KeyRing(home).public_key()
    payload = read_envelope(_SAMPLE.read_bytes())[1]
    lines: list[EntryLine] = []

    def add(event: str, run: str, fields: dict[str, Any]) -> Entry:
        after = lines[-1].entry if lines else None
        lines.append(EntryLine.sign(event, run, fields, after=after, signer=signer, key=key))
        return lines[-1].entry

    for number in range(count):
        run = f"20261121T000000Z-{number:06x}"
        begun = add("begun", run, {"name": "vgg16_nd_1"})
        data = _variant(payload, run, number, begun)
        signature = signer.sign(pae(PAYLOAD_TYPE, data))
        envelope = write_envelope(PAYLOAD_TYPE, data, [(signer.public_key.keyid, bytes.fromhex(signature.signature))])
        folder = runs / "vgg16_nd_1" / run
        folder.mkdir(parents=True)
        (folder / "manifest.dsse.json").write_bytes(envelope)
        fields = {"outcome": "completed", "manifest": bytes_digest(envelope)}
        add("ended", run, fields)
    (runs / "ledger.jsonl").write_bytes(b"".join(line.to_bytes() + b"\n" for line in lines))


def _variant(payload: bytes, run: str, number: int, started: Any) -> bytes:
    """The payload of another run: identifier, seed, accuracy and ledger entry, in canonical JSON as before."""
    document = _parsed(payload)
    details, definition = document["predicate"]["runDetails"], document["predicate"]["buildDefinition"]
    asked = definition["externalParameters"]
    changes = (
        (f'"invocationId":"{details["metadata"]["invocationId"]}"', f'"invocationId":"{run}"'),
        ('"seed":0,', f'"seed":{number},'),
        *((f'"{stream}":"0"', f'"{stream}":"{number}"') for stream in asked["seeds"]),
        ('"test_accuracy":0.6926,"test_loss"', f'"test_accuracy":0.{5000 + number % 4999},"test_loss"'),
        (f'"digest":"{details["ledger"]["digest"]}"', f'"digest":"{started.digest}"'),
        (f'"sequence":{details["ledger"]["sequence"]}', f'"sequence":{started.sequence}'),
    )
    text = payload.decode("utf-8")
    for before, after in changes:
        text = text.replace(before, after, 1)
    return text.encode("utf-8")


@cache
def _parsed(payload: bytes) -> Any:
    return json.loads(payload)


if __name__ == "__main__":
    print(json.dumps(asdict(read(Path(sys.argv[1]), int(sys.argv[2])))))
