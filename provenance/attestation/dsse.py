"""Public keys and DSSE envelopes: who signed which bytes.

The envelope is DSSE 1.0.2 with an in-toto payload; the signature is over the payload's type and its very bytes, and
the bytes that come back from ``verify_envelope`` are those that were verified. A key identifier in an envelope is a
hint that nobody signed: every signature is tried against every key given, whatever it claims. Spelling (white space,
standard or URL-safe base64) and further signatures, a countersigner's or a stranger's, change nothing of what was
signed: ``Verified`` lists the signatures that hold and names the others. Weak keys neither sign nor verify
(``provenance.signatures``); Ed25519 signatures have one spelling (S is below the group's order).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provenance.errors import CanonicalError, EnvelopeError, TrustError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.strict_json import Field
from provenance.signatures.public_key import PublicKey, pae

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner

PAYLOAD_TYPE = "application/vnd.in-toto+json"
# the manifest of some 200,000 files; every signature is tried against every trusted key
MOST_BYTES, MOST_SIGNATURES = 1 << 27, 32
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Verified:
    """The bytes that were verified.

    Attributes:
        payload: the very bytes that are signed.
        signatures: (identifier of the key, signature) of every key given whose signature over them holds, in order.
        others: the key identifiers that all further signatures claim, as text that can be printed.
    """

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]
    others: tuple[str, ...]

    @property
    def signers(self) -> tuple[str, ...]:
        """The identifiers of the keys whose signatures hold."""
        return tuple(keyid for keyid, _ in self.signatures)


def signature_of(payload: bytes, signer: MessageSigner) -> tuple[str, bytes]:
    """The key identifier and signature of in-toto bytes. Raises KeyFileError for a signer whose key is weak."""
    PublicKey.of_signer(signer)
    made = signer.sign(pae(PAYLOAD_TYPE, payload))
    return made.keyid, bytes.fromhex(made.signature)


def sign_envelope(payload: bytes, signer: MessageSigner) -> bytes:
    """The file of an envelope of in-toto bytes with one signature. Raises EnvelopeError and KeyFileError, as above."""
    return write_envelope(PAYLOAD_TYPE, payload, [signature_of(payload, signer)])


def verify_envelope(envelope: Mapping[str, Any] | bytes, keys: Iterable[PublicKey]) -> Verified:
    """The payload of an envelope that at least one of ``keys`` signed.

    Members that DSSE does not know are ignored, as it asks. Raises EnvelopeError for what is no envelope or whose
    signature does not hold, TrustError if none of the keys signed it.
    """
    return verify_parts(*read_envelope(envelope), keys)


def verify_parts(
    payload_type: str, payload: bytes, signatures: Sequence[tuple[str, bytes]], keys: Iterable[PublicKey]
) -> Verified:
    """``verify_envelope`` of what ``read_envelope`` gave, for whoever has read it already."""
    message = pae(payload_type, payload)
    known = {key.keyid: key for key in keys}
    valid: dict[str, bytes] = {}
    others = []
    for claimed, signature in signatures:
        made_by = next((keyid for keyid, key in known.items() if key.verifies(signature, message)), None)
        if made_by is None or made_by in valid:
            others.append(claimed)
        else:
            valid[made_by] = signature
    false = next((claimed for claimed in others if claimed in known), None)
    if not valid and false is not None:
        raise EnvelopeError(
            f"the signature that names the key {false} is not that key's: the payload, its type, the signature or the "
            "name was changed"
        )
    if not valid:
        raise TrustError(
            f"signed by {', '.join(_printable(claimed) for claimed, _ in signatures)}, which is no trusted key",
            "ask the author for the public key over another channel, then: ndrepro keys trust FILE --name WHOSE",
        )
    if payload_type != PAYLOAD_TYPE:
        raise EnvelopeError(f"payloadType {payload_type!r}, expected {PAYLOAD_TYPE!r}")
    return Verified(payload, tuple(valid.items()), tuple(map(_printable, others)))


def read_envelope(envelope: Mapping[str, Any] | bytes) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    """Type, payload and (claimed key identifier, signature) pairs of an envelope; nothing is verified.

    Raises EnvelopeError naming the JSON path of what is wrong.
    """
    if isinstance(envelope, bytes):
        _expect_size(len(envelope))
        try:
            envelope = parse(envelope)
        except CanonicalError as error:
            raise EnvelopeError(f"the envelope is {error.message}", error.cure) from None
    document = Field(dict(envelope) if isinstance(envelope, Mapping) else envelope, "$", EnvelopeError)
    members = _known(document, ("payload", "payloadType", "signatures"))
    signatures: list[tuple[str, bytes]] = []
    items = members["signatures"].items()
    if len(items) > MOST_SIGNATURES:
        raise EnvelopeError(f"$.signatures: {len(items)} signatures, expected at most {MOST_SIGNATURES}")
    for item in items:
        signature = _known(item, ("sig",), ("keyid",))
        keyid = signature["keyid"].value if "keyid" in signature else ""
        if not isinstance(keyid, str):
            signature["keyid"].refuse("a string")
        if keyid and keyid in (claimed for claimed, _ in signatures):
            signature["keyid"].refuse("a key that no other signature names")
        signatures.append((keyid, _base64(signature["sig"])))
    if not signatures:
        members["signatures"].refuse("at least one signature")
    return members["payloadType"].text(), _base64(members["payload"]), signatures


def write_envelope(payload_type: str, payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> bytes:
    """The file of an envelope, in the one spelling that the recorder writes: canonical JSON and a newline.

    Raises EnvelopeError for one that is too large to be read again.
    """
    data = canonical_bytes(_document(payload_type, payload, signatures)) + b"\n"
    _expect_size(len(data))
    return data


def _document(payload_type: str, payload: bytes, signatures: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """The envelope's JSON."""
    return {
        "payload": base64.standard_b64encode(payload).decode("ascii"),
        "payloadType": payload_type,
        "signatures": [
            {"keyid": keyid, "sig": base64.standard_b64encode(signature).decode("ascii")}
            for keyid, signature in signatures
        ],
    }


def _expect_size(size: int) -> None:
    if size > MOST_BYTES:
        raise EnvelopeError(f"an envelope of {size} bytes, expected at most {MOST_BYTES}", "split what it describes")


def _printable(claimed: str) -> str:
    """A claimed key identifier, which nobody signed, for people."""
    text = claimed or "(no name)"
    return text if text.isprintable() and len(text) <= _SHOWN_CHARACTERS else ascii(text[:_SHOWN_CHARACTERS])


def _known(field: Field, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Field]:
    value = {name: item for name, item in field.mapping().items() if name in required or name in optional}
    return Field(value, field.path, field.error).members(required, optional)


def _base64(field: Field) -> bytes:
    """Standard or URL-safe base64, and only its one canonical spelling: no other text may stand for the same bytes."""
    text = field.text()
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        field.refuse("base64")
    if text.encode() not in (base64.standard_b64encode(data), base64.urlsafe_b64encode(data)):
        field.refuse("base64 as it is written for these bytes")
    return data
