"""The same report as Markdown; whatever comes from runs is escaped."""

from __future__ import annotations

from ndrepro.report.elements.table import SIGNS
from ndrepro.report.elements.text_formats import markdown
from ndrepro.report.page.contents import Report
from ndrepro.text.markdown import markdown_text, printable


def markdown_report(report: Report) -> str:
    """The whole report as Markdown; of the runs, only how many there are."""
    parts = [f"# {markdown_text(report.about.title)}", markdown_text(report.lead)]
    parts.append("\n".join(f"* {fact.label}: {fact.text}" for fact in report.counts))
    parts.append("## Summary")
    parts += ["\n".join(f"* {markdown_text(sentence)}" for sentence in report.summary)] if report.summary else []
    parts += [f"* {markdown_text(note)}" for note in report.notes]
    parts += ["## Published claims"] if report.findings else []
    parts += [
        f"* **{markdown_text(finding.claim)}** ({markdown_text(finding.source)})\n"
        f"  * run: {markdown_text(finding.evidence)}\n"
        f"  * {SIGNS[finding.status]} **{finding.verdict}**: {markdown_text(finding.reason)}"
        for finding in report.findings
    ]
    parts += ["## Kinds of reproducibility", markdown(report.kinds)]
    parts += (
        [f"{markdown_text(report.verdicts.caption)}\n\n{markdown(report.verdicts)}"] if report.verdicts.rows else []
    )
    parts += ["## Figures"] if report.figures else []
    parts += [
        f"### {markdown_text(drawn.title)}\n\n![{markdown_text(drawn.alternative)}](figures/{drawn.key}.svg)\n\n"
        f"{markdown_text(drawn.caption)}"
        for drawn in report.figures
    ]
    parts += [
        f"## {markdown_text(table.title)}\n\n{markdown_text(table.caption)}\n\n{markdown(table)}"
        for table in (*report.numbers, *report.tables, *report.comparisons)
    ]
    parts += [f"## {report.cells.title}\n\n{markdown_text(report.cells.caption)}\n\n{markdown(report.cells)}"]
    parts += [f"## Excluded runs\n\n{markdown_text(report.left_out_words)}"]
    parts += [markdown(report.left_out)] if report.left_out.rows else []
    parts += [f"## Environments\n\n{markdown(report.environments)}"]
    parts += [f"## Forms\n\n{markdown_text(report.forms_overview.caption)}\n\n{markdown(report.forms_overview)}"]
    commands = "\n".join(f"    {printable(text)}" for _, text in report.about.again)
    parts += [f"## Verify and repeat\n\n{commands}"] if report.about.again else []
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def markdown_forms(report: Report) -> str:
    """The forms of journals and conferences as Markdown."""
    parts = [f"# Forms: {markdown_text(report.about.title)}", markdown_text(report.forms_overview.caption)]
    for table in report.form_tables:
        parts += [f"## {markdown_text(table.title)}", markdown_text(table.caption), markdown(table)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
