"""Writes a report's folder: index.html, report.json, report.md, tables/, figures/, and the manifests on demand.

    DIR/index.html                     the page
    DIR/report.json  DIR/report.md     the same as data, and as text
    DIR/forms.html  DIR/forms.md       the forms of journals and conferences, filled in
    DIR/tables/KEY.md KEY.tex          every table of the studies, and that of all experiments
    DIR/figures/KEY.svg
    DIR/manifests/RUN.dsse.json        copies, with ``manifests``, of signed verdicts too; else the page links to them

Equal runs give equal files. A file that a report wrote before is replaced; nothing else in the folder is touched.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import quote

from ndrepro.analysis.results.results import ResultRow, Results
from ndrepro.protocol.layout import expect_folder
from ndrepro.report.elements import style
from ndrepro.report.elements.text_formats import latex, markdown
from ndrepro.report.page.contents import About, Links, Report, contents
from ndrepro.report.page.html import forms_page, page
from ndrepro.report.page.markdown import markdown_forms, markdown_report
from ndrepro.report.sections.forms_page import PAGE as FORMS
from ndrepro.report.sections.run_tables import relative_link
from ndrepro.text.plain_json import plain
from provenance.attestation.run_files import MANIFEST
from provenance.errors import StorageError, UsageError
from provenance.formats.atomic_io import write_atomically
from provenance.git.tracked_paths import expect_no_tracked_link

PAGE, DATA, TEXT, FORMS_TEXT = "index.html", "report.json", "report.md", "forms.md"
_JSON = b".json"
_LONGEST_NAME = 200


def write_report(scores: Results, about: About, folder: Path, *, manifests: bool = False) -> Report:
    """Make the report of ``scores`` and write it into ``folder``, which is made where it is not there.

    ``manifests`` copies every manifest into it. Raises UsageError where ``folder`` holds something that is no report,
    StorageError where it cannot be written.
    """
    _check(folder)
    links = _copies(scores, about, folder) if manifests else _in_place(folder)
    style.load()
    report = contents(scores, about, links)
    try:
        for name in ("tables", "figures"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for drawn in report.figures:
            drawn.draw(folder / "figures" / drawn.key)
        for table in (*report.tables, *report.numbers, *report.comparisons, report.cells):
            _write(folder / "tables" / f"{table.key}.md", markdown(table))
            _write(folder / "tables" / f"{table.key}.tex", latex(table))
        _write(folder / DATA, json.dumps(plain(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        _write(folder / TEXT, markdown_report(report))
        _write(folder / FORMS_TEXT, markdown_forms(report))
        _write(folder / FORMS, forms_page(report))
        inline = [drawn.key for drawn in report.figures if drawn.inline]
        drawings = {key: (folder / "figures" / f"{key}.svg").read_text(encoding="utf-8") for key in inline}
        _write(folder / PAGE, page(report, drawings))
    except OSError as error:
        raise StorageError(
            f"{error.filename or folder}: cannot be written ({error.strerror})", "another -o DIR"
        ) from error
    return report


def _check(folder: Path) -> None:
    expect_folder(folder, "name another folder with -o DIR")
    expect_no_tracked_link(folder, "another -o DIR")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DATA).is_file():
        raise UsageError(f"{folder}: not empty, and no report", "name another folder with -o DIR")
    for place in (folder / name for name in ("tables", "figures", "manifests")):
        if place.is_symlink():  # of a report that came with somebody's repository, who chose where it leads
            raise UsageError(f"{place}: a symbolic link, which is not written through", "another -o DIR")


def _manifest(run: ResultRow) -> Path:
    return run.folder / MANIFEST


def _in_place(folder: Path) -> Links:
    return Links(lambda run: relative_link(_manifest(run), folder), lambda path: relative_link(path, folder))


def _copies(scores: Results, about: About, folder: Path) -> Links:
    place = folder / "manifests"
    sources = {_manifest(run): f"{_file_name(run.run_id.encode())}.dsse.json" for run in scores.rows}
    sources |= {
        item.path: f"verdict-{_file_name(os.fsencode(item.path.name).removesuffix(_JSON))}.json"
        for item in about.verdicts.held
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, name in sources.items():
            write_atomically(place / name, path.read_bytes())
    except OSError as error:
        raise StorageError(f"{error.filename or place}: cannot be copied ({error.strerror})") from error

    def link(path: Path) -> str:
        return f"manifests/{quote(sources[path])}"

    return Links(lambda run: link(_manifest(run)), link)


def _file_name(name: bytes) -> str:
    """A name in letters that every file system has; of a long one its beginning and its digest.

    Each byte of a letter that is not ASCII takes three, and a file's name may have 255.
    """
    quoted = quote(name, safe="")
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    return f"{quoted[: _LONGEST_NAME - 65]}-{hashlib.sha256(name).hexdigest()}"


def _write(path: Path, text: str) -> None:
    # a name of a file need not be UTF-8; what cannot be written is shown as it is escaped
    write_atomically(path, text.encode("utf-8", errors="backslashreplace"))
