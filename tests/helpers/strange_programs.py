"""A dishonest author's recorded program, handed in to a reviewer who trusts the author's key and executes it again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from program_projects import current_folder

from ndrepro import api
from ndrepro.execution.programs.command import resolve_command
from ndrepro.execution.programs.program_run import ProgramRequest, record_program
from ndrepro.execution.sandbox.sandbox import AUTO, choose
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import write_json
from ndrepro.protocol.program_record import INPUTS, LISTED
from ndrepro.protocol.verdicts import NO_SANDBOX
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.run_files import inventory
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

CONFINED = choose(AUTO, container=False)[0] != NO_SANDBOX


@dataclass(frozen=True)
class Stranger:
    """The author's repository and key, and the reviewer's folder, a clone made in ``reproduce``; all below ``top``.

    The file "author's machine" below ``top`` is how a program knows where it runs: the sandbox does not show it.
    """

    top: Path

    @classmethod
    def make(cls, top: Path, files: dict[str, str | bytes]) -> Stranger:
        made = cls(top)
        made.root.mkdir(parents=True)
        for name, text in {".gitignore": "runs\n", **files}.items():
            path = made.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(0o755)
        made.git("init", "-q")
        made.git("add", "-A", "-f")
        made.git("commit", "-qm", "first")
        TrustPolicy.load(made.reviewer).add(KeyRing(made.home).public_key().pem, "author")
        return made

    @property
    def root(self) -> Path:
        return self.top / "project"

    @property
    def home(self) -> Path:
        return self.top / "author"

    @property
    def reviewer(self) -> Path:
        return self.top / "reviewer"

    def git(self, *words: str) -> str:
        named = ("git", "-c", "user.name=a", "-c", "user.email=a@b", *words)
        return subprocess.run(named, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def record(self, *words: str, **asked: Any) -> RunFolder:
        """Record words in the repository, ``train.py`` where there are none."""
        command = resolve_command(words or (sys.executable, "train.py"), "fit")
        with current_folder(self.root):
            request = ProgramRequest(command, **{"trail": "off", **asked})
            return record_program(request, RunsFolder(self.top / "runs"), self.home).folder

    def claim(self, run: RunFolder, asked: dict[str, Any] | None = None, **changes: Any) -> None:
        """Sign the run again with other claims, ``asked`` among what was asked for."""
        if asked is not None:
            changes["external_parameters"] = {**manifest_of(run).external_parameters, **asked}
            write_json(run.program, changes["external_parameters"])
        manifest = replace(manifest_of(run), **{"artifacts": inventory(run.root).artifacts, **changes})
        signed = sign_envelope(Statement.about(manifest).to_bytes(), KeyRing(self.home).signer())
        run.manifest.write_bytes(signed)

    def claim_inputs(self, run: RunFolder, change: Callable[[list[Any]], list[Any]]) -> None:
        """Sign the run again with another list of inputs, of which ``change`` makes the recorded one."""
        files = change(json.loads(run.inputs.read_text())["files"])
        document = canonical_bytes({"files": files})
        run.inputs.write_bytes(document)
        facts = {"count": len(files), "bytes": sum(file.get("size") or 0 for file in files), "files": files[:LISTED]}
        inputs = Resource(INPUTS, digest={"sha256": bytes_digest(document)}, annotations=facts)
        known = manifest_of(run).dependencies
        self.claim(run, dependencies=tuple(inputs if each.name == INPUTS else each for each in known))

    def clone(self) -> Path:
        """The reviewer's clone of the repository, made anew."""
        place = self.top / "review"
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", self.root, place], check=True)
        return place

    def reproduce(self, run: RunFolder, *, clone: bool | Path = True, **options: Any) -> api.Reproduction:
        """``ndrepro reproduce`` in the reviewer's clone of the repository, made already or now, or in a folder that is
        none."""
        place = clone if isinstance(clone, Path) else self.top / "review"
        if clone is False:
            shutil.rmtree(place, ignore_errors=True)
        elif clone is True:
            self.clone()
        handed_in = place / "runs" / "fit" / run.root.name
        shutil.copytree(run.root, handed_in)
        before = os.environ.get("NDREPRO_HOME")
        os.environ["NDREPRO_HOME"] = str(self.reviewer)
        try:
            with current_folder(place):
                return api.reproduce(handed_in, **{"trust_code": not CONFINED, **options})
        finally:
            if before is None:
                del os.environ["NDREPRO_HOME"]
            else:
                os.environ["NDREPRO_HOME"] = before


def manifest_of(run: RunFolder) -> Manifest:
    return Statement.from_bytes(read_envelope(run.manifest.read_bytes())[1]).manifest


def statuses(found: api.Reproduction) -> dict[str, str]:
    """The status of each claim on the repetition."""
    return {item.name: item.status for item in found.judgements[0].claims}
