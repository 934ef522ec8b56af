"""One page that opens from disk: style and script inside, no request to anywhere, everything from runs escaped.

The page's own policy (Content-Security-Policy) lets only this script run, by its hash, so that a name or a message
that got past the escaping could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from ndrepro.report.elements.style import dark_style
from ndrepro.report.elements.table import SIGNS
from ndrepro.report.page.contents import Report
from ndrepro.text.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_WORDS = {"better": "better:", "within": "within:", "worse": "worse:"}


def page(report: Report, drawings: Mapping[str, str]) -> str:
    """The page. Links are relative to the folder that it is written into.

    ``drawings`` are the SVG files of the inline figures, by key.
    """
    return _render("report.html.j2", report, _sections(report), drawings)


def forms_page(report: Report) -> str:
    """The page of filled-in forms, beside the other."""
    sections = [("index.html", "The report"), *((f"#{table.key}-title", table.title) for table in report.form_tables)]
    return _render("forms.html.j2", report, sections, {})


def _render(name: str, report: Report, sections: list[tuple[str, str]], drawings: Mapping[str, str]) -> str:
    from markupsafe import Markup

    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = (
        _environment()
        .get_template(name)
        .render(
            report=report,
            css=Markup(_template("report.css") + dark_style(".drawing")),
            inline={key: Markup(inline_drawing(key, text)) for key, text in drawings.items()},
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            signs=SIGNS,
            words=_WORDS,
            sections=sections,
        )
    )
    return visible(text)


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _sections(report: Report) -> list[tuple[str, str]]:
    """Every section of the report's page: the link, and what it is called."""
    sections = [("summary", "Summary")]
    sections += [("figures", "Figures")] if report.figures else []
    sections += [("cells-title", "Experiments")] if report.distinct else []
    sections += [("comparisons-title", "Comparisons")] if report.comparisons else []
    sections += [("claims", "Published claims")] if report.findings else []
    sections += [("published", "Published values")] if report.tables else []
    sections += [("kinds", "Reproducibility")]
    sections += [("runs-title", "Runs")] if report.distinct else []
    sections += [("left-out-title", "Excluded runs")]
    sections += [("environments-title", "Environments")] if report.distinct else []
    sections += [("forms-title", "Forms"), ("again", "Verify")]
    return [(f"#{key}", name) for key, name in sections]


def rendered_run(**values: Any) -> str:
    """The page of one run from its template; ``values`` are what the template names."""
    from markupsafe import Markup

    figures = [{**asdict(figure), "drawing": Markup(figure.drawing)} for figure in values.pop("figures")]
    css = Markup(_template("report.css") + dark_style(".drawing"))
    return visible(_environment().get_template("run.html.j2").render(css=css, figures=figures, **values))


def inline_drawing(key: str, drawing: str) -> str:
    """The SVG element of a file, without prolog, metadata and a style that would apply to the whole page.

    Every identifier gets the figure's key before it: figures of one page share names such as ``axes_1``.
    """
    element = re.sub(r"<(style|metadata)\b.*?</\1>", "", drawing[drawing.index("<svg") :], count=3, flags=re.DOTALL)
    return re.sub(r'( id="|href="#|url\(#)', rf"\1{key}-", element)


def _template(name: str) -> str:
    return (resources.files("ndrepro.report.page") / "templates" / name).read_text(encoding="utf-8")
