"""One page that opens from disk: style and script inside, no request to anywhere, everything from runs escaped.

The page's own policy (Content-Security-Policy) lets only this script run, by its hash, so that a name or a message
that got past the escaping could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from ndrepro.report.elements.table import SIGNS
from ndrepro.report.page.contents import Report

_WORDS = {"better": "better:", "within": "within:", "worse": "worse:"}


def page(report: Report) -> str:
    """The page. Links are relative to the folder that it is written into."""
    return _render("report.html.j2", report, _sections(report))


def forms_page(report: Report) -> str:
    """The page of filled-in forms, beside the other."""
    sections = [("index.html", "The report"), *((f"#{table.key}-title", table.title) for table in report.form_tables)]
    return _render("forms.html.j2", report, sections)


def _render(name: str, report: Report, sections: list[tuple[str, str]]) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(name).render(
        report=report,
        css=Markup(_template("report.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        signs=SIGNS,
        words=_WORDS,
        sections=sections,
    )


def _sections(report: Report) -> list[tuple[str, str]]:
    """Every section of the report's page: the link, and what it is called."""
    sections = [("summary", "Summary"), ("kinds", "Which reproducibility")]
    sections += [("figures", "Figures")] if report.figures else []
    sections += [("published", "Published and own")] if report.tables else []
    sections += [("comparisons-title", "Compared")] if report.comparisons else []
    sections += [
        ("cells-title", "Experiments"),
        ("runs-title", "Runs"),
        ("left-out-title", "Not in the results"),
        ("environments-title", "Where it ran"),
        ("forms-title", "Forms"),
        ("again", "Check it"),
    ]
    return [(f"#{key}", name) for key, name in sections]


def _template(name: str) -> str:
    return (resources.files("ndrepro.report.page") / "templates" / name).read_text(encoding="utf-8")
