"""A table of a report in Markdown and in LaTeX; whatever comes from runs is escaped for each."""

from __future__ import annotations

from collections.abc import Mapping

from ndrepro.report.elements.table import MINUS, MISSING, SIGNS, Table
from ndrepro.text.markdown import markdown_table, printable

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
    # behind the end of a row they would be its argument
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
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


def latex_text(text: str) -> str:
    """Text for LaTeX. Control characters become blanks."""
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))


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
    numeric = [number for number, column in enumerate(table.columns) if column.numeric]
    return markdown_table(table.heads, [[value.signed for value in row] for row in table.rows], numeric)
