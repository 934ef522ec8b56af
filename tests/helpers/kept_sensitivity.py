"""Kept manifests of a study, unpacked and verified, as a sensitivity analysis reads them."""

import tarfile
from pathlib import Path

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity, sensitivity_of
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey


def unpacked(kept: Path, folder: Path) -> RunsFolder:
    """The runs of the archive in ``kept``, in ``folder``."""
    with tarfile.open(kept / "manifests.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return RunsFolder(folder)


def analysed(kept: Path, runs: RunsFolder) -> Sensitivity:
    """The analysis of runs that the author's key beside the archive signed."""
    key = PublicKey.from_pem((kept / "author.pub").read_bytes())
    policy = TrustPolicy(Path(), None, (TrustedKey(key.pem, key.keyid, "the author", ""),))
    return sensitivity_of(read_results(runs.root, policy=policy), AnalysisOptions())


def numbers(page: str) -> list[str]:
    """Rows of every table from the numbers on: trails are not kept, and bits are above them."""
    return [line for line in page[page.index("## Numbers") :].splitlines() if line.startswith("| ")]
