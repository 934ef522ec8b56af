"""The key home: where it is, and the private key in it that signs this author's runs.

The private key (Ed25519) is made on first use, mode 600 in a folder of mode 700, outside any git work tree, and is
refused when others can read it. ``signer.json`` names another source where one was chosen: a further file, an OpenSSH
key, a device or a service. Private keys never leave ``KeyRing`` and the modules below it; training processes are never
told where they are.

    signing-key.pem    the key that was made first; later ones are signing-key-KEYID.pem
    signer.json        what signs instead
    key-statements/    rotations, revocations and expirations (key_statements)
    trust.json         the keys of others (trust)
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.attestation.key_statements import EXPIRES, REVOKED, ROTATED, KeyHistory, KeyLimit, statement_files
from provenance.attestation.passphrases import asked_passphrase, no_passphrase, passphrase_file, stored_passphrase
from provenance.attestation.private_keys import (
    Ask,
    check_private,
    is_protected,
    is_uri,
    open_signer,
    private_pem,
    public_of,
)
from provenance.errors import KeyFileError, ProvenanceError
from provenance.formats.atomic_io import write_atomically
from provenance.formats.bounded_read import read_small
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Field
from provenance.signatures.public_key import PublicKey

if TYPE_CHECKING:
    from provenance.signatures.signer import MessageSigner

SCHEMA = "urn:ndrepro:signer:v1"
FIRST_KEY = "signing-key.pem"
_KEY_FILE = re.compile(r"signing-key(-\w+)?\.pem")
_CURES = {
    REVOKED: "make another with `ndrepro keys new`, and give its public key out",
    EXPIRES: "make another with `ndrepro keys new`, and give its public key out",
    ROTATED: "`ndrepro keys rotate` ends a rotation that was interrupted",
}
_CURE_HOME = "set NDREPRO_HOME to a folder of your own, outside any repository"


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The key home: $NDREPRO_HOME, else $XDG_CONFIG_HOME/ndrepro, else .config/ndrepro in the home folder.

    The home folder is $HOME, else what the password database says. Raises KeyFileError where there is none.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NDREPRO_HOME"):
        return Path(environ["NDREPRO_HOME"]).absolute()
    # the XDG specification demands that a relative path be ignored
    if environ.get("XDG_CONFIG_HOME", "").startswith("/"):
        return Path(environ["XDG_CONFIG_HOME"]) / "ndrepro"
    home = environ.get("HOME", "")
    if home and not Path(home).is_absolute():
        raise KeyFileError(f"no folder for the signing key: HOME={home!r} is no absolute path", _CURE_HOME)
    return (Path(home) if home else _account_home()) / ".config" / "ndrepro"


def is_key_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path has, or leads to, the name of a private key in a key home."""
    return any(_KEY_FILE.fullmatch(os.path.basename(each)) for each in (path, os.path.realpath(path)))


def _account_home() -> Path:
    """The home folder of this user's account, where no variable names one."""
    try:
        import pwd
    except ImportError:  # Windows, which has other variables for it
        return Path.home()
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        home = Path()
    if home.is_absolute():
        return home
    unset = f"HOME is not set and user {os.getuid()} has no home folder"
    raise KeyFileError(f"no folder for the signing key: {unset}", _CURE_HOME)


@dataclass(frozen=True)
class SigningSource:
    """What signs in place of ``signing-key.pem``: a file of the key home, a path or a URI; and its public key."""

    source: str
    public: PublicKey

    def to_json(self) -> dict[str, Any]:
        """The file's members: schema, source and public key."""
        return {"schema": SCHEMA, "source": self.source, "publicKey": self.public.pem}

    @classmethod
    def from_json(cls, field: Field) -> SigningSource:
        """What ``to_json`` wrote. Raises the field's error, or KeyFileError for a text that is no public key."""
        members = field.members(("schema", "source", "publicKey"))
        members["schema"].one_of((SCHEMA,))
        return cls(members["source"].text(), PublicKey.from_pem(members["publicKey"].text()))


@dataclass(frozen=True)
class KeyRing:
    """The key home's own signing key. ``passphrases`` is the file of the passphrase that protects it."""

    home: Path
    passphrases: Path | None = None

    @property
    def path(self) -> Path:
        """The private key's file; of a key that is in a device or service, the file that names it."""
        chosen = self.chosen()
        if chosen is None:
            return self.home / FIRST_KEY
        return self.chosen_path if is_uri(chosen.source) else self.home / chosen.source

    @property
    def protected(self) -> bool:
        """Whether the key is in a file that a passphrase protects."""
        return self.exists and not self.source and is_protected(self.path)

    @property
    def source(self) -> str:
        """The device or service that signs, as its URI; "" of a key in a file."""
        chosen = self.chosen()
        return chosen.source if chosen and is_uri(chosen.source) else ""

    @property
    def chosen_path(self) -> Path:
        """The file that says what signs; without it ``signing-key.pem`` does."""
        return self.home / "signer.json"

    @property
    def exists(self) -> bool:
        """Whether there is a key. Raises KeyFileError where the home is no folder: none can be made there."""
        try:
            if not stat.S_ISDIR(self.home.stat().st_mode):
                raise self._no_folder()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KeyFileError(f"{self.home}: cannot be read ({error.strerror})", _CURE_HOME) from None
        return os.path.lexists(self.chosen_path) or os.path.lexists(self.home / FIRST_KEY)

    def chosen(self) -> SigningSource | None:
        """What signs in place of ``signing-key.pem``; None where that does. Raises KeyFileError for a damaged file."""
        try:
            field = Field(parse(read_small(self.chosen_path)), "$", KeyFileError)
            return SigningSource.from_json(field)
        except FileNotFoundError:
            return None
        except ProvenanceError as error:
            cure = "put the right file back, or move it away"
            raise KeyFileError(f"{self.chosen_path}: {error.message}", cure) from None
        except OSError as error:
            raise KeyFileError(f"{self.chosen_path}: cannot be read ({error.strerror})", _CURE_HOME) from None

    def signer(self) -> MessageSigner:
        """The signer, its key made on first use.

        Raises KeyFileError saying what is wrong with the key or its home, or that the key was revoked, was rotated or
        is expired: such a key never signs again.
        """
        signer, key = self._open()
        self._refuse_ended(key.keyid)
        return signer

    def ended_signer(self) -> MessageSigner:
        """The signer although its key may have ended: for statements on the key itself, and for nothing else."""
        return self._open()[0]

    def public_key(self) -> PublicKey:
        """The public key; the pair is made on first use."""
        chosen = self.chosen()
        if chosen is None:
            return self._open()[1]
        if not is_uri(chosen.source):
            self._refuse_work_tree()
            check_private(self.path)
        return chosen.public

    @property
    def keyid(self) -> str:
        """The key's identifier."""
        return self.public_key().keyid

    def limits(self) -> tuple[KeyLimit, ...]:
        """What ends the key, the earliest first."""
        return KeyHistory.load(self.home).limits(self.keyid)

    def statements(self) -> tuple[Path, ...]:
        """The files of all statements on the key, and on those that it was rotated from: to give out with it."""
        family = KeyHistory.load(self.home).family(self.keyid)
        return statement_files(self.home, [self.keyid, *(key.keyid for key in family)])

    def check_unattended(self) -> None:
        """Raise KeyFileError where a key is protected and its passphrase was not given, before work that nobody sees.

        A key that is missing is made by the first run.
        """
        if self.exists:
            self._refuse_ended(open_signer(*self._source(), _unattended(self.passphrases))[1].keyid)

    def write_key(self, name: str, data: bytes) -> None:
        """Write a private key's new file whole, for this user alone. Raises FileExistsError where it exists."""
        temporary = self.home / f".signing-key.{secrets.token_hex(6)}.tmp"
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            # a link, unlike a rename, never replaces a key that another process has just put there
            os.link(temporary, self.home / name)
        finally:
            temporary.unlink()

    def choose(self, source: str, public: PublicKey) -> None:
        """From now on this source signs."""
        text = json.dumps(SigningSource(source, public).to_json(), indent=1, ensure_ascii=False)
        write_atomically(self.chosen_path, text.encode() + b"\n", 0o600)

    def make(self, passphrase: bytes | None) -> None:
        """Make the key. Of two processes at once one wins, and both then read the winner's."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        try:
            self.write_key(FIRST_KEY, private_pem(key, passphrase))
        except FileExistsError:
            if not (self.home / FIRST_KEY).is_file():
                raise self._no_folder() from None
        except OSError as error:
            raise KeyFileError(f"{self.home}: no key can be made there ({error.strerror})", _CURE_HOME) from error
        else:
            if passphrase is not None:  # its public half is read without the passphrase
                self.choose(FIRST_KEY, public_of(key))

    def _open(self) -> tuple[MessageSigner, PublicKey]:
        self._refuse_work_tree()
        if not self.exists:
            file = passphrase_file(self.passphrases)
            self.make(None if file is None else stored_passphrase(file))
        return open_signer(*self._source(), self._ask)

    def _source(self) -> tuple[str, PublicKey | None]:
        chosen = self.chosen()
        if chosen is None:
            return str(self.home.absolute() / FIRST_KEY), None
        source = chosen.source if is_uri(chosen.source) else str(self.home.absolute() / chosen.source)
        return source, chosen.public

    def _ask(self, what: str) -> bytes:
        file = passphrase_file(self.passphrases)
        return asked_passphrase(what) if file is None else stored_passphrase(file)

    def _refuse_ended(self, keyid: str) -> None:
        ended = next((limit for limit in KeyHistory.load(self.home).limits(keyid) if limit.ends_signing), None)
        if ended is not None:
            raise KeyFileError(f"{self.home}: the signing key {keyid} cannot sign: {ended}", _CURES[ended.event])

    def _refuse_work_tree(self) -> None:
        try:
            home = self.home.resolve()
        except (OSError, RuntimeError):  # a loop of links
            raise self._no_folder() from None
        for folder in (home, *home.parents):
            if os.path.lexists(folder / ".git"):
                raise KeyFileError(f"{self.home}: the key home is in the git work tree {folder}", _CURE_HOME)

    def _no_folder(self) -> KeyFileError:
        return KeyFileError(f"{self.home}: not a folder that can hold a key", _CURE_HOME)


def _unattended(file: Path | None) -> Ask:
    named = passphrase_file(file)

    def answer(what: str) -> bytes:
        return no_passphrase(what) if named is None else stored_passphrase(named)

    return answer


def key_test(folder: Path, home: Path, variables: Mapping[str, str], *, by_name: bool) -> Callable[[str], bool]:
    """A test whether an absolute path leads to anything in a key home, or, with ``by_name``, to a signing key anywhere.

    The homes are ``home`` and that which ``variables`` name to a program, but for one that holds its ``folder``.
    """
    places = {home}
    with suppress(ProvenanceError):  # a program without one has no keys
        places.add(default_home({**variables, "NDREPRO_HOME": ""}))
    for each in [*places]:
        with suppress(ProvenanceError):
            places.add(KeyRing(each).path)  # one that was chosen may lie anywhere
    resolved = {Path(os.path.realpath(each)) for each in places}
    homes = [each for each in resolved if not Path(os.path.realpath(folder)).is_relative_to(each)]

    def is_key(path: str) -> bool:
        real = Path(os.path.realpath(path))
        return (by_name and is_key_file(path)) or any(real.is_relative_to(each) for each in homes)

    return is_key
