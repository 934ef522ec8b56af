"""Every number on a page of findings is generated, asserted by a test, or said not to be kept.

The text is read in blocks: a paragraph, an item of a list, or a line of a table. A number is covered where a string
of a test that names the page matches the text around it: an f-string with any values in its places, a plain string,
or a regular expression. The test with that string compares its values with kept data; this one finds the numbers that
no such string covers. No findings are commands, names in code, links, headings, versions, years and what a study or a
paper is defined by (``CITED``). A sentence that says "not kept" covers itself, and the table or the commands after it;
with "of this section" the rest of the section, with "of this page" everything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "findings").glob("*.md"))
TESTS = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if path != Path(__file__)]
GENERATED = re.compile(r"<!-- tables: .*?<!-- end of tables -->", re.DOTALL)
HEADS = re.compile(r"^\|.*\n(?=\| ?-)", re.MULTILINE)
TOLD = re.compile(r"(?:(?<=\. )|^)(?:(?!\. ).)*\bnot kept\b(?:(?!\. ).)*")
NO_FINDING = re.compile(
    r"`[^`]*`|\]\([^)]*\)|\b\d+(?:\.\d+){2,}\b|\b(?:19|20)\d\d\b|\b95 %(?= (?:t )?interval)|\(\d+ s here"
    r"|\b(?:[Tt]orch|Python|numpy|SSE|AVX|[Ff]igures?|[Tt]able|[Ss]eeds?|model-signing|commit) \d[\w.]*(?: to \d+)?"
)
# definitions, and numbers of papers and formats: nothing was measured
CITED = (
    "chance is 10 %", "stays at chance, 10 %", "the +2 points of the reproduction", "the paper's curves end at 100 %",
    "on 50,000 images", "at 100 % both are at chance", "(n - 1)", "a t-test at 5 %", "P of at least 0.75", "n = 1",
    "where 29 are recommended", "where 95 of 100 single further runs", "holding together at 95 %", "below 70 %",
    "libjpeg's quality 75", "for quality 50", "reaches beyond 100 %", "Exit code 0", "; 1: some are not", "exit code 3",
    "(family 26, model 2)", "diverge by 1 %", "1 / 0.95", "95 % of the bare steps",
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.\-])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\w]|[.,]\d)")
PLAIN = re.compile(r"^(?=.*[a-z]{3})(?=.* )(?=.*\d).*$")  # words and a number, on one line
ANYTHING = r"(?:[+-]?\d(?:[\d,.]*\d)?(?:e-\d+)?|[^|]{0,80}?)"


def blocks(page: str) -> Iterator[str]:
    """Paragraphs, items and lines of tables that are kept, on one line each."""
    text = HEADS.sub("", GENERATED.sub("", page))
    told = section = ""
    for block in re.split(r"\n\s*\n|\n(?=[*|] )", text):
        line = " ".join(block.split())
        if block.startswith("#"):
            section = ""
        if block.startswith(("#", "    ", "![", "<!--", "```", "| --", "|--")) or not line:
            continue
        if not line.startswith("|"):
            found = TOLD.search(line)
            told = found.group() if found else ""
            section = told if "this section" in told or "this page" in told else section
        if "this page" in section:
            return
        if not section and not (told and line.startswith("|")):
            yield line


def patterns(test: Path) -> Iterator[re.Pattern[str]]:
    """The strings of a test's module that have enough words, or cells of a table, to match the page with."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            literal = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if len(re.findall(r"[a-zA-Z|]", literal)) >= 6:
                yield re.compile("".join(map(_pattern, node.values)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile":
            if isinstance(node.args[0], ast.Constant) and " " in node.args[0].value:
                yield re.compile(node.args[0].value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PLAIN.search(node.value):
            yield re.compile(re.escape(node.value))


def _pattern(part: ast.expr) -> str:
    return re.escape(str(part.value)) if isinstance(part, ast.Constant) else ANYTHING


def uncovered(page: Path, text: str) -> list[str]:
    """Every number of a page's text that no string of a test covers, with the text around it."""
    named = [test for test in TESTS if page.name in test.read_text(encoding="utf-8")]
    known = [NO_FINDING, TOLD, *(pattern for test in named for pattern in patterns(test))]
    found = []
    for block in blocks(text):
        spans = [match.span() for pattern in known for match in pattern.finditer(block)]
        spans += [(at, at + len(each)) for each in CITED if (at := block.find(each)) >= 0]
        for number in NUMBER.finditer(block):
            if not any(start <= number.start() and number.end() <= end for start, end in spans):
                found.append(f"{number.group()} in “{block[max(0, number.start() - 50) : number.end() + 30]}”")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_number_of_a_page_is_covered(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert uncovered(page, text) == []
    new = "A further 12.5 % was seen."
    assert uncovered(page, f"{text}\n## Further\n\n{new}\n") or "of this page" in text, "the control"
