"""``ndrepro audit``: what papers claim, computed again from their tables and from the raw data behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro.analysis.results.results import read_results
from ndrepro.cli.display import options, output, terminal, words
from ndrepro.cli.display.counting import counted
from ndrepro.protocol import extras
from ndrepro.protocol.errors import UsageError
from ndrepro.text.plurals import first_of
from provenance.attestation.trust import TrustPolicy

if TYPE_CHECKING:
    from ndrepro.analysis.audit.audit import Audit, ClaimFinding

_INDENT = 2
_LABEL_WIDTH = 32
_ROWS = 8
_RUNS = 4
_STYLES = {
    "re-derives": "green",
    "contradicted by the raw data": "bold red",
    "only under another definition": "yellow",
    "does not re-derive": "bold red",
    "cannot be checked": "dim",
}


def audit(
    claims: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CLAIMS]", show_default=False, help="A claims file; by default that of the studies, published/."
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option("--runs", metavar="DIR", help="Check the plausibility of the runs in DIR instead.")
    ] = None,
    keys: options.Keys = None,
    markdown: options.Markdown = False,
    as_json: options.Json = False,
) -> int:
    """Recompute the claims of a paper. Exit 1 where a claim does not re-derive, or a table contradicts its raw data.

    Example: ndrepro audit
    """
    extras.require("statsmodels", "matplotlib")
    from ndrepro.analysis.audit import audit_text
    from ndrepro.analysis.audit.audit import audit as check
    from ndrepro.analysis.audit.published_tables import CLAIMS, published_folder

    if markdown and as_json:
        raise UsageError("--markdown and --json", "choose one of them")
    if runs is not None:
        if claims is not None or markdown:
            raise UsageError("--runs with a claims file, or --markdown", "runs are looked at alone, in text or --json")
        return _own_runs(runs, keys or [], as_json)
    path = claims or published_folder() / CLAIMS
    found = check(path / CLAIMS if path.is_dir() else path)
    if as_json:
        output.print_json(found.to_json())
    elif markdown:
        terminal.write_text(audit_text.markdown(found).rstrip("\n"))
    else:
        _print(found)
    return output.DONE if found.holds else output.NO


def _own_runs(folder: Path, keys: list[Path], as_json: bool) -> int:
    """What can hardly be right in the verified runs of a folder."""
    from ndrepro.analysis.audit.plausibility import CANNOT_BE, doubts

    with counted(as_json) as watch:
        scores = read_results(folder, policy=TrustPolicy.from_files(keys), watch=watch)
    found = doubts([*scores.rows, *scores.copies])
    wrong = any(doubt.gravity == CANNOT_BE for doubt in found)
    if as_json:
        output.print_json({"runs": scores.account(), "doubts": found})
        return output.NO if wrong else output.DONE
    refused = f", {len(scores.refused)} refused" if scores.refused else ""
    unfinished = f", {len(scores.unfinished)} not finished" if scores.unfinished else ""
    looked = f"{words.plural(len(scores.rows), 'verified run')}{refused}{unfinished}"
    terminal.write_line(
        f"{looked}: {words.plural(len(found), 'doubt') if found else 'nothing that can hardly be right'}"
    )
    for doubt in found:
        some = first_of(doubt.runs, _RUNS)
        _line(doubt.check, f"{doubt.gravity}: {doubt.text} ({some})", "bold red" if doubt.gravity == CANNOT_BE else "")
    _some("refused", [f"{terminal.here(item.path)}: {item.reason}" for item in scores.refused])
    return output.NO if wrong else output.DONE


def _print(found: Audit) -> None:
    from ndrepro.analysis.audit import audit_text
    from ndrepro.analysis.audit.audit import REDERIVES

    terminal.write_line(found.file.title)
    terminal.write_text(audit_text.summary(found))
    for status in audit_text.ORDER:
        findings = [finding for finding in found.claims if finding.status == status]
        if findings:
            _heading(status, _STYLES[status])
        for finding in findings:
            (_print_short if status == REDERIVES else _print_claim)(finding)
    if found.crosschecks:
        _heading("tables against raw data")
        _print_crosschecks(found)
    _print_suspicions(found)
    if found.without_spread:
        _heading("means without a spread")
        _line("", ", ".join(f"{name} ({found.file.tables[name].source})" for name in found.without_spread))


def _print_claim(finding: ClaimFinding) -> None:
    from ndrepro.analysis.audit import audit_text

    claim = finding.claim
    _line(claim.name, f"{claim.text} ({claim.paper}, {claim.place})")
    _line("", f"claimed {audit_text.claimed(finding)}", style="bold")
    for line in audit_text.outcome(finding):
        _line("", line)


def _print_short(finding: ClaimFinding) -> None:
    from ndrepro.analysis.audit import audit_text

    _line(finding.claim.name, f"{audit_text.claimed(finding)}: {finding.claim.text}")


def _print_crosschecks(found: Audit) -> None:
    from ndrepro.analysis.audit import audit_text

    for cross in found.crosschecks:
        _line(cross.check.name, f"{cross.check.text}: {audit_text.cross_summary(cross)}")
        for head in cross.heads:
            for number, line in enumerate(audit_text.column(head)):
                _line("" if number else f"  {head.head}", line)


def _print_suspicions(found: Audit) -> None:
    from ndrepro.analysis.audit import audit_text

    suspicious = [finding for finding in found.suspicions if finding.rows]
    if suspicious:
        _heading("can hardly be right")
    for finding in suspicious:
        _line(finding.suspicion.name, finding.suspicion.text)
        rows = (", ".join(f"{name} {audit_text.value(value)}" for name, value in row.items()) for row in finding.rows)
        _some("", list(rows))


def _heading(text: str, style: str = "bold") -> None:
    terminal.write_line("")
    terminal.write_styled((text, style))


def _some(label: str, lines: Sequence[str]) -> None:
    """The first of many lines, and how many more there are."""
    more = [f"and {len(lines) - _ROWS} more (--json has them)"] if len(lines) > _ROWS else []
    for line in (*lines[:_ROWS], *more):
        _line(label, line)


def _line(label: str, text: str, style: str = "") -> None:
    terminal.write_row(f"{'':<{_INDENT}}{label:<{_LABEL_WIDTH - _INDENT}}", text, _LABEL_WIDTH, style)
