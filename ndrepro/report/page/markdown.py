"""The same report as Markdown, its tables also as LaTeX; whatever comes from runs is escaped for each."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ndrepro.report.elements.table import MINUS, MISSING, SIGNS, Table
from ndrepro.report.page.contents import Report

_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    MINUS: r"$-$",
    MISSING: "--",
    "√": r"$\surd$",
    "≥": r"$\geq$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "∞": r"$\infty$",
    "\N{THIN SPACE}": r"\,",
    SIGNS["better"]: r"$\blacktriangle$",
    SIGNS["within"]: r"$\bullet$",
    SIGNS["worse"]: r"$\blacktriangledown$",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_BLANKS = re.compile(r"\s+")


def latex_text(text: str) -> str:
    """Text for LaTeX. Control characters become blanks."""
    return "".join(_LATEX.get(letter, letter) for letter in _printable(text))


def markdown_text(text: str) -> str:
    """Text for one line of Markdown."""
    return _MARKDOWN.sub(r"\\\1", _printable(text))


def latex(table: Table) -> str:
    """A table for a paper that loads booktabs, longtable and amssymb."""
    form = "".join("r" if column.numeric else "l" for column in table.columns)
    heads = " & ".join(map(latex_text, table.heads))
    lines = [" & ".join(latex_text(value.signed) for value in row) for row in table.rows]
    body = "".join(f"{line} \\\\\n" for line in lines)
    return (
        "% needs \\usepackage{booktabs,longtable,amssymb}\n"
        f"\\begin{{longtable}}{{{form}}}\n"
        f"\\caption{{{latex_text(table.title)}. {latex_text(table.caption)}}}\\label{{tab:{table.key}}}\\\\\n"
        f"\\toprule\n{heads} \\\\\n\\midrule\n\\endhead\n{body}\\bottomrule\n\\end{{longtable}}\n"
    )


def markdown(table: Table) -> str:
    """A table in the form that GitHub reads."""
    heads = " | ".join(map(markdown_text, table.heads))
    rule = " | ".join("---:" if column.numeric else "---" for column in table.columns)
    lines = "".join(f"| {' | '.join(markdown_text(value.signed) for value in row)} |\n" for row in table.rows)
    return f"| {heads} |\n| {rule} |\n{lines}"


def markdown_report(report: Report) -> str:
    """The whole report as Markdown; of the runs, only how many there are."""
    parts = [f"# {markdown_text(report.title)}", markdown_text(report.lead)]
    parts.append("\n".join(f"* {fact.label}: {fact.text}" for fact in report.counts))
    parts.append("## Summary")
    parts += [
        f"* **{markdown_text(finding.claim)}** ({markdown_text(finding.source)})\n"
        f"  * run: {markdown_text(finding.evidence)}\n"
        f"  * {SIGNS[finding.standing]} **{finding.verdict}**: {markdown_text(finding.reason)}"
        for finding in report.findings
    ]
    parts += [f"* {markdown_text(note)}" for note in report.notes]
    parts += ["## Which reproducibility", markdown(report.kinds)]
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
    parts += [f"## Not in the results\n\n{markdown_text(report.left_out_words)}"]
    parts += [markdown(report.left_out)] if report.left_out.rows else []
    parts += [f"## Where it ran\n\n{markdown(report.surroundings)}"]
    parts += [f"## Forms\n\n{markdown_text(report.forms_overview.caption)}\n\n{markdown(report.forms_overview)}"]
    commands = "\n".join(f"    {_printable(text)}" for _, text in report.commands)
    parts += [f"## Check it, run it again\n\n{commands}"] if report.commands else []
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def markdown_forms(report: Report) -> str:
    """The forms of journals and conferences as Markdown."""
    parts = [f"# Forms: {markdown_text(report.title)}", markdown_text(report.forms_overview.caption)]
    for table in report.form_tables:
        parts += [f"## {markdown_text(table.title)}", markdown_text(table.caption), markdown(table)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in _BLANKS.sub(" ", text))
