"""Keys that stay private, and envelopes: what is accepted, and each attack that is not."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provenance.attestation.dsse import (
    PAYLOAD_TYPE,
    read_envelope,
    sign_envelope,
    verify_envelope,
    verify_parts,
    write_envelope,
)
from provenance.attestation.key_home import KeyRing
from provenance.attestation.private_keys import signer_of
from provenance.errors import EnvelopeError, KeyFileError, ProvenanceError, TrustError
from provenance.signatures.public_key import PublicKey, pae

GOLDEN = Path(__file__).parent / "golden"
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1","x":"\xc3\xa9>>>???"}'


def document(payload: bytes, ring: KeyRing) -> dict[str, Any]:
    """The JSON of a signed envelope."""
    found: dict[str, Any] = json.loads(sign_envelope(payload, ring.signer()))
    return found


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "home")


@pytest.fixture
def envelope(ring: KeyRing) -> dict[str, Any]:
    return document(PAYLOAD, ring)


def test_a_signed_envelope_verifies_and_gives_the_very_bytes(ring: KeyRing, envelope: dict[str, Any]) -> None:
    for form in (envelope, json.dumps(envelope).encode(), json.dumps(envelope, indent=4).encode()):
        verified = verify_envelope(form, [ring.public_key()])
        assert verified.payload == PAYLOAD
        assert verified.signers == (ring.keyid,)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on the PATH")
def test_openssl_accepts_the_signature_and_refuses_a_changed_message(
    ring: KeyRing, envelope: dict[str, Any], tmp_path: Path
) -> None:
    body = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "key.pem").write_text(ring.public_key().pem)
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem"]
    command += ["-sigfile", "signature", "-in", "message"]
    # the encoding is spelled out here once more, from the specification and not from the code
    message = b" ".join((b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body))
    assert message == pae(PAYLOAD_TYPE, PAYLOAD)
    for content, code in ((message, 0), (message + b" ", 1), (body, 1)):
        (tmp_path / "message").write_bytes(content)
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == code


def test_the_golden_envelope_still_verifies() -> None:
    key = PublicKey.from_pem((GOLDEN / "v1.public-key.pem").read_text())
    data = (GOLDEN / "v1.manifest.dsse.json").read_bytes()
    assert verify_envelope(data, [key]).signers == (key.keyid,)
    assert write_envelope(*read_envelope(data)) == data


def test_url_safe_base64_is_accepted_too(ring: KeyRing, envelope: dict[str, Any]) -> None:
    text = base64.urlsafe_b64encode(PAYLOAD).decode()
    assert text != envelope["payload"]
    signature = base64.urlsafe_b64encode(base64.b64decode(envelope["signatures"][0]["sig"])).decode()
    envelope = {**envelope, "payload": text, "signatures": [{"sig": signature, "keyid": ring.keyid}]}
    assert verify_envelope(envelope, [ring.public_key()]).payload == PAYLOAD


def test_the_library_that_signs_accepts_the_envelope_too(ring: KeyRing, envelope: dict[str, Any]) -> None:
    from securesystemslib.dsse import Envelope

    assert list(Envelope.from_dict(envelope).verify([ring.signer().public_key], 1)) == [ring.keyid]


def test_a_key_identifier_is_only_a_hint(ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]) -> None:
    key, other = ring.public_key(), KeyRing(tmp_path / "other").public_key()
    signature = envelope["signatures"][0]["sig"]
    for entry in ({"sig": signature}, {"sig": signature, "keyid": ""}, {"sig": signature, "keyid": "unknown"}):
        assert verify_envelope({**envelope, "signatures": [entry]}, [other, key]).signers == (key.keyid,)
        with pytest.raises(TrustError):
            verify_envelope({**envelope, "signatures": [entry]}, [other])
    misnamed = {"sig": signature, "keyid": other.keyid}
    assert verify_envelope({**envelope, "signatures": [misnamed]}, [other, key]).signers == (key.keyid,)
    forged = {"sig": base64.b64encode(bytes(64)).decode(), "keyid": key.keyid}
    with pytest.raises(EnvelopeError, match="is not that key's"):
        verify_envelope({**envelope, "signatures": [forged]}, [other, key])


def test_further_signatures_are_listed_or_counted_and_take_nothing_away(
    ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]
) -> None:
    reviewer, stranger = KeyRing(tmp_path / "reviewer"), KeyRing(tmp_path / "stranger")
    own = envelope["signatures"]
    countersigned, surplus = (document(PAYLOAD, each)["signatures"] for each in (reviewer, stranger))
    over_another = document(PAYLOAD + b" ", ring)["signatures"]
    keys = [ring.public_key(), reviewer.public_key()]
    over_another[0]["keyid"] = ""
    for signatures, signers, others in (
        ([*own, *countersigned], (ring.keyid, reviewer.keyid), ()),
        ([*surplus, *own], (ring.keyid,), (stranger.keyid,)),
        ([*over_another, *own, *surplus], (ring.keyid,), ("(no name)", stranger.keyid)),
    ):
        verified = verify_envelope({**envelope, "signatures": signatures}, keys)
        assert (verified.signers, verified.others, verified.payload) == (signers, others, PAYLOAD)
    with pytest.raises(TrustError):
        verify_envelope({**envelope, "signatures": surplus}, keys)
    over_another[0]["keyid"] = ring.keyid
    with pytest.raises(EnvelopeError, match="is not that key's"):
        verify_envelope({**envelope, "signatures": [*over_another, *surplus]}, keys)


def test_an_unknown_key_is_named(ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]) -> None:
    with pytest.raises(TrustError, match=ring.keyid):
        verify_envelope(envelope, [KeyRing(tmp_path / "other").public_key()])
    with pytest.raises(TrustError):
        verify_envelope(envelope, [])


def test_one_trusted_signature_is_enough_and_any_mapping_is_read(ring: KeyRing, envelope: dict[str, Any]) -> None:
    parts = read_envelope(MappingProxyType(envelope))
    assert verify_parts(*parts, [ring.public_key()]).signers == (ring.keyid,)
    with pytest.raises(EnvelopeError, match=r"\$: \[\], expected an object"):
        read_envelope(b"[]")


def test_a_key_answers_yes_or_no(ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]) -> None:
    signature, message = base64.b64decode(envelope["signatures"][0]["sig"]), pae(PAYLOAD_TYPE, PAYLOAD)
    assert ring.public_key().verifies(signature, message) is True
    assert ring.public_key().verifies(signature, message + b" ") is False
    assert KeyRing(tmp_path / "other").public_key().verifies(signature, message) is False


def test_every_key_that_signed_is_named(ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]) -> None:
    other = KeyRing(tmp_path / "other")
    keys = [ring.public_key(), other.public_key()]
    both = [*envelope["signatures"], *document(PAYLOAD, other)["signatures"]]
    assert verify_envelope({**envelope, "signatures": both}, keys).signers == (ring.keyid, other.keyid)
    assert verify_envelope(envelope, keys).signers == (ring.keyid,)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_no_changed_byte_of_an_envelope_changes_what_verifies(ring: KeyRing, data: st.DataObject) -> None:
    """A changed byte is refused, or it is of the spelling or of the key's name: payload, signature and key stay."""
    original = sign_envelope(PAYLOAD, ring.signer())
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[at]))
    try:
        verified = verify_envelope(bytes(changed), [ring.public_key()])
    except ProvenanceError:
        return
    assert verified.payload == PAYLOAD
    assert write_envelope(PAYLOAD_TYPE, verified.payload, verified.signatures) == original


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"payloadType": "application/vnd.in-toto+jsom"}, "its type"),
        ({"payload": base64.b64encode(PAYLOAD + b" ").decode()}, "the payload"),
        ({"payload": base64.b64encode(b"ab").decode()[:-2] + "J="}, "as it is written"),
        ({"payload": "%%%%"}, "base64"),
        ({"payload": 3}, r"\$\.payload"),
        ({"signatures": []}, "at least one signature"),
        ({"signatures": [{"keyid": "x"}]}, r"\$\.signatures\[0\]\.sig: missing"),
        ({"signatures": [{"keyid": 1, "sig": "AAAA"}]}, r"\$\.signatures\[0\]\.keyid"),
        ({"signatures": "x"}, "an array"),
    ],
)
def test_what_is_no_envelope_or_was_changed_is_refused(
    ring: KeyRing, envelope: dict[str, Any], change: dict[str, Any], what: str
) -> None:
    verify_envelope(envelope, [ring.public_key()])  # the control
    with pytest.raises(EnvelopeError, match=what):
        verify_envelope(envelope | change, [ring.public_key()])


def test_a_member_that_comes_twice_is_refused(ring: KeyRing, envelope: dict[str, Any]) -> None:
    data = json.dumps(envelope).encode()
    with pytest.raises(EnvelopeError, match="'payload' stands twice"):
        verify_envelope(data[:-1] + b',"payload":"QUFB"}', [ring.public_key()])


def test_another_type_of_payload_is_refused_although_its_signature_holds(ring: KeyRing) -> None:
    made = ring.signer().sign(pae("text/plain", PAYLOAD))
    envelope = write_envelope("text/plain", PAYLOAD, [(made.keyid, bytes.fromhex(made.signature))])
    with pytest.raises(EnvelopeError, match="payloadType 'text/plain'"):
        verify_envelope(envelope, [ring.public_key()])


def test_an_ed25519_key_signs_and_is_named_as_in_the_library() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

    private = Ed25519PrivateKey.generate()
    ours, theirs = signer_of(private), CryptoSigner(private)
    signatures = [(made.keyid, made.signature) for made in (ours.sign(PAYLOAD), theirs.sign(PAYLOAD))]
    assert signatures[0] == signatures[1] and ours.public_key == theirs.public_key
    key = PublicKey.of_signer(theirs)
    assert key == PublicKey.of_signer(ours)
    signature = bytes.fromhex(signatures[0][1])
    assert key.verifies(signature, PAYLOAD) and not key.verifies(signature, PAYLOAD + b"x")
    assert not key.verifies(signature[:-1], PAYLOAD)


def test_text_that_is_no_public_key_is_refused(ring: KeyRing) -> None:
    ring.signer()
    for text in ("", "x", ring.path.read_bytes()):
        with pytest.raises(KeyFileError, match="not a public key"):
            PublicKey.from_pem(text)
