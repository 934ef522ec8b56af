"""``ndrepro keys``: this author's signing key, and the keys of others whose runs are trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.display import options, output, terminal

_PRIVATE = "private: it never leaves this machine"


def show(as_json: options.Json = False) -> int:
    """Show the key that signs this author's runs. None is made.

    Example: ndrepro keys show
    """
    from provenance.attestation.key_home import KeyRing, default_home
    from provenance.attestation.trust import TrustPolicy

    ring = KeyRing(default_home())
    key = TrustPolicy.load(ring.home).key(ring.keyid) if ring.exists else None
    statements = ring.statements() if key else ()
    if as_json:
        found = {"keyid": key and key.keyid, "public_key": key and key.pem, "file": str(ring.path)}
        output.print_json({**found, "state": key and key.state, "statements": [str(path) for path in statements]})
        return output.DONE
    if key is None:
        terminal.write_line(f"no key yet: the first run, or `{terminal.program()} keys export`, makes {ring.path}")
        return output.DONE
    terminal.write_line(f"keyid      {key.keyid}")
    terminal.write_line(f"state      {key.state}")
    terminal.write_line(f"signs by   {ring.source}" if ring.source else f"file       {ring.path} ({_PRIVATE})")
    terminal.write_line(f"to give    {terminal.program()} keys export --out author.pub")
    for path in statements:
        terminal.write_line(f"and        {path}")
    return output.DONE


def export(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there; by default it is printed.")
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Print the public key, for those who verify. Makes the pair where there is none yet.

    Example: ndrepro keys export --out author.pub
    """
    from provenance.attestation.key_home import KeyRing, default_home

    key = KeyRing(default_home()).public_key()
    if out is not None:
        out.write_text(key.pem, encoding="ascii")
    if as_json:
        output.print_json({"keyid": key.keyid, "public_key": key.pem, "file": str(out) if out else None})
    elif out is not None:
        terminal.write_line(f"{out}: public key {key.keyid}")
    else:
        terminal.write_line(key.pem.rstrip("\n"))
    return output.DONE


def trust(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", show_default=False, help="A public key in PEM, or OpenSSH's id_ed25519.pub."),
    ],
    name: Annotated[str, typer.Option("--name", metavar="N", show_default=False, help="Whose key it is.")],
    as_json: options.Json = False,
) -> int:
    """Trust another author's key. Get it over a channel that you trust, and not with the run.

    Example: ndrepro keys trust author.pub --name "Ada Author"
    """
    from provenance.attestation.key_home import default_home
    from provenance.attestation.trust import TrustPolicy, read_public_key

    key = TrustPolicy.load(default_home()).add(read_public_key(file).pem, name)
    if as_json:
        output.print_json(key.to_json())
    else:
        terminal.write_line(f"trusted: {key.keyid} as {key.name}")
    return output.DONE


def list_keys(as_json: options.Json = False) -> int:
    """List the keys that verify accepts.

    Of those that were rotated or revoked, or that expire, it says so.

    Example: ndrepro keys list
    """
    from provenance.attestation.key_home import default_home
    from provenance.attestation.trust import TrustPolicy

    keys = TrustPolicy.load(default_home()).keys()
    if as_json:
        output.print_json({"keys": [{**key.to_json(), "state": key.state} for key in keys]})
        return output.DONE
    for key in keys:
        since = f", since {key.added[:10]}" if key.added else ""
        terminal.write_line(f"{key.keyid}  {key.name}{since}" + (f"; {key.state}" if key.limits else ""))
    if not keys:
        terminal.write_line("none yet: this author's own key is made by the first run")
    return output.DONE


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The key's name or identifier.")],
    as_json: options.Json = False,
) -> int:
    """No longer trust a key that was added.

    Example: ndrepro keys remove "Ada Author"
    """
    from provenance.attestation.key_home import default_home
    from provenance.attestation.trust import TrustPolicy

    key = TrustPolicy.load(default_home()).remove(name)
    if as_json:
        output.print_json(key.to_json())
    else:
        terminal.write_line(f"no longer trusted: {key.keyid}, {key.name}")
    return output.DONE


def sign(
    run: options.Run = options.LATEST_RUN, runs: options.Runs = options.DEFAULT_RUNS, as_json: options.Json = False
) -> int:
    """Add your signature to a run that verifies, as its co-author or reviewer.

    Example: ndrepro keys sign 20261121T122614Z-6a281c
    """
    from ndrepro import api
    from ndrepro.protocol.errors import UsageError
    from provenance.attestation.countersignature import countersign
    from provenance.attestation.key_home import KeyRing, default_home

    folder = options.run_folder(runs, run)
    verdict = api.verify(folder.root)
    if not verdict.ok or verdict.payload_digest is None:
        raise UsageError(
            f"{folder.root}: it does not verify, and is not signed", f"see why: {terminal.program()} verify {run}"
        )
    keyid = countersign(folder.manifest, verdict.payload_digest, KeyRing(default_home()))
    if as_json:
        output.print_json({"run": str(folder.root.absolute()), "keyid": keyid})
    else:
        terminal.write_line(f"{terminal.here(folder.root)}: signed by {keyid} too")
    return output.DONE
