"""An authority's time stamp of a manifest: what it proves, and what is put in its place. The authority is openssl's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from small_runs import SmallRun

from ndrepro import api
from ndrepro.protocol.errors import UsageError
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.verdict import Check
from provenance.errors import NotFoundError, TrustError
from provenance.timestamps.authority_stamp import with_timestamp

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
CONFIGURATION = """
[tsa]
default_tsa = here
[here]
dir = .
serial = ./serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha512
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class Authority:
    """A root and a time stamping certificate below it; answers as a server would, with openssl."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.root = folder, folder / "root.pem"
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = self._certificate("An authority", root_key, root_key, None)
        stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        signer = self._certificate("Its stamp", key, root_key, stamping)
        self.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / "signer.pem").write_bytes(signer.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        (folder / "signer.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        (folder / "tsa.cnf").write_text(CONFIGURATION)
        (folder / "serial").write_text("01")

    @staticmethod
    def _certificate(
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: ec.EllipticCurvePrivateKey,
        usage: x509.ExtendedKeyUsage | None,
    ) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, "An authority")]
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        if usage is not None:
            made = made.add_extension(usage, critical=True)
        return made.sign(issuer, hashes.SHA256())

    def stamp(self, file: Path, digest: str = "sha256") -> Path:
        """The authority's answer for a file."""
        for words in (
            ["-query", "-data", str(file.absolute()), f"-{digest}", "-cert", "-out", "asked.tsq"],
            [
                "-reply",
                "-config",
                "tsa.cnf",
                "-queryfile",
                "asked.tsq",
                "-signer",
                "signer.pem",
                "-inkey",
                "signer.key",
                "-out",
                "got.tsr",
            ],
        ):
            subprocess.run(["openssl", "ts", *words], cwd=self.folder, check=True, capture_output=True)
        return self.folder / "got.tsr"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "one")


def checked(run: SmallRun, response: Path, root: Path) -> Check:
    verdict = with_timestamp(run.verify(), run.manifest, response, root)
    assert verdict.ok == (verdict.checks[-1].status == "pass"), "it can make a run fail, and never pass"
    return verdict.checks[-1]


def test_the_authority_s_time_is_found_and_said(signed_run: SmallRun, authority: Authority) -> None:
    check = checked(signed_run, authority.stamp(signed_run.manifest), authority.root)
    assert (check.number, check.name, check.status) == (9, "time stamp", "pass")
    assert f"was there on {datetime.now(UTC):%Y-}" in check.message and "CN=An authority" in check.message


def test_a_countersignature_after_the_stamp_leaves_it(
    signed_run: SmallRun, authority: Authority, tmp_path: Path
) -> None:
    response = authority.stamp(signed_run.manifest)
    digest = signed_run.verify().payload_digest
    assert digest is not None
    countersign(signed_run.manifest, digest, KeyRing(tmp_path / "reviewer"))
    assert checked(signed_run, response, authority.root).status == "pass"


def test_what_is_put_in_its_place_is_refused(
    small_run: Callable[..., SmallRun], authority: Authority, tmp_path: Path
) -> None:
    run, other, later = small_run("run"), small_run("other"), small_run("later")
    run.record(), other.record()
    later.record(finished="2999-01-01T00:00:00.000000Z", started="2999-01-01T00:00:00.000000Z")
    own = authority.stamp(run.manifest).read_bytes()
    response = tmp_path / "answer.tsr"
    flipped = bytearray(own)
    flipped[-20] ^= 1
    strangers = Authority(tmp_path / "another").stamp(run.manifest).read_bytes()
    of_another, of_later = (authority.stamp(each.manifest).read_bytes() for each in (other, later))
    weaker = authority.stamp(run.manifest, "sha512").read_bytes()
    attempts = {
        "of another run": (run, of_another, "other content"),
        "by another authority": (run, strangers, "does not hold"),
        "changed": (run, bytes(flipped), "does not hold"),
        "cut off": (run, own[:200], "does not hold"),
        "no answer": (run, b"stamped", "does not hold"),
        "empty": (run, b"", "does not hold"),
        "another digest": (run, weaker, "no SHA-256"),
        "of a run that ended later": (later, of_later, "before the run ended"),
    }
    for what, (which, data, message) in attempts.items():
        response.write_bytes(data)
        check = checked(which, response, authority.root)
        assert check.status == "fail" and message in check.message, (what, check.message)
    response.write_bytes(own)
    assert checked(run, response, authority.root).status == "pass", "the control"


def test_files_that_are_none_are_named(signed_run: SmallRun, authority: Authority, tmp_path: Path) -> None:
    response = authority.stamp(signed_run.manifest)
    with pytest.raises(TrustError, match="no certificates in PEM"):
        checked(signed_run, response, signed_run.manifest)
    with pytest.raises(NotFoundError, match="no such file"):
        checked(signed_run, tmp_path / "none.tsr", authority.root)
    with pytest.raises(UsageError, match="go together"):
        api.verify(signed_run.folder, timestamp=response)
