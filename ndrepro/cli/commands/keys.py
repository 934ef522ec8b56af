"""``ndrepro keys``: this author's signing key, and the keys and identities of others whose runs are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndrepro import api
from ndrepro.cli.display import options, output, terminal
from ndrepro.protocol import extras
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing, default_home
from provenance.attestation.trust import TrustPolicy, read_public_key
from provenance.formats.atomic_io import write_atomically
from provenance.keyless.identities import Identity, add_identity, load_identities, remove_identity
from provenance.keyless.signing import sign_keyless

_PRIVATE = "private: it never leaves this machine"


def show(as_json: options.Json = False) -> int:
    """Show the key that signs this author's runs. None is made.

    Example: ndrepro keys show
    """
    ring = KeyRing(default_home())
    key = TrustPolicy.load(ring.home).key(ring.keyid) if ring.exists else None
    statements = ring.statements() if key else ()
    found = {"keyid": key and key.keyid, "public_key": key and key.pem, "file": str(ring.path)}
    document = {**found, "state": key and key.state, "statements": [str(path) for path in statements]}
    if key is None:
        none = f"no key yet: the first run, or `{terminal.program()} keys export`, makes {ring.path}"
        return output.answer(document, (none,), as_json)
    lines = (
        f"keyid      {key.keyid}",
        f"state      {key.state}",
        f"signs by   {ring.source}" if ring.source else f"file       {ring.path} ({_PRIVATE})",
        f"to give    {terminal.program()} keys export --out author.pub",
        *(f"and        {path}" for path in statements),
    )
    return output.answer(document, lines, as_json)


def export(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; by default it is printed.")
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Print the public key, for those who verify. Makes the pair where there is none yet.

    Example: ndrepro keys export --out author.pub
    """
    key = KeyRing(default_home()).public_key()
    if out is not None:
        write_atomically(out, key.pem.encode("ascii"))
    document = {"keyid": key.keyid, "public_key": key.pem, "file": str(out) if out else None}
    return output.answer(document, [f"{out}: public key {key.keyid}"] if out else key.pem.splitlines(), as_json)


def trust(
    name: Annotated[str, typer.Option("--name", metavar="N", show_default=False, help="Whose key it is.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default=False, help="A public key in PEM, or OpenSSH's id_ed25519.pub."),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="ID", help="Instead of a key, who signs by Sigstore: an address, a URI."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="The provider that vouches for the identity.")
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Trust another author's key or identity. Get it over a channel that you trust, and not with the run.

    Example: ndrepro keys trust author.pub --name "Ada Author"
    """
    if (identity is None) != (issuer is None) or (file is None) == (identity is None):
        raise UsageError(
            "what is to be trusted is the file of a key, or an identity with its issuer",
            "name FILE, or both --identity ID and --issuer URL",
        )
    if file is None:
        assert identity is not None and issuer is not None
        added = add_identity(default_home(), identity, issuer, name)
        return _print_identity("trusted", added, as_json)
    key = TrustPolicy.load(default_home()).add(read_public_key(file).pem, name)
    return output.answer(key.to_json(), (f"trusted: {key.keyid} as {key.name}",), as_json)


def list_keys(as_json: options.Json = False) -> int:
    """List the keys and identities that verify accepts.

    Of keys that were rotated or revoked, or that expire, it says so.

    Example: ndrepro keys list
    """
    home = default_home()
    keys, identities = TrustPolicy.load(home).keys(), load_identities(home)
    lines = []
    for key in keys:
        since = f", since {key.added[:10]}" if key.added else ""
        lines.append(f"{key.keyid}  {key.name}{since}" + (f"; {key.state}" if key.limits else ""))
    lines += [f"{each}  {each.name}, since {each.added[:10]}" for each in identities]
    documents = {"keys": [{**key.to_json(), "state": key.state} for key in keys], "identities": identities}
    return output.answer(documents, lines or ["none yet: this author's own key is made by the first run"], as_json)


def remove(
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, help="The key's or identity's name, or itself.")
    ],
    as_json: options.Json = False,
) -> int:
    """No longer trust a key or identity that was added.

    Example: ndrepro keys remove "Ada Author"
    """
    home = default_home()
    if any(name in (each.name, each.identity) for each in load_identities(home)):
        return _print_identity("no longer trusted", remove_identity(home, name), as_json)
    key = TrustPolicy.load(home).remove(name)
    return output.answer(key.to_json(), (f"no longer trusted: {key.keyid}, {key.name}",), as_json)


def sign(
    run: options.Run = options.LATEST_RUN,
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Sign by your identity, through Sigstore, instead of your key.")
    ] = False,
    identity_token: Annotated[
        Path | None, typer.Option("--identity-token", metavar="FILE", help="The identity, where no browser is to ask.")
    ] = None,
    trust_config: Annotated[
        Path | None,
        typer.Option("--trust-config", metavar="FILE", help="Another Sigstore instance than the public one, JSON."),
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Add your signature to a run that verifies, as its co-author or reviewer.

    With --keyless the identity and the signature are entered in a public log, for good; the manifest is sent there.

    Example: ndrepro keys sign 20261121T122614Z-6a281c --keyless
    """
    if keyless:
        extras.require("sigstore")
    elif identity_token or trust_config:
        raise UsageError("a token and an instance are for signing by an identity", "add --keyless")
    folder = options.run_folder(runs, run)
    verdict = api.verify(folder.root)
    if not verdict.ok or verdict.payload_digest is None:
        raise UsageError(
            f"{folder.root}: it does not verify, and is not signed", f"see why: {terminal.program()} verify {run}"
        )
    if keyless:
        return _sign_keyless(folder, verdict.payload_digest, identity_token, trust_config, as_json)
    keyid = countersign(folder.manifest, verdict.payload_digest, KeyRing(default_home()))
    document = {"run": str(folder.root.absolute()), "keyid": keyid}
    return output.answer(document, (f"{terminal.here(folder.root)}: signed by {keyid} too",), as_json)


def _sign_keyless(folder: RunFolder, signed: str, token: Path | None, config: Path | None, as_json: bool) -> int:
    """Sign by an identity, which from then on is accepted here."""
    bundle = sign_keyless(folder.root, signed, identity=token, config=config)
    own = bundle.identities()[0]
    home = default_home()
    known = load_identities(home)
    if bundle.accepted(known) is None:
        name = str(own) if any(each.name == own.identity for each in known) else own.identity
        add_identity(home, own.identity, own.issuer, name)
    document = {"run": str(folder.root.absolute()), "identity": own.identity, "issuer": own.issuer}
    return output.answer(document, (f"{terminal.here(folder.root)}: signed by {own} too",), as_json)


def _print_identity(what: str, identity: Identity, as_json: bool) -> int:
    return output.answer(vars(identity), (f"{what}: {identity} as {identity.name}",), as_json)
