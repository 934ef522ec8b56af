"""An author's signed runs, and a reviewer who trained two of them again and signs verdicts, all without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.results import Results, read_results
from ndrepro.analysis.results.reviewer_verdicts import Attestations, read_attestations
from ndrepro.execution.reproduce.verdict_attestation import attest
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import TrustPolicy


class Reviewed:
    """The author's runs, and a reviewer's folder with repetitions and verdicts of his own."""

    def __init__(self, root: Path) -> None:
        self.author, self.reviewer = SignedRuns(root / "author"), SignedRuns(root / "reviewer")
        one, two = (Experiment.from_name("lenet_bn_1_digits", {"seed": seed}) for seed in ("0", "1"))
        self.run = self.author.add(one, rows(1, 0.5))
        self.other = self.author.add(two, rows(1, 0.6))
        self.same = self.reviewer.add(one, rows(1, 0.5), run="20261122T100000Z-same00")
        self.unlike = self.reviewer.add(two, rows(1, 0.7), run="20261122T110000Z-unlike")
        self.author.close()
        self.reviewer.close()
        self.policy = TrustPolicy.load(self.author.home)
        self.policy.add(KeyRing(self.reviewer.home).public_key().pem, "reviewer")

    def sign(self, original: Path, again: Path, verdict: str, **predicate: Any) -> Path:
        """A verdict of the reviewer's, or of whose ``home`` is given; ``predicate`` overrides what it says."""
        home = predicate.pop("home", self.reviewer.home)
        policy = TrustPolicy.load(home)
        for whose, runs in (("author", self.author), ("reviewer", self.reviewer)):
            if policy.name_of(KeyRing(runs.home).keyid) is None:
                policy.add(KeyRing(runs.home).public_key().pem, whose)
        said: dict[str, Any] = {"run": original.name, "verdict": verdict, "challenge": None, "epochs": []}
        said |= {"differences": [], "claims": [], "repeated": [{"run": again.name, "claims": []}], **predicate}
        return attest(RunFolder(original), [RunFolder(again)], said, RunsFolder(self.reviewer.runs), home)

    def read(self, *folders: Path) -> tuple[Results, Attestations]:
        """What verifies below ``folders``, by default both, and the verdicts on it."""
        scores = read_results(folders or (self.author.runs, self.reviewer.runs), policy=self.policy)
        return scores, read_attestations(scores, self.policy)
