"""The key home: where it is, and the private key in it that signs this author's runs.

The private key (Ed25519) is made on first use, mode 600 in a folder of mode 700, outside any git work tree, and is
refused when others can read it. It never leaves this module's ``KeyRing``; training processes are never told where it
is.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provenance.attestation.dsse import PublicKey
from provenance.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

_CURE_HOME = "set NDREPRO_HOME to a folder of your own, outside any repository"


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The key home: $NDREPRO_HOME, else $XDG_CONFIG_HOME/ndrepro, else .config/ndrepro in the home folder.

    The home folder is $HOME, else what the password database says. Raises KeyFileError where there is none.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NDREPRO_HOME"):
        return Path(environ["NDREPRO_HOME"]).absolute()
    # the XDG specification tells to ignore a relative path
    if environ.get("XDG_CONFIG_HOME", "").startswith("/"):
        return Path(environ["XDG_CONFIG_HOME"]) / "ndrepro"
    home = environ.get("HOME", "")
    if home and not Path(home).is_absolute():
        raise KeyFileError(f"no folder for the signing key: HOME={home!r} is no absolute path", _CURE_HOME)
    return (Path(home) if home else _account_home()) / ".config" / "ndrepro"


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
class KeyRing:
    """The key home's own signing key."""

    home: Path

    @property
    def path(self) -> Path:
        """The private key's file."""
        return self.home / "signing-key.pem"

    @property
    def exists(self) -> bool:
        """Whether the key has been made. Raises KeyFileError where the home is no folder: none can be made there."""
        if self.home.exists() and not self.home.is_dir():
            raise self._no_folder()
        return os.path.lexists(self.path)

    def signer(self) -> CryptoSigner:
        """The signer, its key made on first use. Raises KeyFileError saying what is wrong with the key or its home."""
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

        return CryptoSigner(self._private_key())

    def public_key(self) -> PublicKey:
        """The public key; the pair is made on first use."""
        return PublicKey._of(self._private_key().public_key())

    def public_key_pem(self) -> str:
        """The public key in PEM, to give to those who verify."""
        return self.public_key().pem

    @property
    def keyid(self) -> str:
        """The key's identifier."""
        return self.public_key().keyid

    def _private_key(self) -> PrivateKeyTypes:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._refuse_work_tree()
        if not self.exists:
            self._make()
        try:
            return load_pem_private_key(self._read(), None)
        except (ValueError, TypeError) as error:
            raise KeyFileError(
                f"{self.path}: not an unencrypted private key in PEM ({error})",
                "put the right file back, or move it away and let a new one be made",
            ) from None

    def _refuse_work_tree(self) -> None:
        home = self.home.resolve()
        for folder in (home, *home.parents):
            if os.path.lexists(folder / ".git"):
                raise KeyFileError(f"{self.home}: the key home lies in the git work tree {folder}", _CURE_HOME)

    def _make(self) -> None:
        """Make the key. Of two processes at once one wins, and both then read the winner's."""
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined, unused-ignore]

        temporary = self.home / f".signing-key.{secrets.token_hex(6)}.tmp"
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as stream:
                    stream.write(CryptoSigner.generate_ed25519().private_bytes)
                    stream.flush()
                    os.fsync(stream.fileno())
                # a link, unlike a rename, never replaces a key that another process has just put there
                os.link(temporary, self.path)
            finally:
                temporary.unlink()
        except FileExistsError:
            if not self.path.is_file():
                raise self._no_folder() from None
        except OSError as error:
            raise KeyFileError(f"{self.home}: no key can be made there ({error.strerror})", _CURE_HOME) from error

    def _no_folder(self) -> KeyFileError:
        return KeyFileError(f"{self.home}: not a folder that can hold a key", _CURE_HOME)

    def _read(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            with open(descriptor, "rb") as stream:
                self._refuse_open_modes(os.fstat(descriptor).st_mode)
                return stream.read()
        except OSError as error:
            raise KeyFileError(f"{self.path}: cannot be read ({error.strerror})", _CURE_HOME) from error

    def _refuse_open_modes(self, mode: int) -> None:
        if os.name == "nt":
            return  # a file's mode says nothing there; a profile's folders are its user's alone
        if mode & 0o077:
            raise KeyFileError(
                f"{self.path}: mode {stat.S_IMODE(mode):o}, others may read the private key (expected 600)",
                f"chmod 600 {self.path}; if others may have read it, move it away and let a new one be made",
            )
        folder = self.home.stat().st_mode
        if folder & 0o022:
            raise KeyFileError(
                f"{self.home}: mode {stat.S_IMODE(folder):o}, others may put their own key there (expected 700)",
                f"chmod 700 {self.home}",
            )
