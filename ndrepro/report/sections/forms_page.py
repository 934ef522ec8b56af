"""The forms of journals and conferences, filled in from what a report has: a manifest, all runs together, the code.

Questions and answers are those of ``analysis.forms``; of the runs together the report knows two things more than a
manifest does: whether results have intervals, and whether others trained runs again. Each form is a table of its own
on the page ``forms.html``; the report's page says how much of each could be answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ndrepro.analysis.results.result_row import ResultRow, manifest_of
from ndrepro.analysis.results.reviewer_verdicts import Attestations
from ndrepro.checklists.checklist_sources import Evidence, Sources
from ndrepro.checklists.forms import FORMS, UNKNOWN, Answer, Form, FormSubject, fill_in
from ndrepro.report.elements.table import NOT_RUN, Column, Table, Value, word
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.text.plurals import plural, span

PAGE = "forms.html"
_RUNS = "report.json"


def filled_in(
    runs: Sequence[ResultRow], cells: Sequence[SeedGroup], verdicts: Attestations, code: Path | None
) -> tuple[Form, ...]:
    """Every form. Of the runs the first one's manifest is evidence of what each of them has."""
    manifest = next((found for run in runs[:1] if (found := manifest_of(run)) is not None), None)
    parts = [f"the manifest of {runs[0].run_id}, the first of {plural(len(runs), 'run')}"] if manifest else []
    parts += [f"the code in {code.resolve().name}"] if code else ["no folder of code (--code DIR)"]
    subject = FormSubject(
        " and ".join(parts),
        Sources(code) if code else None,
        manifest,
        tuple(_spread(cells)),
        tuple(_verdicts(verdicts)),
    )
    return tuple(fill_in(name, subject) for name in FORMS)


def _spread(cells: Sequence[SeedGroup]) -> list[Evidence]:
    several = [cell for cell in cells if cell.test.low is not None]
    if not several:
        return []
    seeds = span(cell.n for cell in several)
    text = f"{len(several)} of {plural(len(cells), 'experiment')} with {seeds} seeds: 95 % intervals (Student), s, n"
    return [Evidence(f"{_RUNS} cells", 0, text)]


def _verdicts(verdicts: Attestations) -> list[Evidence]:
    others = [item for item in verdicts.held if item.by_another]
    counts = Counter((item.signer, item.verdict) for item in others)
    return [
        Evidence(f"{_RUNS} verdicts", 0, f"{signer} signed {verdict} {plural(number, 'time')}")
        for (signer, verdict), number in sorted(counts.items())
    ]


def overview(forms: Sequence[Form]) -> Table:
    """One row a form: how much of it could be answered, with the way there."""
    columns = (Column("Form"), Column("Answered"), Column("Asked by"))
    rows = tuple(
        (
            Value(form.title, href=f"{PAGE}#{form.name}-title"),
            Value(f"{form.answered} of {len(form.answers)}", form.answered / len(form.answers)),
            word(form.source),
        )
        for form in forms
    )
    caption = (
        "Filled in as far as there is evidence. The other questions are for authors or reviewers, and stay not known. "
        f"Evidence from {forms[0].subject if forms else 'nothing'}."
    )
    return Table("forms_overview", "Forms", caption, columns, rows)


def form_table(form: Form) -> Table:
    """Every question with its answer, its evidence, and what else there is to say."""
    columns = (Column("Question"), Column("Answer", facet=True), Column("Evidence"), Column("Remark"))
    rows = tuple((word(each.question), _answer(each), word(_evidence(each)), word(each.note)) for each in form.answers)
    caption = f"{form.source}. {form.answered} of {plural(len(form.answers), 'question')} answered."
    return Table(form.name, form.title, caption, columns, rows, stacked=True)


def _answer(answer: Answer) -> Value:
    return Value(UNKNOWN, status=NOT_RUN) if answer.answer == UNKNOWN else word(answer.answer)


def _evidence(answer: Answer) -> str:
    texts = (
        (f"{item.place}:{item.line}" if item.line else item.place, " ".join(item.text.split()))
        for item in answer.evidence
    )
    return "; ".join(dict.fromkeys(": ".join(filter(None, each)) for each in texts))
