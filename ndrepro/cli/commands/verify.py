"""``ndrepro verify``: is this run what its signed manifest says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ndrepro import api
from ndrepro.cli.display import options, output, terminal
from ndrepro.text.plurals import plural
from provenance.attestation.packages import warnings
from provenance.attestation.verdict import Check, Verdict

_STYLES = {"pass": ("ok", "green"), "fail": ("FAIL", "bold red"), "skip": ("skip", "dim")}
_INDENT = len("  1 FAIL ")


def verify(
    run: options.Run = options.LATEST_RUN,
    keys: options.Keys = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", metavar="FILE", help="The ledger of runs; by default the one beside the run."),
    ] = None,
    witness: options.Witness = None,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Check the manifest alone, without the files that it names.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Check too who signed, by a policy in TOML.")
    ] = None,
    timestamp: Annotated[
        Path | None,
        typer.Option("--timestamp", metavar="FILE", help="An authority's time stamp (RFC 3161) of the manifest."),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option("--authority", metavar="FILE", help="That authority's root certificate, PEM.")
    ] = None,
    sigstore_root: Annotated[
        Path | None,
        typer.Option(
            "--sigstore-root", metavar="FILE", help="The trusted root of another Sigstore instance than the public one."
        ),
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Check a run's signature, files and ledger; the latest run where none is named.

    A library file that was edited after its installation, and whatever else puts the recorded packages in doubt, is a
    warning: it was truthfully signed. Exit 0 only if every check holds, 1 if one fails.

    Example: ndrepro verify latest
    """
    alone = manifest_only and Path(run).is_file()
    place = Path(run) if alone else options.run_folder(runs, run).root
    verdict = api.verify(
        place,
        ledger=ledger,
        witness=witness,
        keys=keys or (),
        manifest_only=manifest_only,
        policy=policy,
        timestamp=timestamp,
        authority=authority,
        sigstore_root=sigstore_root,
    )
    flagged = warnings(verdict.manifest) if verdict.manifest else ()
    if as_json:
        output.print_json({"run": str(place.absolute()), **verdict.to_json(), "warnings": list(flagged)})
    else:
        _print(verdict, flagged, place)
    return output.DONE if verdict.ok else output.NO


def _print(verdict: Verdict, flagged: Sequence[str], root: Path) -> None:
    for check in verdict.checks:
        _print_check(check)
    for warning in flagged:
        _print_line("", "warn", "bold yellow", warning)
    failed = sum(check.status == "fail" for check in verdict.checks)
    skipped = sum(check.status == "skip" for check in verdict.checks)
    counted = plural(len(verdict.checks) - failed - skipped, "check")
    rest = f", {skipped} skipped" if skipped else ""
    rest += f", {plural(len(flagged), 'warning')}" if flagged else ""
    terminal.write_line("")
    if verdict.ok:
        terminal.write_line(f"verified: {counted} passed{rest}; signed by {verdict.signer}")
    else:
        terminal.write_line(f"NOT verified: {failed} failed, {counted} passed{rest}")
    terminal.write_line(terminal.here(root))


def _print_check(check: Check) -> None:
    """Number, verdict, name and what was found; what to do on the next line."""
    _print_line(
        f"{check.number:>3}", *_STYLES[check.status], f"{check.name}: {check.message}" if check.message else check.name
    )
    if check.cure and check.status != "pass":
        terminal.write_row("", f"hint: {check.cure}", _INDENT - 1, "dim")


def _print_line(number: str, word: str, style: str, text: str) -> None:
    terminal.write_styled(f"{number:<3} ", (f"{word:<5}", style), terminal.hanging(text, _INDENT))
