"""The key home: where it is, how its private key is made, read and kept private."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provenance.attestation.key_home import KeyRing, default_home
from provenance.errors import KeyFileError
from provenance.signatures.public_key import PublicKey

GOLDEN = Path(__file__).parent / "golden"
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1","x":"\xc3\xa9>>>???"}'


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "home")


def test_the_key_is_made_once_and_private(ring: KeyRing) -> None:
    assert not ring.exists
    pem = ring.public_key().pem
    assert ring.exists
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.home.stat().st_mode) == 0o700
    assert [path.name for path in ring.home.iterdir()] == [ring.path.name]
    assert KeyRing(ring.home).public_key().pem == pem
    assert PublicKey.from_pem(pem) == ring.public_key()


def test_processes_that_start_at_once_end_with_one_key(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom provenance.attestation.key_home import KeyRing\nimport securesystemslib.signer\n"
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
    with pytest.raises(KeyFileError, match="not a private key in PEM or OpenSSH"):
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
        "import os\nfrom provenance.attestation.key_home import default_home\nos.setuid(54321)\n"
        "try:\n    default_home({})\nexcept Exception as error:\n"
        "    print(type(error).__name__, error.message, error.cure, sep='|')"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.startswith("KeyFileError|")
    assert "HOME is not set and user 54321" in found
    assert "NDREPRO_HOME" in found
