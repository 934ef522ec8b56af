"""A run of ``provenance.record``, really recorded in this process; and what an author with the key can make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import provenance
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import inventory
from provenance.attestation.statement import Statement


@dataclass(frozen=True)
class ScriptRun:
    """The run in ``top/runs``, signed with the key in ``top/home``; ``place`` is its path from ``top``."""

    top: Path
    place: Path

    @property
    def folder(self) -> Path:
        return self.top / self.place

    @property
    def home(self) -> Path:
        return self.top / "home"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.top / "runs" / "ledger.jsonl")

    @property
    def manifest(self) -> Manifest:
        envelope = (self.folder / "manifest.dsse.json").read_bytes()
        return Statement.from_bytes(read_envelope(envelope)[1]).manifest


def record_script(top: Path, *, name: str = "fit", rate: float = 0.1, home: Path | None = None) -> ScriptRun:
    """Record a few steps below ``top``; ``home`` is ``top/home`` where it is left out."""
    given: dict[str, Any] = {"parameters": {"rate": rate}, "seeds": {"numpy": 3}}
    with provenance.record(name=name, runs=top / "runs", home=home or top / "home", **given) as run:
        loss = 1.0
        for step in (1, 2):
            loss *= 1 - rate
            run.log(step=step, loss=loss)
        run.note("converged", False)
    return ScriptRun(top, run.folder.relative_to(top.absolute()))


def sign_again(run: ScriptRun, **changes: Any) -> None:
    """Sign the folder as it is now, with other claims."""
    manifest = replace(run.manifest, **{"artifacts": inventory(run.folder).artifacts, **changes})
    signed = sign_envelope(Statement.about(manifest).to_bytes(), KeyRing(run.home).signer())
    (run.folder / "manifest.dsse.json").write_bytes(signed)
