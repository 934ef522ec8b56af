"""An authority's time stamp of a manifest: what it proves, and what is put in its place. The authority is openssl's."""

from __future__ import annotations

import shutil
import subprocess
import time
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
from provenance.attestation import key_lifecycle
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import keep
from provenance.attestation.trust import OWN_NAME, TrustPolicy
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import NotFoundError, TrustError
from provenance.formats.strict_json import timestamp
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
    """A root and a time stamping certificate below it; answers as a server would, with openssl.

    With ``between`` another authority is between the two, and the answers hold the whole chain.
    """

    def __init__(self, folder: Path, between: bool = False) -> None:
        folder.mkdir()
        self.folder, self.root = folder, folder / "root.pem"
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root = self._certificate("An authority", root_key, root_key, None)
        stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        self.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        issuer, issuer_key = root, root_key
        if between:
            issuer_key = ec.generate_private_key(ec.SECP256R1())
            issuer = self._certificate("One between", issuer_key, root_key, None)
        signer = self._certificate("Its stamp", key, issuer_key, stamping, issuer.subject)
        chain = [signer, issuer, root] if between else []
        (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
        self.chain = ["-chain", "chain.pem"] if between else []
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
        issued_by: x509.Name | None = None,
    ) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, "An authority")]
        names[1] = issued_by or names[1]
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
                *self.chain,
                "-out",
                "got.tsr",
            ],
        ):
            subprocess.run(["openssl", "ts", *words], cwd=self.folder, check=True, capture_output=True)
        return self.folder / "got.tsr"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "one")


def _renamed(authority: Authority) -> bytes:
    """The root of another authority, of another name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody else")])
    return authority._certificate("Somebody else", key, key, None, name).public_bytes(serialization.Encoding.PEM)


def checked(run: SmallRun, response: Path, root: Path) -> Check:
    verdict = with_timestamp(run.verify(), run.manifest, response, root, TrustPolicy.load(run.home))
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


def test_a_signature_that_was_added_after_the_stamp_is_not_stamped(
    signed_run: SmallRun, authority: Authority, tmp_path: Path
) -> None:
    """A thief of Ada's key countersigns Bob's run: its time is the run's, and the stamp is Bob's."""
    trust, bob, ada = TrustPolicy.load(signed_run.home), KeyRing(signed_run.home), KeyRing(tmp_path / "ada")
    trust.add(ada.public_key().pem, "Ada")
    response = tmp_path / "bobs.tsr"
    shutil.copy(authority.stamp(signed_run.manifest), response)
    shutil.copytree(ada.home, tmp_path / "thief")
    _, revocation = key_lifecycle.revoke(ada, None, timestamp(), "stolen")
    digest = signed_run.verify().payload_digest
    assert digest is not None
    countersign(signed_run.manifest, digest, KeyRing(tmp_path / "thief"))

    def verdict(stamp: Path) -> Verdict:
        trust = TrustPolicy.load(signed_run.home)
        return with_timestamp(signed_run.verify(trust=trust), signed_run.manifest, stamp, authority.root, trust)

    assert verdict(response).keyids == (bob.keyid, ada.keyid), "the control: as far as the reader knows"
    keep(signed_run.home, revocation.read_bytes())
    found = verdict(response)
    assert found.ok and found.keyids == (bob.keyid,)
    assert f"signed by {OWN_NAME}, was there" in found.checks[-1].message
    assert f"not counted: Ada ({ada.keyid}), whose key had ended" in found.checks[-1].message
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'[signers.bob]\nkeys = ["{bob.keyid}"]\nroles = ["author"]\n'
        f'[signers.ada]\nkeys = ["{ada.keyid}"]\nroles = ["reviewer"]\n[signatures]\nreviewer = 1\n'
    )
    public = [tmp_path / name for name in ("bob.pub", "ada.pub")]
    for file, ring in zip(public, (bob, ada), strict=True):
        file.write_text(ring.public_key().pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NDREPRO_HOME", str(signed_run.home))
        asked = {"keys": public, "manifest_only": True, "policy": policy}
        assert api.verify(signed_run.manifest, **asked).ok, "the control: without a stamp its time is the run's"
        judged = api.verify(signed_run.manifest, timestamp=response, authority=authority.root, **asked)
    assert not judged.ok and "signed by nobody who counts" in judged.checks[-1].message


def test_a_stamp_counts_for_a_key_that_has_ended_where_it_is_from_before_the_end(
    signed_run: SmallRun, authority: Authority, tmp_path: Path
) -> None:
    """A thief's countersignature, which states the run's time, can be stamped as well: later."""
    bob, ada, digest = KeyRing(signed_run.home), KeyRing(tmp_path / "ada"), signed_run.verify().payload_digest
    assert digest is not None
    TrustPolicy.load(signed_run.home).add(ada.public_key().pem, "Ada")
    countersign(signed_run.manifest, digest, ada)
    before, after = tmp_path / "before.tsr", tmp_path / "after.tsr"
    shutil.copy(authority.stamp(signed_run.manifest), before)
    for key in (ada, bob):
        time.sleep(1)  # stamps are of whole seconds
        _, revocation = key_lifecycle.revoke(key, None, timestamp(), "stolen")
        keep(signed_run.home, revocation.read_bytes())
        time.sleep(1)
        shutil.copy(authority.stamp(signed_run.manifest), after)
        trust = TrustPolicy.load(signed_run.home)
        known, late = (
            with_timestamp(signed_run.verify(trust=trust), signed_run.manifest, stamp, authority.root, trust)
            for stamp in (before, after)
        )
        assert known.ok and known.keyids == (bob.keyid, ada.keyid), "the control"
        assert f"not counted: Ada ({ada.keyid}), whose key had ended" in late.checks[-1].message
        assert late.keyids == ((bob.keyid,) if key is ada else ())
        assert late.ok == (key is ada), "somebody has to count"


def test_a_stamp_of_several_signatures_holds_after_another_is_added(
    signed_run: SmallRun, authority: Authority, tmp_path: Path
) -> None:
    digest, trust = signed_run.verify().payload_digest, TrustPolicy.load(signed_run.home)
    assert digest is not None
    rings = [KeyRing(tmp_path / name) for name in ("rita", "ron")]
    countersign(signed_run.manifest, digest, rings[0])
    response = authority.stamp(signed_run.manifest)
    countersign(signed_run.manifest, digest, rings[1])
    for ring in rings:
        trust.add(ring.public_key().pem, ring.home.name)
    assert f"signed by {OWN_NAME}, rita, was there" in checked(signed_run, response, authority.root).message


def test_an_answer_with_its_chain_is_read_and_its_root_alone_is_named(
    signed_run: SmallRun, authority: Authority, tmp_path: Path
) -> None:
    """OpenSSL writes the certificates unsorted, and a file may name several authorities."""
    for number in range(4):  # half of all orders are sorted
        chained = Authority(tmp_path / f"chained{number}", between=True)
        roots = tmp_path / "two.pem"
        roots.write_bytes(_renamed(chained) + chained.root.read_bytes())
        check = checked(signed_run, chained.stamp(signed_run.manifest), roots)
        assert check.status == "pass", check.message
        assert check.message.endswith("by CN=An authority")
        assert checked(signed_run, chained.stamp(signed_run.manifest), authority.root).status == "fail"


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
