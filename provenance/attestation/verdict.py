"""What ``provenance.attestation.verify`` returns: the result of each check, and of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from provenance.attestation.manifest import Manifest

Status = Literal["pass", "fail", "skip"]


@dataclass(frozen=True)
class Check:
    """One check's result: what was found, and what to do about it where it failed."""

    number: int
    name: str
    status: Status
    message: str
    cure: str = ""


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        checks: every check, in order.
        manifest: None unless checks 1 to 3 passed.
        signers: the names of all trusted keys that signed, in the order of their signatures; none unless checks 1 and
            2 passed.
        ok: whether the run verifies.
        digests: SHA-256 of the manifest as its recorder wrote it, once with each trusted signature.
        digest: the one that the ledger names, else the first; None without a trusted signature.
        payload_digest: SHA-256 of the bytes that were signed; None likewise.
        changed: names of the files that are in the folder and are not those that were signed (check 6).
        keyids: the identifiers of the keys of ``signers``.
    """

    checks: tuple[Check, ...]
    manifest: Manifest | None
    signers: tuple[str, ...]
    ok: bool
    digests: tuple[str, ...] = ()
    digest: str | None = None
    payload_digest: str | None = None
    changed: tuple[str, ...] = ()
    keyids: tuple[str, ...] = ()

    @property
    def signer(self) -> str | None:
        """The names of all trusted keys that signed, in one text; None where there is none."""
        return ", ".join(self.signers) or None

    @property
    def manifest_ok(self) -> bool:
        """Whether the manifest itself verifies (checks 1 to 4, and 8 where there is a ledger), whatever the files."""
        checks = {check.number: check.status for check in self.checks}
        return all(checks[number] == "pass" for number in range(1, 5)) and checks[8] != "fail"

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.status == "fail"), None)

    def to_json(self) -> dict[str, Any]:
        """Whether the run verifies, the signers, and every check; not the manifest itself."""
        checks = [asdict(check) for check in self.checks]
        return {"ok": self.ok, "signer": self.signer, "signers": list(self.signers), "checks": checks}


@dataclass(frozen=True)
class CheckResult:
    """What a caller's own check returns; ``verify`` numbers it."""

    name: str
    status: Status
    message: str
    cure: str = ""


ExtraCheck = Callable[[Path, Manifest], CheckResult]
