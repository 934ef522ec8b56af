"""Keys that stay private, and envelopes: what is accepted, and each attack that is not."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provenance.attestation.dsse import (
    PAYLOAD_TYPE,
    KeyRing,
    PublicKey,
    default_home,
    pae,
    read_envelope,
    sign_envelope,
    verify_envelope,
    verify_parts,
    write_envelope,
)
from provenance.errors import EnvelopeError, KeyFileError, ProvenanceError, TrustError, UsageError

GOLDEN = Path(__file__).parent / "golden"
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1","x":"\xc3\xa9>>>???"}'


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "home")


@pytest.fixture
def envelope(ring: KeyRing) -> dict[str, Any]:
    return sign_envelope(PAYLOAD, ring.signer())


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
    (tmp_path / "key.pem").write_text(ring.public_key_pem())
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
    countersigned, surplus = (sign_envelope(PAYLOAD, each.signer())["signatures"] for each in (reviewer, stranger))
    over_another = sign_envelope(PAYLOAD + b" ", ring.signer())["signatures"]
    keys = [ring.public_key(), reviewer.public_key()]
    for signatures, signers, others in (
        ([*own, *countersigned], (ring.keyid, reviewer.keyid), 0),
        ([*surplus, *own], (ring.keyid,), 1),
        ([*over_another, *own, *surplus], (ring.keyid,), 2),
        ([*own, *own], (ring.keyid,), 0),
    ):
        verified = verify_envelope({**envelope, "signatures": signatures}, keys)
        assert (verified.signers, verified.others, verified.payload) == (signers, others, PAYLOAD)
    with pytest.raises(TrustError):
        verify_envelope({**envelope, "signatures": surplus}, keys)
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


def test_a_threshold_counts_different_keys(ring: KeyRing, tmp_path: Path, envelope: dict[str, Any]) -> None:
    other = KeyRing(tmp_path / "other")
    keys = [ring.public_key(), other.public_key()]
    both = [*envelope["signatures"], *sign_envelope(PAYLOAD, other.signer())["signatures"]]
    assert len(verify_envelope({**envelope, "signatures": both}, keys, threshold=2).signers) == 2
    with pytest.raises(TrustError, match="1 of the trusted keys signed, expected 2"):
        verify_envelope({**envelope, "signatures": envelope["signatures"] * 2}, keys, threshold=2)
    with pytest.raises(UsageError):
        verify_envelope(envelope, keys, threshold=0)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_no_changed_byte_of_an_envelope_changes_what_verifies(ring: KeyRing, data: st.DataObject) -> None:
    """A changed byte is refused, or it is of the spelling or of the key's name: payload, signature and key stay."""
    original = write_envelope(*read_envelope(sign_envelope(PAYLOAD, ring.signer())))
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
    from securesystemslib.dsse import Envelope

    envelope = Envelope(PAYLOAD, "text/plain", {})
    envelope.sign(ring.signer())
    with pytest.raises(EnvelopeError, match="payloadType 'text/plain'"):
        verify_envelope(envelope.to_dict(), [ring.public_key()])


def test_the_key_is_made_once_and_private(ring: KeyRing) -> None:
    assert not ring.exists
    pem = ring.public_key_pem()
    assert ring.exists
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.home.stat().st_mode) == 0o700
    assert [path.name for path in ring.home.iterdir()] == [ring.path.name]
    assert KeyRing(ring.home).public_key_pem() == pem
    assert PublicKey.from_pem(pem) == ring.public_key()


def test_processes_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom provenance.attestation.dsse import KeyRing\nimport securesystemslib.signer\n"
        "print('ready', flush=True)\nsys.stdin.read()\nprint(KeyRing(pathlib.Path(sys.argv[1])).keyid)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "home")]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(6)
    ]
    for child in children:
        assert child.stdout and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.close()
    names = []
    for child in children:
        with child:
            assert child.stdout
            names.append(child.stdout.read().strip())
    assert len(set(names)) == 1 and len(names[0]) == 64
    assert len(list((tmp_path / "home").iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o660, 0o622])
def test_a_key_that_others_can_read_is_refused(ring: KeyRing, mode: int) -> None:
    ring.signer()
    ring.path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:o}") as caught:
        ring.signer()
    assert f"chmod 600 {ring.path}" in caught.value.cure
    ring.path.chmod(0o600)
    ring.signer()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_where_others_can_put_their_key_is_refused(ring: KeyRing, mode: int) -> None:
    ring.signer()
    ring.home.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:o}") as caught:
        ring.signer()
    assert caught.value.cure == f"chmod 700 {ring.home}"


@pytest.mark.parametrize("mode", [0o701, 0o704, 0o710, 0o740, 0o755])
def test_a_folder_that_others_can_only_look_into_is_accepted(ring: KeyRing, mode: int) -> None:
    """The key in it is private all the same."""
    keyid = ring.keyid
    ring.home.chmod(mode)
    assert ring.keyid == keyid


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_key_home_inside_a_work_tree_is_refused(tmp_path: Path, kind: str) -> None:
    """A work tree's .git is a folder, or a file in a linked one."""
    home = tmp_path / "project" / "deep" / "home"
    home.mkdir(parents=True, mode=0o700)
    git = tmp_path / "project" / ".git"
    git.mkdir() if kind == "folder" else git.write_text("gitdir: elsewhere")
    with pytest.raises(KeyFileError, match="git work tree") as caught:
        KeyRing(home).signer()
    assert "NDREPRO_HOME" in caught.value.cure
    assert list(home.iterdir()) == []
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(KeyFileError, match="git work tree"):
        KeyRing(tmp_path / "link").signer()


@pytest.mark.parametrize("content", [b"", b"not a key", GOLDEN.joinpath("v1.public-key.pem").read_bytes()])
def test_a_file_that_is_no_key_is_refused(ring: KeyRing, content: bytes) -> None:
    ring.home.mkdir(mode=0o700)
    ring.path.write_bytes(content)
    ring.path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not an unencrypted private key"):
        ring.signer()


def test_a_home_is_made_with_the_folders_above_it_or_used_as_it_is(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "home"
    assert KeyRing(deep).keyid and stat.S_IMODE(deep.stat().st_mode) == 0o700
    (tmp_path / "empty").mkdir(mode=0o700)
    assert KeyRing(tmp_path / "empty").keyid


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(KeyFileError) as caught:
            KeyRing(home).signer()
        assert "NDREPRO_HOME" in caught.value.cure


def test_text_that_is_no_public_key_is_refused(ring: KeyRing) -> None:
    ring.signer()
    for text in ("", "x", ring.path.read_bytes()):
        with pytest.raises(KeyFileError, match="not a public key"):
            PublicKey.from_pem(text)


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"NDREPRO_HOME": "/a", "XDG_CONFIG_HOME": "/b", "HOME": "/c"}
    assert default_home(everything) == Path("/a")
    assert default_home({**everything, "NDREPRO_HOME": ""}) == Path("/b/ndrepro")
    assert default_home({"XDG_CONFIG_HOME": "relative", "HOME": "/c"}) == Path("/c/.config/ndrepro")
    with pytest.raises(KeyFileError, match="HOME='relative' is no absolute path"):
        default_home({"HOME": "relative"})
    for name in everything:
        monkeypatch.delenv(name, raising=False)
    import pwd

    assert default_home() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".config" / "ndrepro"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that has no entry")
def test_no_home_at_all_is_an_error_with_its_cure() -> None:
    script = (
        "import os\nfrom provenance.attestation.dsse import default_home\nos.setuid(54321)\n"
        "try:\n    default_home({})\nexcept Exception as error:\n"
        "    print(type(error).__name__, error.message, error.cure, sep='|')"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.startswith("KeyFileError|")
    assert "HOME is not set and user 54321" in found
    assert "NDREPRO_HOME" in found
