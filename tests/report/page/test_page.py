"""The page in a browser: it opens from disk, sorts, filters, copies, and can be used without seeing or pointing.

Screenshots of every page, light, dark, narrow and printed, are kept in build/screenshots.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from reviewed_runs import Reviewed
from signed_runs import HOSTILE, SignedRuns

from ndrepro.analysis.run_curves import CurvePanel, RunCurve
from ndrepro.report.page.contents import About
from ndrepro.report.page.run_page import write_run_page
from ndrepro.report.page.write import write_report

PICTURES = Path(__file__).resolve().parents[3] / "build" / "screenshots"
PAGES = ["table1", "seeds", "generalization", "reviewed", "forms", "run"]
# what WCAG 2.2 asks at level AA, and axe's own advice
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser.open(tmp_path_factory.mktemp("browser")) as opened:
        opened.look()
        yield opened


@pytest.fixture(scope="module")
def pages(
    table1: SignedRuns,
    seeds: SignedRuns,
    generalization: SignedRuns,
    reviewed: Reviewed,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A page of each study, one with verdicts and both scenarios, and its forms, by name."""
    folder = tmp_path_factory.mktemp("pages")
    found = {"table1": table1, "seeds": seeds, "generalization": generalization}
    for name, signed in found.items():
        about = About(f"The study {name}", "0", again=(("This report again", "ndrepro report 'a b'"),))
        write_report(signed.scores(), about, folder / name)
    scores, verdicts = reviewed.read()
    about = About("Runs that were reviewed", "0", verdicts=verdicts)
    write_report(scores, about, folder / "reviewed")
    places = {name: folder / name / "index.html" for name in (*found, "reviewed")}
    panel = CurvePanel("accuracy", "epoch", (RunCurve("test $ok$ $\\frac$", (1.0, 2.0, 3.0), (0.1, math.nan, 0.3)),))
    write_run_page(
        folder / "run.html", f"lenet {HOSTILE}", "Completed.", [("seed", HOSTILE), ("key", "0" * 64)], [panel], "0"
    )
    return {**places, "forms": folder / "reviewed" / "forms.html", "run": folder / "run.html"}


def column(browser: Browser, table: str, number: int) -> list[str]:
    script = f"[...document.querySelectorAll('#{table} tbody tr')].filter((row) => !row.hidden)"
    return list(browser.ask(f"{script}.map((row) => row.cells[{number}].textContent.trim())"))


def head(browser: Browser, table: str, title: str) -> int:
    script = f"[...document.querySelectorAll('#{table} thead th[data-column]')].map((head) => head.textContent.trim())"
    return list(browser.ask(script)).index(title)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_disk_without_a_complaint(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.complaints.clear()
    browser.go(pages[name])
    browser.picture(PICTURES / f"{name}-light.png")
    assert browser.ask("document.querySelector('img[onerror]') === null")
    assert browser.ask("[...document.images].every((image) => image.naturalWidth > 0)")
    assert (browser.complaints, browser.requests) == ([], [])
    browser.ask("console.error('a control')")
    assert len(browser.complaints) == 1


def test_a_column_sorts_by_number_both_ways_and_says_so(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["seeds"])
    place = head(browser, "runs", "Test %")
    before = column(browser, "runs", place)
    press = f"document.querySelector('#runs th[data-column=\"{place}\"] button').click()"
    sorts = f"document.querySelector('#runs th[data-column=\"{place}\"]').ariaSort"
    assert browser.ask(sorts) == "none"
    browser.ask(press)
    assert column(browser, "runs", place) == sorted(before, key=float) != before
    assert browser.ask(sorts) == "ascending"
    browser.ask(press)
    assert column(browser, "runs", place) == sorted(before, key=float, reverse=True)
    assert browser.ask(sorts) == "descending"
    assert browser.ask("document.querySelectorAll('#runs th[aria-sort=\"descending\"]').length") == 1


def test_filters_keep_what_fits_and_count_it(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["seeds"])
    tools = "document.querySelector('.tools[data-for=runs]')"
    network = head(browser, "runs", "Network")
    browser.ask(f"{{ const input = {tools}.querySelector('input'); input.value = 'LENET cifar10'; "
                "input.dispatchEvent(new Event('input')); }")  # fmt: skip
    assert set(column(browser, "runs", network)) == {"lenet"} and len(column(browser, "runs", network)) == 20
    assert browser.ask(f"{tools}.querySelector('output').value") == "20 of 100 rows"
    method = f"[...{tools}.querySelectorAll('label')].find((label) => label.textContent.startsWith('Method'))"
    browser.ask(f"{{ const select = {method}.querySelector('select'); select.value = 'nd'; "
                "select.dispatchEvent(new Event('change')); }")  # fmt: skip
    assert len(column(browser, "runs", network)) == 10


def test_every_control_is_reached_by_the_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["seeds"])
    browser.ask("window.scrollTo(0, 0)")
    wanted = browser.ask("document.querySelectorAll('a[href], button, input, select').length")
    reached: set[Any] = set()
    browser.ask("[...document.querySelectorAll('*')].forEach((item, number) => { item.dataset.number = number; })")
    for _ in range(60):
        browser.press("Tab")
        reached.add(browser.ask("document.activeElement.dataset.number"))
    assert len(reached) == 60 and wanted > 60
    browser.ask("document.querySelector('#runs th button').focus()")
    browser.press("Enter")
    assert browser.ask("document.querySelector('#runs th').ariaSort") == "ascending"


def test_a_command_is_copied_as_it_is(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["table1"])
    browser.ask("document.querySelector('.command .copy').click(); new Promise((done) => setTimeout(done, 300))")
    assert browser.ask("document.getElementById('told').textContent") == "copied: ndrepro report 'a b'"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
def test_axe_finds_nothing(name: str, look: str, browser: Browser, pages: dict[str, Path]) -> None:
    if find_spec("axe_core_python") is None:
        reason = "axe-core-python is not installed: make env"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    browser.look(390 if look == "narrow" else 1280, dark=look == "dark")
    browser.go(pages[name])
    if look != "light":
        browser.picture(PICTURES / f"{name}-{look}.png")
    browser.ask((resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8") + "; 1")
    told = "({violations}) => violations.map((each) => [each.id, each.nodes[0].html])"
    report = f"axe.run({{runOnly: {TAGS}}}).then({told})"
    assert browser.ask(report) == []
    if (name, look) == ("table1", "light"):
        browser.ask("document.querySelector('.lead').style.color = '#ccc'; document.querySelector('img').alt = ''; 1")
        browser.ask("document.querySelector('img').removeAttribute('alt')")
        assert {each[0] for each in browser.ask(report)} >= {"color-contrast", "image-alt"}
    browser.look()


# words of the first columns that are broken across lines, and captions that are truncated
BROKEN = """
[...document.querySelectorAll('tbody th, thead th')].flatMap((head) => [...head.querySelectorAll('*'), head]
  .flatMap((item) => [...item.childNodes]).filter((node) => node.nodeType === 3)
  .flatMap((node) => [...node.data.matchAll(/[A-Za-z0-9_%]{2,24}/g)].filter((word) => {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    return new Set([...range.getClientRects()].map((box) => box.top)).size > 1;
  }).map((word) => word[0])))
"""
CUT = """
[...document.querySelectorAll('.caption, figcaption')].filter((each) => each.closest('.scroll')
  || each.scrollWidth > each.clientWidth + 1 || each.getBoundingClientRect().right > innerWidth).map((each) => each.id)
"""


# the height of the smallest letters of drawings, in pixels: letters are drawn at a hundredth of their size
LETTERS = """
Math.min(...[...document.querySelectorAll('.drawing g[transform*="scale("]')].map((letters) =>
  100 * Number(letters.getAttribute('transform').match(/scale\\(([\\d.]+)/)[1])
    * letters.ownerSVGElement.clientWidth / letters.ownerSVGElement.viewBox.baseVal.width))
"""


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_page_cuts_no_caption_and_breaks_no_word(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(390)
    browser.go(pages[name])
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert (browser.ask(BROKEN), browser.ask(CUT)) == ([], [])
    assert browser.ask("document.querySelector('.drawing')") is None or browser.ask(LETTERS) >= 11
    if name == "table1":
        browser.ask("document.querySelectorAll('tbody th').forEach((head) => { head.style.cssText = "
                    "'max-width: 3rem; overflow-wrap: anywhere' }); "
                    "document.querySelector('.scroll').prepend(document.querySelector('.caption')); 1")  # fmt: skip
        assert browser.ask(BROKEN) and browser.ask(CUT), "the control"
    browser.look()


def test_a_wide_table_shows_that_it_scrolls_and_keeps_its_first_column(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.look(390)
    browser.go(pages["table1"])
    area = "document.getElementById('cells').closest('.scroll')"
    left = f"{area}.querySelector('tbody th').getBoundingClientRect().left"
    before = browser.ask(left)
    assert browser.ask(f"{area}.hasAttribute('data-more')")
    browser.ask(f"{area}.scrollLeft = 1e6; new Promise((done) => setTimeout(done, 200))")
    assert browser.ask(left) == before and not browser.ask(f"{area}.hasAttribute('data-more')")
    browser.look()


def test_a_table_of_one_row_has_no_blank_space(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["table1"])
    height = browser.ask("document.querySelector('#comparisons tbody tr').getBoundingClientRect().height")
    assert height < 60, "one or two lines: what all rows share is in the caption"


def test_a_point_shows_its_value_under_the_pointer(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["table1"])
    point = "document.querySelector('.drawing g[id*=\"final_scores-0-0\"]')"
    browser.ask(f"{point}.scrollIntoView({{block: 'center'}}); 1")
    box = browser.ask(
        f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({point}.getBoundingClientRect())"
    )
    assert browser.ask("document.getElementById('tip').hidden")
    browser.point(*box)
    assert browser.ask("document.getElementById('tip').textContent").endswith("%")
    assert not browser.ask("document.getElementById('tip').hidden")


def test_without_a_script_every_row_figure_and_disclosure_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.go(pages["table1"])
        assert browser.ask("[...document.querySelectorAll('.drawing svg')].every((each) => each.clientWidth > 300)")
        assert browser.ask("document.querySelectorAll('.drawing title').length") > 50
        assert browser.ask("[...document.querySelectorAll('.copy, .tools')].every((each) => each.hidden)")
        assert browser.ask("document.querySelectorAll('#runs tbody tr').length") == 11
        assert browser.ask("[...document.querySelectorAll('details')].every((each) => each.querySelector('summary'))")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_print_shows_all_rows_and_no_controls(browser: Browser, pages: dict[str, Path]) -> None:
    browser.look(media="print")
    browser.go(pages["seeds"])
    assert browser.ask("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.ask("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert browser.ask("getComputedStyle(document.querySelector('.scroll.long')).maxHeight") == "none"
    browser.picture(PICTURES / "seeds-print.png")
    browser.look()


def test_forms_filter_by_answer_and_the_report_leads_to_them(browser: Browser, pages: dict[str, Path]) -> None:
    browser.go(pages["reviewed"])
    links = "[...document.querySelectorAll('#forms_overview a')].map((link) => link.getAttribute('href'))"
    assert browser.ask(links)[1] == "forms.html#acm-title"
    browser.go(pages["forms"])
    tools = "document.querySelector('.tools[data-for=neurips]')"
    browser.ask(f"{{ const select = {tools}.querySelector('select'); select.value = 'not known'; "
                "select.dispatchEvent(new Event('change')); }")  # fmt: skip
    answers = column(browser, "neurips", head(browser, "neurips", "Answer"))
    assert set(answers) == {"not known"} and 0 < len(answers) < 16
