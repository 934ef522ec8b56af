"""What the ledger costs: an entry that sixteen processes append at once, and a list of 100,000 that is verified."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Result, cpu_seconds, result

_WRITERS, _EACH = 16, 40
# each at a pace of its own, as runs begin and end: together 80 entries a second, more than any cluster of them writes
_PAUSE_SECONDS = 0.2
_ENTRIES, _ROUNDS = 100_000, 3


def sixteen_writers() -> Result:
    """Milliseconds until an entry is signed, chained and on the disk, while fifteen others append too."""
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", __name__, name]
        children = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(_WRITERS)]
        told = [child.communicate()[0] for child in children]
        from provenance.attestation.ledger import Ledger

        ledger = Ledger(Path(name) / "ledger.jsonl")
        if ledger.verify() or len(ledger.entries()) != _WRITERS * _EACH:
            raise RuntimeError(f"{ledger.path}: not whole")
    values = [statistics.median(json.loads(line)) for line in told]
    return result(f"an entry appended, with {_WRITERS} writers", values, 5.0, "ms")


def long_ledger() -> Result:
    """Processor seconds to verify a ledger of 100,000 entries with its signatures."""
    from provenance.attestation.key_home import KeyRing
    from provenance.attestation.ledger import Ledger
    from provenance.ledger_entries.entry import EntryLine

    with tempfile.TemporaryDirectory() as name:
        ring, ledger = KeyRing(Path(name) / "keys"), Ledger(Path(name) / "ledger.jsonl")
        signer, key, last = ring.signer(), ring.public_key(), None
        with ledger.path.open("wb") as stream:
            for number in range(_ENTRIES):
                event, fields = ("ended", {"outcome": "completed"}) if number % 2 else ("begun", {"name": "vgg16_nd_1"})
                run = f"20261121T000000Z-{number // 2:06x}"
                line = EntryLine.sign(event, run, fields, after=last, signer=signer, key=key)
                stream.write(line.to_bytes() + b"\n")
                last = line.entry
        if ledger.verify([key]):
            raise RuntimeError(f"{ledger.path}: not whole")
        values = [cpu_seconds(lambda: ledger.summary([key])) for _ in range(_ROUNDS)]
    return result(f"a ledger of {_ENTRIES:,} entries", values, 5.0, "CPU s")


def _append(folder: Path) -> list[float]:
    """Milliseconds of each append of one writer."""
    from provenance.attestation.key_home import KeyRing
    from provenance.attestation.ledger import Ledger

    ledger, signer, found = Ledger(folder / "ledger.jsonl"), KeyRing(folder / "keys").signer(), []
    run = f"run-{time.time_ns()}"
    for number in range(_EACH):
        time.sleep(_PAUSE_SECONDS)
        start = time.perf_counter()
        ledger.append("begun", run, signer, number=number)
        found.append(1000 * (time.perf_counter() - start))
    return found


if __name__ == "__main__":
    print(json.dumps(_append(Path(sys.argv[1]))))
