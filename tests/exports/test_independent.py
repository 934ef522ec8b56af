"""Three verifiers that are not ours accept our envelopes and refuse altered ones.

OpenSSL, by the commands that docs/how-to/exports.md shows; npm's @sigstore/verify; and docs/verify_envelope.py,
which uses cryptography and nothing of this project.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import ROOT
from validators import unreachable

from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.private_keys import open_signer

VERIFIER = ROOT / "docs" / "verify_envelope.py"
PACKAGES = ("@sigstore/verify@3.1.1", "@sigstore/bundle@4.0.0")
Envelope = dict[str, Any]


def flipped(text: str, at: int = 40) -> str:
    """The same base64 with one bit of one byte changed."""
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return base64.standard_b64encode(data).decode()


def payload_edited(envelope: Envelope) -> None:
    text = base64.b64decode(envelope["payload"]).decode()
    assert '"outcome":"completed"' in text
    edited = text.replace('"outcome":"completed"', '"outcome":"killed"')
    envelope["payload"] = base64.standard_b64encode(edited.encode()).decode()


# every alteration of an envelope, by what it is
ALTERED: dict[str, Callable[[Envelope], object]] = {
    "a bit of the payload": lambda envelope: envelope.update(payload=flipped(envelope["payload"])),
    "a word of the payload": payload_edited,
    "the payload's type": lambda envelope: envelope.update(payloadType="application/vnd.in-toto+jsom"),
    "a bit of the signature": lambda envelope: envelope["signatures"][0].update(
        sig=flipped(envelope["signatures"][0]["sig"])
    ),
    "half the signature": lambda envelope: envelope["signatures"][0].update(sig=envelope["signatures"][0]["sig"][:44]),
    "another signature": lambda envelope: envelope["signatures"][0].update(sig=base64.b64encode(b"\1" * 64).decode()),
}


@pytest.fixture
def keys(script: Any, tmp_path: Path) -> tuple[Path, Path]:
    """The signer's public key, and another one's."""
    found = []
    for name, home in (("author.pub", script.home), ("other.pub", tmp_path / "other")):
        found.append(tmp_path / name)
        found[-1].write_text(KeyRing(home).public_key().pem, encoding="ascii")
    return found[0], found[1]


def envelopes(script: Any, folder: Path) -> list[Path]:
    """The run's envelope, then one file for each alteration."""
    text = (script.run / "manifest.dsse.json").read_text(encoding="utf-8")
    files = [folder / "original.json"]
    files[0].write_text(text, encoding="utf-8")
    for what, alter in ALTERED.items():
        envelope = json.loads(text)
        alter(envelope)
        files.append(folder / f"{what.replace(' ', '-')}.json")
        files[-1].write_text(json.dumps(envelope, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
    return files


def openssl_commands() -> str:
    """The shell commands that the documentation shows."""
    page = (ROOT / "docs" / "how-to" / "exports.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"(?s)```sh\n(type=.*?)```", page)
    return str(block)


def test_openssl(script: Any, keys: tuple[Path, Path], tmp_path: Path) -> None:
    commands = openssl_commands()

    def accepts(file: Path, key: Path) -> bool:
        place = tmp_path / "work"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        shutil.copy(file, place / "manifest.dsse.json")
        shutil.copy(key, place / "author.pub")
        done = subprocess.run(["bash", "-c", commands], cwd=place, capture_output=True, text=True)
        return done.returncode == 0 and "Signature Verified Successfully" in done.stdout

    files = envelopes(script, tmp_path)
    assert [file.stem for file in files if accepts(file, keys[0])] == ["original"]
    assert not accepts(files[0], keys[1]), "another key"


def test_sixty_lines_of_python(script: Any, keys: tuple[Path, Path], tmp_path: Path) -> None:
    assert len(VERIFIER.read_text(encoding="utf-8").splitlines()) < 75

    def verdict(run: Path, key: Path = keys[0]) -> str:
        done = subprocess.run([sys.executable, "-I", VERIFIER, key, run], capture_output=True, text=True)
        assert done.returncode == (0 if done.stdout else 1) and "Traceback" not in done.stderr
        return done.stdout or done.stderr

    assert verdict(script.run).startswith("verified: ")
    assert "no signature is this key's" in verdict(script.run, keys[1])
    for file in envelopes(script, tmp_path)[1:]:
        copy = shutil.copytree(script.run, tmp_path / file.stem)
        shutil.copy(file, copy / "manifest.dsse.json")
        assert "NOT verified" in verdict(copy), file.stem


def test_sixty_lines_of_python_see_every_change_of_the_folder(
    script: Any, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    changes: dict[str, Callable[[Path], object]] = {
        "is not the file that was signed": lambda run: (run / "metrics.jsonl").write_text("{}\n"),
        "missing, added or linked: ['metrics.jsonl']": lambda run: (run / "metrics.jsonl").unlink(),
        "missing, added or linked: ['extra']": lambda run: (run / "extra").touch(),
        "missing, added or linked: a symbolic link": lambda run: link_to_itself(run, "metrics.jsonl"),
        "FileNotFoundError": lambda run: (run / "manifest.dsse.json").unlink(),
        "JSONDecodeError": lambda run: (run / "manifest.dsse.json").write_text("{"),
    }
    for number, (problem, change) in enumerate(changes.items()):
        copy = shutil.copytree(script.run, tmp_path / str(number))
        change(copy)
        done = subprocess.run([sys.executable, "-I", VERIFIER, keys[0], copy], capture_output=True, text=True)
        assert done.returncode == 1 and problem in done.stderr, done.stderr


def test_a_signature_by_a_key_on_p_256_is_verified_likewise(script: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    key, public, copy = tmp_path / "key.pem", tmp_path / "author.pub", tmp_path / "run"
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", key], check=True, capture_output=True)
    key.chmod(0o600)
    signer, known = open_signer(str(key), None, lambda what: b"")
    public.write_text(known.pem, encoding="ascii")
    shutil.copytree(script.run, copy)
    _, payload, _ = read_envelope((copy / "manifest.dsse.json").read_bytes())
    (copy / "manifest.dsse.json").write_bytes(sign_envelope(payload, signer))
    words = [sys.executable, "-I", VERIFIER, public]
    assert subprocess.run([*words, copy], capture_output=True).returncode == 0
    assert subprocess.run([*words, script.run], capture_output=True).returncode == 1, "the other key's"
    commands = openssl_commands().replace("-rawin", "-rawin -digest sha256")
    for source, accepted in ((copy, True), (script.run, False)):
        shutil.copy(source / "manifest.dsse.json", tmp_path)
        done = subprocess.run(["bash", "-c", commands], cwd=tmp_path, capture_output=True, text=True)
        assert ("Signature Verified Successfully" in done.stdout) is accepted, done.stderr


def link_to_itself(run: Path, name: str) -> None:
    """A link in the place of a file, to the same bytes elsewhere."""
    (run / name).rename(run.parent / "elsewhere")
    (run / name).symlink_to(run.parent / "elsewhere")


@pytest.mark.slow
def test_sigstore_verify_of_npm(script: Any, keys: tuple[Path, Path], tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        unreachable("npm is not installed")
    folder = tmp_path / "npm"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("sigstore_verify.mjs"), folder)
    (folder / "package.json").write_text('{"private": true}')
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    done = subprocess.run([npm, "install", *options, *PACKAGES], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        unreachable(f"npm cannot install @sigstore/verify: {done.stderr.strip()[-300:]}")

    def answers(key: Path, *files: Path) -> list[str]:
        command = ["node", "sigstore_verify.mjs", key, *files]
        asked = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout.splitlines()

    files = envelopes(script, tmp_path)
    first, *others = answers(keys[0], *files)
    assert first == "accepted"
    assert len(others) == len(ALTERED) and all(answer.startswith("refused ") for answer in others), others
    assert answers(keys[1], files[0])[0].startswith("refused SIGNATURE_ERROR")
