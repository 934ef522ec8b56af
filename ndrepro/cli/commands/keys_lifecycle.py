"""``ndrepro keys new | use | rotate | revoke | import``: a signing key's life, and statements on keys of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.display import options, output, terminal
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing, default_home
from provenance.attestation.key_lifecycle import KeyChange
from provenance.attestation.key_statements import keep_all
from provenance.attestation.passphrases import new_passphrase, stored_passphrase
from provenance.attestation.trust import TrustPolicy, read_public_key
from provenance.formats.strict_json import timestamp

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        envvar="NDREPRO_PASSPHRASE_FILE",
        help="The passphrase that protects the key, in a file of mode 600.",
    ),
]
Protect = Annotated[bool, typer.Option("--protect", help="Protect the new key by a passphrase, asked for here.")]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="DATE", help="What the key signs from then on does not count: 2027-01-31."),
]


def new(
    passphrase_file: PassphraseFile = None,
    protect: Protect = False,
    expires: Expires = None,
    as_json: options.Json = False,
) -> int:
    """Make a signing key: the first, or one in place of a key that was revoked or is expired.

    Example: ndrepro keys new --protect --expires 2027-12-31
    """
    ring = KeyRing(default_home(), passphrase_file)
    return _print(key_lifecycle.new_key(ring, _passphrase(passphrase_file, protect), _until(expires)), as_json)


def rotate(
    passphrase_file: PassphraseFile = None,
    protect: Protect = False,
    expires: Expires = None,
    as_json: options.Json = False,
) -> int:
    """Make a new signing key, which the old one introduces; runs that the old one signed stay verifiable.

    In place of a protected key the new one is protected too.

    Example: ndrepro keys rotate --expires 2028-12-31
    """
    ring = KeyRing(default_home(), passphrase_file)
    passphrase = _passphrase(passphrase_file, protect or ring.protected)
    return _print(key_lifecycle.rotate(ring, passphrase, _until(expires)), as_json)


def use(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A private key's file (PEM or OpenSSH), or a signer's URI: gcpkms:…, awskms:…, hsm:…, file2:PATH.",
        ),
    ],
    public: Annotated[
        Path | None, typer.Argument(metavar="PUBLICKEY", show_default=False, help="Its public key; a URI needs it.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    as_json: options.Json = False,
) -> int:
    """Sign with a key that exists: an OpenSSH key, a file, a device or a service. An earlier key introduces it.

    Example: ndrepro keys use ~/.ssh/id_ed25519
    """
    ring = KeyRing(default_home(), passphrase_file)
    key = None if public is None else read_public_key(public)
    return _print(key_lifecycle.use_source(ring, source, key, _until(expires)), as_json)


def revoke(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", show_default=False, help="Why, for those who verify.")
    ],
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEYID", show_default=False, help="A key of yours that was rotated; by default yours."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="What it signed from then on does not count; by default now."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: options.Json = False,
) -> int:
    """Revoke this author's key, which then never signs again, and write the statement to hand out.

    Example: ndrepro keys revoke --reason "laptop stolen" --since 2027-03-01
    """
    ring = KeyRing(default_home(), passphrase_file)
    when = timestamp() if since is None else key_lifecycle.day_or_time(since)
    statement, path = key_lifecycle.revoke(ring, key, when, reason)
    lines = (
        f"{statement.key.keyid}: {statement.limit}",
        f"to give    {path}",
        f"they run   {terminal.program()} keys import {path.name}",
    )
    document = {"keyid": statement.key.keyid, "state": str(statement.limit), "statement": str(path)}
    return output.answer(document, lines, as_json)


def import_statements(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", show_default=False, help="Statements that a key's holder gave.")
    ],
    as_json: options.Json = False,
) -> int:
    """Take in signed statements that a key was rotated or revoked, or expires.

    Example: ndrepro keys import revoked-1a2b3c4d5e6f7a8b-9c0d1e2f.dsse.json
    """
    home = default_home()
    policy = TrustPolicy.load(home)
    found = keep_all(home, files)
    keys = [(each.key.keyid, policy.name_of(each.key.keyid), str(each.limit)) for each in found]
    rows = [{"keyid": keyid, "name": name, "state": state} for keyid, name, state in keys]
    lines = [f"{keyid} ({name or 'no key that is trusted here'}): {state}" for keyid, name, state in keys]
    return output.answer({"statements": rows}, lines, as_json)


def _until(expires: str | None) -> str | None:
    return None if expires is None else key_lifecycle.day_or_time(expires)


def _passphrase(file: Path | None, protect: bool) -> bytes | None:
    if file is not None:
        return stored_passphrase(file)
    return new_passphrase() if protect else None


def _print(change: KeyChange, as_json: bool) -> int:
    statements = [str(path) for path in change.statements]
    before = change.before and change.before.keyid
    lines = (
        f"signs now  {change.key.keyid}",
        *([f"before     {before}"] if before else []),
        f"to give    {terminal.program()} keys export --out author.pub",
        *(f"and        {path}" for path in statements),
    )
    return output.answer({"keyid": change.key.keyid, "before": before, "statements": statements}, lines, as_json)
