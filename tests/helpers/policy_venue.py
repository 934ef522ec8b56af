"""An author's run, two reviewers of it, and a reader with a policy: for tests of who counts as whom."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from reviewed_runs import Reviewed

from ndrepro.analysis.results.policy_checks import with_policy
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.signing_policy import SigningPolicy
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify

VERDICTS = {"at_least": 1, "sandboxed": False}


class Venue:
    """An author's run, two reviewers, and a reader who trusts all of them and has a policy."""

    def __init__(self, root: Path) -> None:
        self.reviewed = Reviewed(root)
        self.author = KeyRing(self.reviewed.author.home)
        self.rita, self.ron = KeyRing(self.reviewed.reviewer.home), KeyRing(root / "ron")
        self.run = self.reviewed.run
        shutil.copytree(self.reviewed.same, self.reviewed.author.runs / "x" / self.reviewed.same.name)
        self.reader = root / "reader"
        trust = TrustPolicy.load(self.reader)
        for name, ring in (("Ada", self.author), ("Rita", self.rita), ("Ron", self.ron)):
            trust.add(ring.public_key().pem, name)
        self.signers: dict[str, dict[str, Any]] = {
            "ada": {"keys": [self.author.keyid], "roles": ["author"]},
            "rita": {"keys": [self.rita.keyid], "roles": ["reviewer"]},
            "ron": {"keys": [self.ron.keyid], "roles": ["reviewer"]},
        }

    def judge(self, **document: Any) -> dict[str, str]:
        """What the policy's checks say: "pass" or the message, by name; and whether all is well under "ok"."""
        policy = SigningPolicy.from_document({"signers": self.signers, **document}, "policy.toml")
        trust = TrustPolicy.load(self.reader)
        verdict = with_policy(verify(self.run, trust=trust), policy, trust, RunFolder(self.run))
        found = {check.name: "pass" if check.status == "pass" else check.message for check in verdict.checks[8:]}
        return {**{name.removeprefix("policy, "): said for name, said in found.items()}, "ok": str(verdict.ok)}

    def reproduce(self, ring: KeyRing, **said: Any) -> Path:
        """A verdict beside the author's runs."""
        path = self.reviewed.sign(
            self.run, self.reviewed.same, said.pop("verdict", "identical"), home=ring.home, **said
        )
        there = self.reviewed.author.runs / "verdicts" / f"{ring.keyid[:8]}-{path.name}"
        there.parent.mkdir(exist_ok=True)
        return Path(shutil.move(path, there))

    def countersign(self, ring: KeyRing) -> None:
        """The ring's signature on the run's manifest."""
        verdict = verify(self.run, trust=TrustPolicy.load(self.reader))
        assert verdict.payload_digest
        countersign(self.run / "manifest.dsse.json", verdict.payload_digest, ring)
