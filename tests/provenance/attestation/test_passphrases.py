"""Passphrases come from a private file or a terminal, and nothing waits where there is neither."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from provenance.attestation import passphrases
from provenance.errors import KeyFileError


def test_a_file_gives_its_first_line_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.touch(0o600)
    for data, expected in ((b"a b \n", b"a b "), (b"a", b"a"), (b"a\r\n", b"a"), ("ä\n".encode(), "ä".encode())):
        file.write_bytes(data)
        assert passphrases.stored_passphrase(file) == expected
    monkeypatch.delenv(passphrases.VARIABLE, raising=False)
    assert passphrases.passphrase_file() is None
    monkeypatch.setenv(passphrases.VARIABLE, str(file))
    assert passphrases.passphrase_file() == file
    assert passphrases.passphrase_file(tmp_path / "given") == tmp_path / "given"


@pytest.mark.parametrize(
    ("data", "mode", "message"),
    [
        (b"", 0o600, "0 bytes, expected 1 to 1024"),
        (b"\n", 0o600, "0 bytes"),
        (b"x" * 2000, 0o600, "2000 bytes"),
        (b"secret", 0o640, "mode 640, others may read the passphrase"),
        (None, 0, "cannot be read"),
    ],
)
def test_a_file_without_a_private_passphrase_is_refused(
    tmp_path: Path, data: bytes | None, mode: int, message: str
) -> None:
    file = tmp_path / "secret"
    if data is not None:
        file.write_bytes(data)
        file.chmod(mode)
    with pytest.raises(KeyFileError, match=message):
        passphrases.stored_passphrase(file)


ASK = "from provenance.attestation.passphrases import asked_passphrase as ask; print(ask('key.pem'), ask('key.pem'))"
NEW = "from provenance.attestation.passphrases import new_passphrase; print(new_passphrase())"


# makes the terminal on its standard input the process's own
TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def answer(code: str, *typed: bytes) -> str:
    """What a process prints that runs ``code`` at a terminal where somebody types these lines."""
    here, there = pty.openpty()
    words = [sys.executable, "-c", TERMINAL, sys.executable, "-c", code]
    child = subprocess.Popen(words, stdin=there, stdout=there, stderr=there, start_new_session=True)
    os.close(there)
    said, lines = b"", [*typed]
    while True:
        try:
            piece = os.read(here, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        said += piece
        if lines and said.endswith(b": "):
            os.write(here, lines.pop(0) + b"\n")
            said += b"(typed)"
    child.wait()
    os.close(here)
    return said.decode()


def test_a_terminal_is_asked_once_without_echo() -> None:
    said = answer(ASK, b"secret")
    assert said.count("Passphrase of key.pem:") == 1
    assert "b'secret' b'secret'" in said and said.count("secret") == 2  # printed by the test's process, never echoed


def test_a_new_passphrase_is_typed_twice() -> None:
    assert "b'one'" in answer(NEW, b"one", b"one")
    assert "the two passphrases differ" in answer(NEW, b"one", b"two")


def test_without_a_terminal_nothing_waits() -> None:
    answered = subprocess.run(
        [sys.executable, "-c", ASK], stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    assert answered.returncode and "there is nobody to ask for it" in answered.stderr
