"""Attacks on signatures: keys with which anybody signs, a second spelling, surplus and very many signatures."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from reviewed_runs import Reviewed
from small_runs import SmallRun

from ndrepro.protocol.layout import RunFolder
from provenance.attestation import dsse
from provenance.attestation.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import TrustPolicy
from provenance.errors import DigestError, EnvelopeError, KeyFileError
from provenance.signatures.public_key import PublicKey, pae

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def on_curve(point: bytes) -> tuple[int, int] | None:
    """x and y of an encoded point; None where there is none. Independent of the code under test."""
    number = int.from_bytes(point, "little")
    y, sign = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(-121665 * pow(121666, P - 2, P) * y * y + 1, P - 2, P) % P
    for root in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return (P - root) % P if root % 2 != sign else root, y
    return None


def small_order_points() -> list[bytes]:
    """The eight points of small order, with every encoding that some library reads."""
    order_8 = int("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)
    ys = (1, P - 1, 0, order_8, P - order_8)
    found = {y.to_bytes(32, "little") for y in ys}
    found |= {(y + P).to_bytes(32, "little") for y in ys if y + P < 2**255}
    return sorted(found | {bytes([*point[:31], point[31] | 0x80]) for point in found})


def pem_of(public: Any) -> str:
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def ed25519_pem(point: bytes) -> str:
    return pem_of(ed25519.Ed25519PublicKey.from_public_bytes(point))


def test_no_key_of_small_order_is_read_trusted_or_verified_with(tmp_path: Path) -> None:
    """With such a key one made-up signature holds for many messages: R is the neutral element, S is zero."""
    points, forged, open_doors = small_order_points(), bytes([1, *bytes(63)]), 0
    assert len(points) == 14
    for point in points:
        assert on_curve(point) is not None, "the control: a point of the curve"
        library = ed25519.Ed25519PublicKey.from_public_bytes(point)
        for number in range(64):
            try:
                library.verify(forged, b"message %d" % number)
                open_doors += 1
            except Exception:
                continue
        with pytest.raises(KeyFileError, match=r"small order|canonical"):
            PublicKey.from_pem(pem_of(library))
        with pytest.raises(KeyFileError, match=r"small order|canonical"):
            TrustPolicy.load(tmp_path).add(pem_of(library), "Mallory")
        with pytest.raises(KeyFileError):  # however it came into memory
            PublicKey(pem_of(library), "0" * 64).verifies(forged, b"message")
    print(f"forged signatures that the library alone accepts: {open_doors} of {64 * len(points)}")
    assert open_doors > 64, "the control: it is an attack"


def test_points_off_the_curve_or_in_another_spelling_are_no_keys() -> None:
    off = next(y for y in range(2, 100) if on_curve(y.to_bytes(32, "little")) is None)
    on = next(y for y in range(2, 19) if on_curve((y + P).to_bytes(32, "little")) is not None)
    with pytest.raises(KeyFileError, match="no point of the curve"):
        PublicKey.from_pem(ed25519_pem(off.to_bytes(32, "little")))
    with pytest.raises(KeyFileError, match="canonical"):
        PublicKey.from_pem(ed25519_pem((on + P).to_bytes(32, "little")))
    PublicKey.from_pem(ed25519_pem(on.to_bytes(32, "little")))


def test_honest_keys_of_every_kind_are_accepted() -> None:
    for _ in range(20):
        PublicKey.from_pem(pem_of(ed25519.Ed25519PrivateKey.generate().public_key()))
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        PublicKey.from_pem(pem_of(ec.generate_private_key(curve).public_key()))
    PublicKey.from_pem(pem_of(rsa_key(3072, 65537)))


def rsa_key(bits: int, exponent: int) -> rsa.RSAPublicKey:
    """A public key of that size; whether somebody knows its factors changes nothing of its form."""
    modulus = int.from_bytes(hashlib.shake_256(b"%d" % bits).digest(bits // 8), "big") | 1 << (bits - 1) | 1
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (lambda: rsa_key(1024, 65537), "RSA of 1024 bits"),
        (lambda: rsa_key(2048, 65537), "RSA of 2048 bits"),
        (lambda: rsa_key(3072, 3), "public exponent 3"),
        (lambda: rsa_key(3072, 65535), "public exponent 65535"),
        (lambda: rsa_key(3072, (1 << 64) + 1), "public exponent 18446744073709551617"),
        (lambda: ec.generate_private_key(ec.SECP224R1()).public_key(), "curve secp224r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()).public_key(), "curve secp256k1"),
    ],
)
def test_a_weak_key_is_refused_and_named(tmp_path: Path, key: Any, what: str) -> None:
    with pytest.raises(KeyFileError, match=what):
        TrustPolicy.load(tmp_path).add(pem_of(key()), "somebody")


def test_a_weak_key_signs_nothing() -> None:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

    weak = CryptoSigner(rsa.generate_private_key(65537, 2048))
    with pytest.raises(KeyFileError, match="2048 bits"):
        sign_envelope(b"{}", weak)


def test_a_signature_has_one_spelling(tmp_path: Path) -> None:
    """S plus the group's order solves the same equation."""
    ring, message = KeyRing(tmp_path / "home"), b"message"
    signature = bytes.fromhex(ring.signer().sign(message).signature)
    assert ring.public_key().verifies(signature, message)
    second = int.from_bytes(signature[32:], "little") + L
    while second < 2**256:
        assert not ring.public_key().verifies(signature[:32] + second.to_bytes(32, "little"), message)
        second += L
    assert not ring.public_key().verifies(signature + b"\0", message)


def countersigned(run: SmallRun, *rings: KeyRing) -> None:
    """Puts further signatures before the author's own."""
    kind, payload, own = read_envelope(run.manifest.read_bytes())
    more = [read_envelope(sign_envelope(payload, ring.signer()))[2][0] for ring in rings]
    run.manifest.write_bytes(write_envelope(kind, payload, [*more, *own]))


def test_surplus_signatures_are_named_and_enter_no_digest(signed_run: SmallRun, tmp_path: Path) -> None:
    before = signed_run.verify()
    stranger = KeyRing(tmp_path / "stranger")
    countersigned(signed_run, stranger)
    verdict = signed_run.verify()
    assert verdict.ok and (verdict.digest, verdict.digests) == (before.digest, before.digests)
    assert f"1 more that no trusted key made, in the name of {stranger.keyid}" in verdict.checks[1].message


def test_a_hostile_key_name_is_printed_harmlessly(signed_run: SmallRun) -> None:
    document = json.loads(signed_run.manifest.read_bytes())
    document["signatures"].append({"keyid": "\x1b[2J" + "x" * 10**6, "sig": base64.b64encode(bytes(64)).decode()})
    signed_run.manifest.write_text(json.dumps(document))
    message = signed_run.verify().checks[1].message
    assert signed_run.verify().ok and message.isprintable() and len(message) < 500


def test_a_verdict_s_subject_is_the_signed_manifest_whoever_signed_it_first(tmp_path: Path) -> None:
    """A stranger's signature in the first place was digested in place of the author's."""
    reviewed = Reviewed(tmp_path)
    stranger, file = KeyRing(tmp_path / "stranger"), RunFolder(reviewed.run).manifest
    kind, payload, own = read_envelope(file.read_bytes())
    added = read_envelope(sign_envelope(payload, stranger.signer()))[2]
    file.write_bytes(write_envelope(kind, payload, [*added, *own]))
    reviewed.sign(reviewed.run, reviewed.same, "identical")
    (held,) = reviewed.read()[1].held
    assert held.run.folder == reviewed.run


def test_every_trusted_signer_is_named_in_a_report(tmp_path: Path) -> None:
    """The first of two trusted signatures was taken, and the run then did not end with that manifest's digest."""
    reviewed = Reviewed(tmp_path)
    file = RunFolder(reviewed.run).manifest
    kind, payload, own = read_envelope(file.read_bytes())
    added = read_envelope(sign_envelope(payload, KeyRing(reviewed.reviewer.home).signer()))[2]
    file.write_bytes(write_envelope(kind, payload, [*added, *own]))
    reviewed.sign(reviewed.run, reviewed.same, "identical")
    scores, attestations = reviewed.read()
    (row,) = (row for row in scores.rows if row.folder == reviewed.run)
    assert row.signer == "reviewer, this machine's key"
    assert not attestations.held[0].by_another, "who signed the run is no other than who signed the run"


def test_many_signatures_or_bytes_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(tmp_path)
    kind, payload, own = read_envelope(sign_envelope(b"{}", ring.signer()))
    many = [(f"key {number}", own[0][1]) for number in range(dsse.MOST_SIGNATURES + 1)]
    with pytest.raises(EnvelopeError, match="33 signatures, expected at most 32"):
        verify_envelope(write_envelope(kind, payload, many), [ring.public_key()])
    verify_envelope(write_envelope(kind, payload, many[1:]), [ring.public_key()])
    monkeypatch.setattr(dsse, "MOST_BYTES", 1000)
    with pytest.raises(EnvelopeError, match="expected at most 1000"):
        write_envelope(kind, bytes(1000), own)
    with pytest.raises(EnvelopeError, match="expected at most 1000"):
        verify_envelope(bytes(1001), [ring.public_key()])


def test_one_key_does_not_sign_twice(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    kind, payload, own = read_envelope(sign_envelope(b"{}", ring.signer()))
    with pytest.raises(EnvelopeError, match="a key that no other signature names"):
        verify_envelope(write_envelope(kind, payload, [*own, *own]), [ring.public_key()])
    renamed = write_envelope(kind, payload, [*own, ("another name", own[0][1])])
    verified = verify_envelope(renamed, [ring.public_key()])
    assert (verified.signers, verified.others) == ((ring.keyid,), ("another name",))


VERIFY = """
import pathlib, sys
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
verdict = verify(sys.argv[1], trust=TrustPolicy.load(pathlib.Path(sys.argv[2])))
print(verdict.ok, "|".join(check.message for check in verdict.checks if check.status == "fail"))
"""


@pytest.mark.parametrize("name", ["manifest.dsse.json", "metrics.jsonl", "added.jsonl"])
def test_a_pipe_in_a_run_folder_hangs_nobody(signed_run: SmallRun, name: str) -> None:
    path = signed_run.folder / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    words = [sys.executable, "-c", VERIFY, str(signed_run.folder), str(signed_run.home)]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600).stdout
    assert told.startswith("False") and "a FIFO" in told, told


@pytest.mark.parametrize("bit", [0o4755, 0o2755])
def test_a_file_that_runs_with_its_owner_s_rights_is_neither_signed_nor_verified(
    signed_run: SmallRun, bit: int
) -> None:
    (signed_run.folder / "weights.bin").chmod(bit)
    verdict = signed_run.verify()
    assert not verdict.ok and "set-user-ID" in verdict.checks[4].message
    with pytest.raises(DigestError, match=r"set-user-ID.*signed as failed"):
        signed_run.record()


def test_folders_nested_deeper_than_functions_are_walked(signed_run: SmallRun) -> None:
    folders = [signed_run.folder.joinpath(*["d"] * depth) for depth in range(1, 1200)]
    for folder in folders:
        folder.mkdir()
    file = folders[-1] / "file"
    file.write_text("")
    assert "was added after signing" in signed_run.verify().checks[6].message
    file.unlink()
    for folder in reversed(folders):  # what removes temporary folders may well recurse
        folder.rmdir()


def test_another_run_s_folder_name_is_seen(signed_run: SmallRun) -> None:
    """A folder may be renamed; whose run is in it is said."""
    moved = signed_run.folder.rename(signed_run.folder.with_name("a better run"))
    verdict = signed_run.verify(path=moved)
    assert verdict.ok and f"of the run {signed_run.folder.name}" in verdict.checks[2].message


def test_the_signed_message_names_its_type() -> None:
    assert pae("a", b"bc") != pae("ab", b"c")
