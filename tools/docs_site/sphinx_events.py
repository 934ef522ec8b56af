"""Sphinx extension: generated parts of pages, links as the site has them, and widths of figures."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from docs_site import commands, figure_widths, json_output, manifest, settings, studies

# `<!-- generated: NAME -->` in a page -> the Markdown that takes its place
GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands.single_commands,
    "command groups": commands.command_groups,
    "settings": settings.settings_tables,
    "names": settings.names_tables,
    "manifest": manifest.manifest_members,
    "studies": studies.studies_table,
    "json": json_output.json_members,
}
_MARK = re.compile(r"<!-- generated: ([a-z ]+) -->")
_FOLDER_LINK = re.compile(r"\[([^\]]+)\]\([^)\s:#]*/\)")
_RUNBOOK = re.compile(r"\]\((?:\.\./)+runbooks/([a-z]+)\.md")


def site_page(text: str, page: str) -> str:
    """The text of ``page`` (its name without ``.md``) as the site has it. Raises KeyError for an unknown part.

    A folder of the repository is no page of the site: its link becomes plain text. A runbook is a page in ``how-to``.
    """
    text = _MARK.sub(lambda mark: GENERATED[mark[1]](), text)
    text = _FOLDER_LINK.sub(r"\1", text)
    return _RUNBOOK.sub(lambda link: f"]({posixpath.relpath('how-to', posixpath.dirname(page))}/{link[1]}.md", text)


def _source_read(_app: Sphinx, page: str, content: list[str]) -> None:
    content[0] = site_page(content[0], page)


def _outdated(
    _app: Sphinx, environment: BuildEnvironment, _added: set[str], _changed: set[str], _removed: set[str]
) -> list[str]:
    """Pages with generated parts: what they are made of changes while their own text does not."""
    return [page for page in environment.found_docs if _MARK.search(environment.doc2path(page).read_text("utf-8"))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _source_read)
    app.connect("doctree-resolved", figure_widths.set_widths)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
