"""Private keys: protected and not, in PEM and OpenSSH's format, and by a signer's URI."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from provenance.attestation.private_keys import check_private, is_protected, is_uri, open_signer, private_pem, public_of
from provenance.errors import KeyFileError
from provenance.signatures.public_key import PublicKey


def refuse(what: str) -> bytes:
    raise AssertionError(f"asked for {what}")


@pytest.fixture
def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def written(path: Path, data: bytes) -> Path:
    path.parent.chmod(0o700)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def works(source: str, public: PublicKey | None, ask: object = refuse) -> PublicKey:
    signer, key = open_signer(source, public, ask)  # type: ignore[arg-type]
    assert key.verifies(bytes.fromhex(signer.sign(b"hello").signature), b"hello")
    return key


def test_a_pem_file_signs_with_and_without_a_passphrase(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    plain = written(tmp_path / "plain.pem", private_pem(private, None))
    closed = written(tmp_path / "closed.pem", private_pem(private, b"secret"))
    assert b"ENCRYPTED" in closed.read_bytes()
    assert (is_protected(plain), is_protected(closed)) == (False, True)
    key = public_of(private)
    assert works(str(plain), None) == works(str(closed), key, lambda what: b"secret") == key
    with pytest.raises(KeyFileError, match=r"closed\.pem: not opened by this passphrase"):
        open_signer(str(closed), None, lambda what: b"wrong")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on the PATH")
def test_a_key_whose_passphrase_openssl_stretches_by_scrypt_signs(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    """What docs/explanation/security.md recommends: cryptography itself writes 2,048 iterations of PBKDF2."""
    plain = written(tmp_path / "plain.pem", private_pem(private, None))
    words = [
        "openssl",
        "pkcs8",
        "-topk8",
        "-scrypt",
        "-in",
        plain,
        "-passout",
        "pass:secret",
        "-out",
        tmp_path / "s.pem",
    ]
    subprocess.run(words, check=True, capture_output=True)
    (tmp_path / "s.pem").chmod(0o600)
    tmp_path.chmod(0o700)
    assert works(str(tmp_path / "s.pem"), public_of(private), lambda what: b"secret") == public_of(private)


def test_an_openssh_key_signs(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert works(str(written(tmp_path / "id_ed25519", text)), None) == public_of(private)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not on the PATH")
def test_a_protected_openssh_key_names_what_it_lacks_or_signs(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True)
    tmp_path.chmod(0o700)
    try:
        import bcrypt  # noqa: F401
    except ImportError:
        with pytest.raises(KeyFileError, match="bcrypt") as caught:
            open_signer(str(path), None, lambda what: b"secret")
        assert caught.value.cure == "pip install bcrypt"
    else:
        works(str(path), None, lambda what: b"secret")


def test_a_uri_signs_where_its_public_key_is_given(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    path = written(tmp_path / "key.pem", private_pem(private, None))
    assert is_uri(f"file2:{path}") and not is_uri(str(path)) and not is_uri("a/b:c")
    assert works(f"file2:{path}", public_of(private)) == public_of(private)
    with pytest.raises(KeyFileError, match="needs its public key"):
        open_signer(f"file2:{path}", None, refuse)
    other = public_of(Ed25519PrivateKey.generate())
    for source in (str(path), f"file2:{path}"):
        with pytest.raises(KeyFileError, match=r"another key|does not match"):
            open_signer(source, other, refuse)
    with pytest.raises(KeyFileError, match="unknown scheme 'ftp'") as caught:
        open_signer("ftp:key", other, refuse)
    assert "gcpkms" in caught.value.cure
    with pytest.raises(KeyFileError, match=r"hsm:1: cannot be opened|hsm:1: holds|hsm:1: it does not sign"):
        open_signer("hsm:1", other, refuse)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="mode 644"):
        open_signer(f"file2:{path}", public_of(private), refuse)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_private_key_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(KeyFileError, match="not a private key in PEM or OpenSSH"):
        open_signer(str(written(tmp_path / "x", data)), None, refuse)


def test_a_public_key_is_no_private_key(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    text = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeyFileError, match="not a private key"):
        is_protected(written(tmp_path / "x", text))


def test_files_that_others_read_or_replace_are_refused(tmp_path: Path, private: Ed25519PrivateKey) -> None:
    path = written(tmp_path / "key.pem", private_pem(private, None))
    check_private(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="mode 640, others may read"):
        open_signer(str(path), None, refuse)
    path.chmod(0o600)
    tmp_path.chmod(0o770)
    with pytest.raises(KeyFileError, match="mode 770, others may put their own key there"):
        open_signer(str(path), None, refuse)
    with pytest.raises(KeyFileError, match="no such file"):
        open_signer(str(tmp_path / "none"), None, refuse)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Exception, match="not a regular file"):
        open_signer(str(tmp_path / "pipe"), None, refuse)
