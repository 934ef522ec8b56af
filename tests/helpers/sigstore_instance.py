"""A small Sigstore instance: a certificate authority, a log of certificates, a log of signatures, their trusted root.

What it issues verifies with Sigstore's own library. ``bundle`` makes one in this process, with any part of it wrong;
``serve`` answers a client that signs, over HTTP on this machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from provenance.attestation.dsse import PAYLOAD_TYPE
from provenance.formats.canonical_json import canonical_bytes
from provenance.signatures.public_key import pae

ADA, ISSUER = "ada@example.org", "https://accounts.example.org"
SCT = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUERS = ("1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8")
_LONG = timedelta(days=1000)
_P256 = "PKIX_ECDSA_P256_SHA_256"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def _identifier(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_public(key)).digest()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class SigstoreInstance:
    """The keys of an instance, and what its log has; ``now`` is its clock."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    ca_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    ct_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    # leaves of others, so that an inclusion proof has something to prove
    leaves: list[bytes] = field(default_factory=lambda: [b"one", b"another", b"a third"])

    def __post_init__(self) -> None:
        builder = self._certificate(self.ca_key, _name("small root"), self.now - _LONG, self.now + _LONG)
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        self.root = builder.sign(self.ca_key, hashes.SHA256())

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, subject: x509.Name, start: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(_name("small root"))
        made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
        made = made.not_valid_before(start).not_valid_after(end)
        own, above = (x509.SubjectKeyIdentifier.from_public_key(each.public_key()) for each in (key, self.ca_key))
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)
        return made.add_extension(own, critical=False).add_extension(authority, critical=False)

    def issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        identity: str = ADA,
        issuer: str = ISSUER,
        *,
        logged_by: ec.EllipticCurvePrivateKey | None = None,
        logged: bool = True,
        usage: ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        start: datetime | None = None,
    ) -> x509.Certificate:
        """A certificate of ten minutes, with the promise of the log of certificates in it."""
        start = start or self.now - timedelta(minutes=1)
        builder = self._certificate(key, x509.Name([]), start, start + timedelta(minutes=10))
        kind = x509.RFC822Name if "@" in identity else x509.UniformResourceIdentifier
        builder = builder.add_extension(x509.SubjectAlternativeName([kind(identity)]), critical=True)
        uses = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
        builder = builder.add_extension(x509.KeyUsage(**uses), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        text = issuer.encode()
        for oid, value in zip(_ISSUERS, (text, b"\x0c" + bytes([len(text)]) + text), strict=True):
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
        if not logged:
            return builder.sign(self.ca_key, hashes.SHA256())
        promised = self._promise_of_certificate(builder, start, logged_by or self.ct_key)
        return builder.add_extension(promised, critical=False).sign(self.ca_key, hashes.SHA256())

    def _promise_of_certificate(
        self, builder: x509.CertificateBuilder, when: datetime, key: ec.EllipticCurvePrivateKey
    ) -> x509.UnrecognizedExtension:
        """A signed certificate timestamp (RFC 6962, 3.2 and 3.3) of what the builder has."""
        unlogged = builder.sign(self.ca_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = int(when.timestamp() * 1000)
        entry = _identifier(self.ca_key) + len(unlogged).to_bytes(3, "big") + unlogged
        signature = _sign(key, struct.pack("!BBQH", 0, 0, stamp, 1) + entry + b"\0\0")
        sct = b"\0" + _identifier(key) + struct.pack("!QHBBH", stamp, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        octets = bytes([4, len(listed)]) if len(listed) < 128 else bytes([4, 0x81, len(listed)])
        return x509.UnrecognizedExtension(SCT, octets + listed)

    def log(
        self,
        certificate: x509.Certificate,
        payload: bytes,
        signature: bytes,
        *,
        when: datetime | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> dict[str, Any]:
        """An entry of the log, as its server answers."""
        key, when = key or self.log_key, when or self.now
        digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        signed = [{"signature": b64(signature), "verifier": b64(_pem(certificate))}]
        spec = {"envelopeHash": digest, "payloadHash": digest, "signatures": signed}
        body = canonical_bytes({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        self.leaves.append(body)
        index, size = len(self.leaves) - 1, len(self.leaves)
        root, proof = _tree(self.leaves, index)
        note = f"log.example.org\n{size}\n{b64(root)}\n"
        line = f"— log.example.org {b64(_identifier(key)[:4] + _sign(key, note.encode()))}\n"
        entry = {"body": b64(body), "integratedTime": int(when.timestamp()), "logIndex": index}
        entry["logID"] = _identifier(key).hex()
        promise = _sign(key, canonical_bytes(entry))
        inclusion = {"logIndex": index, "treeSize": size, "rootHash": root.hex(), "checkpoint": f"{note}\n{line}"}
        inclusion["hashes"] = [each.hex() for each in proof]
        return {**entry, "verification": {"inclusionProof": inclusion, "signedEntryTimestamp": b64(promise)}}

    def bundle(
        self,
        payload: bytes,
        identity: str = ADA,
        issuer: str = ISSUER,
        *,
        payload_type: str = PAYLOAD_TYPE,
        when: datetime | None = None,
        log_key: ec.EllipticCurvePrivateKey | None = None,
        **certificate: Any,
    ) -> dict[str, Any]:
        """A bundle of version 0.3 over ``payload``; ``certificate`` are arguments of ``issue``."""
        key = new_key()
        leaf = self.issue(key, identity, issuer, **certificate)
        signature = _sign(key, pae(payload_type, payload))
        answer = self.log(leaf, payload, signature, when=when, key=log_key)
        proof = answer["verification"]["inclusionProof"]
        inclusion = {"logIndex": str(proof["logIndex"]), "rootHash": b64(bytes.fromhex(proof["rootHash"]))}
        inclusion |= {"treeSize": str(proof["treeSize"]), "checkpoint": {"envelope": proof["checkpoint"]}}
        inclusion["hashes"] = [b64(bytes.fromhex(each)) for each in proof["hashes"]]
        entry = {
            "logIndex": str(answer["logIndex"]),
            "logId": {"keyId": b64(bytes.fromhex(answer["logID"]))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(answer["integratedTime"]),
            "inclusionPromise": {"signedEntryTimestamp": answer["verification"]["signedEntryTimestamp"]},
            "inclusionProof": inclusion,
            "canonicalizedBody": answer["body"],
        }
        material = {"certificate": {"rawBytes": b64(_der(leaf))}, "tlogEntries": [entry]}
        envelope = {"payload": b64(payload), "payloadType": payload_type, "signatures": [{"sig": b64(signature)}]}
        kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
        return {"mediaType": kind, "verificationMaterial": material, "dsseEnvelope": envelope}

    def trusted_root(self) -> dict[str, Any]:
        """What readers trust of this instance."""
        since = {"start": (self.now - _LONG).strftime("%Y-%m-%dT%H:%M:%SZ")}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": b64(_public(key)), "keyDetails": _P256, "validFor": since}
            place = {"baseUrl": "http://127.0.0.1:9", "hashAlgorithm": "SHA2_256"}
            return {**place, "publicKey": public, "logId": {"keyId": b64(_identifier(key))}}

        subject = {"organization": "example", "commonName": "small root"}
        chain = {"certificates": [{"rawBytes": b64(_der(self.root))}]}
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log_key)],
            "certificateAuthorities": [{"subject": subject, "certChain": chain, "validFor": since}],
            "ctlogs": [log(self.ct_key)],
            "timestampAuthorities": [],
        }

    def write_root(self, path: Path) -> Path:
        path.write_text(json.dumps(self.trusted_root()))
        return path

    @contextmanager
    def serve(self) -> Iterator[dict[str, Any]]:
        """A client's configuration, of servers on this machine that answer until the body ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        since = {"start": (self.now - _LONG).strftime("%Y-%m-%dT%H:%M:%SZ")}
        service = {"url": f"http://127.0.0.1:{server.server_port}", "majorApiVersion": 1, "validFor": since}
        service["operator"] = "example.org"
        signing = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "caUrls": [service]}
        signing |= {"oidcUrls": [service], "rekorTlogUrls": [service], "tsaUrls": []}
        signing |= {"rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"}}
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        try:
            yield {"mediaType": kind, "trustedRoot": self.trusted_root(), "signingConfig": signing}
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_USAGES += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def _tree(leaves: list[bytes], index: int) -> tuple[bytes, list[bytes]]:
    """The root of a Merkle tree (RFC 6962, 2.1) and the audit path of one leaf."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest(), []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = leaves[:half], leaves[half:]
    (first, path), (second, other) = _tree(left, min(index, half - 1)), _tree(right, max(index - half, 0))
    proof = [*path, second] if index < half else [*other, first]
    return hashlib.sha256(b"\1" + first + second).digest(), proof


def identity_token(identity: str = ADA, issuer: str = ISSUER) -> str:
    """A provider's token, unsigned: the client hands it on, and this instance believes it."""
    now = int(datetime.now(UTC).timestamp())
    claims = {"iss": issuer, "sub": identity, "email": identity, "aud": "sigstore", "iat": now, "exp": now + 600}
    parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def _handler(instance: SigstoreInstance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = self._certify(asked) if self.path.endswith("signingCert") else self._enter(asked)
            data = json.dumps(answer).encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _certify(self, asked: dict[str, Any]) -> dict[str, Any]:
            claims = self.headers["Authorization"].split(".")[1]
            said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
            request = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
            assert request.is_signature_valid
            public: Any = request
            leaf = instance.issue(public, said["email"], said["iss"])
            chain = [_pem(each).decode() for each in (leaf, instance.root)]
            return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

        def _enter(self, asked: dict[str, Any]) -> dict[str, Any]:
            proposed = asked["spec"]["proposedContent"]
            envelope = json.loads(proposed["envelope"])
            leaf = x509.load_pem_x509_certificate(base64.b64decode(proposed["verifiers"][0]))
            signature = base64.b64decode(envelope["signatures"][0]["sig"])
            return {"0123": instance.log(leaf, base64.b64decode(envelope["payload"]), signature)}

        def log_message(self, *words: Any) -> None:
            """Nothing is printed."""

    return Handler
