"""``ndrepro checklist``: guidelines for reproducible deep learning, each with its evidence; forms filled in from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ndrepro.checklists import checklist as guidelines
from ndrepro.checklists import forms
from ndrepro.checklists.checklist import SOURCE, Checklist, evidence_lines
from ndrepro.checklists.checklist_run import Run, read_run
from ndrepro.checklists.checklist_sources import Sources
from ndrepro.checklists.forms import Form
from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.runs.run_resolver import experiment_runs
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.trust import TrustPolicy

_LABEL_WIDTH = 14
_STYLES = {
    "found": "green",
    "with gaps": "yellow",
    "anti-pattern": "bold red",
    "not found": "red",
    "not in a run": "dim",
}


def checklist(
    subject: Annotated[
        str,
        typer.Argument(metavar="[RUN|REPO]", help="A folder of code; or a run: its folder, identifier or experiment."),
    ] = ".",
    form: Annotated[
        str | None, typer.Option("--form", metavar="FORM", help="Fill in mlcode, acm, neurips or rescience instead.")
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    keys: options.Keys = None,
    markdown: options.Markdown = False,
    as_json: options.Json = False,
) -> int:
    """Check guidelines of reproducibility, with evidence. Exit 1 where there is none of a guideline.

    Example: ndrepro checklist --form neurips
    """
    if markdown and as_json:
        raise UsageError("--markdown and --json", "choose one of them")
    if form is not None and form not in forms.FORMS:
        raise UsageError(f"no form '{form}'", f"one of {', '.join(forms.FORMS)}")
    code, run = _subject(subject, runs, keys or [])
    name = terminal.here(run.path) if run else Path(subject).resolve().name
    if form is not None:
        filled = forms.fill_in(form, forms.FormSubject(name, code, run.manifest if run else None))
        if not _put(filled.to_json(), forms.markdown(filled), as_json, markdown):
            _print_form(filled)
        return output.DONE if filled.answered == len(filled.answers) else output.NO
    found = guidelines.check_run(run, name) if run else guidelines.check_repository(_known(code), name)
    if not _put(found.to_json(), guidelines.markdown(found), as_json, markdown):
        _print(found)
    return output.DONE if found.points == found.possible else output.NO


def _subject(text: str, runs: Path, keys: list[Path]) -> tuple[Sources | None, Run | None]:
    """A folder of code, or a run: whatever else names one."""
    path = Path(text)
    folder = RunFolder(path)
    if path.is_dir() and not (folder.manifest.exists() or folder.request.exists() or experiment_runs(path)):
        return Sources(path), None
    return None, read_run(options.run_or_manifest(runs, text), TrustPolicy.from_files(keys))


def _known(code: Sources | None) -> Sources:
    assert code is not None  # a subject that is no run is a folder of code
    return code


def _put(document: Any, text: str, as_json: bool, markdown: bool) -> bool:
    """Print as JSON or Markdown, where that was asked for."""
    if as_json:
        output.print_json(document)
    elif markdown:
        terminal.write_text(text.rstrip("\n"))
    return as_json or markdown


def _print(found: Checklist) -> None:
    terminal.write_line(f"{found.subject}: {found.points} of {found.possible} guidelines have evidence ({SOURCE})")
    for note in found.notes:
        terminal.write_line(note)
    for finding in found.findings:
        terminal.write_styled((f"{finding.status:<{_LABEL_WIDTH}}", _STYLES[finding.status]), finding.guideline.title)
        for good, line in evidence_lines(finding):
            _line(line if good else f"against it: {line}", "" if good else "yellow")
        if finding.status in ("not found", "anti-pattern") and finding.absent:
            _line(f"looked for: {', '.join(finding.absent)}", "dim")


def _print_form(form: Form) -> None:
    terminal.write_line(f"{form.title}, {form.subject}: {form.answered} of {len(form.answers)} answered")
    for answer in form.answers:
        known = answer.answer in ("yes", "no", "not known")
        style = {"yes": "green", "no": "red", "not known": "dim"}.get(answer.answer, "")
        terminal.write_styled((f"{answer.answer if known else 'filled in':<{_LABEL_WIDTH}}", style), answer.question)
        if not known:
            _line(answer.answer)
        for evidence in answer.evidence:
            _line(str(evidence))
        if answer.note:
            _line(answer.note, "dim")


def _line(text: str, style: str = "") -> None:
    terminal.write_row("", text, _LABEL_WIDTH - 1, style)
