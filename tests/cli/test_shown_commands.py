"""Every command that a page shows is one that the program has; those that need no training are executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import ROOT, Answer
from shown_commands import PAGES, problem, shown

from ndrepro.cli.display import output
from ndrepro.protocol.experiment.catalogue import METHODS
from ndrepro.protocol.experiment.determinism import LEVELS

TARGETS = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
README = (ROOT / "README.md").read_text(encoding="utf-8")
# commands that read, and neither train nor write
READING = re.compile(r"(.venv/bin/)?ndrepro (list|settings|study (list|plan)|env list|keys (list|show))\b")


def shown_on(page: Path) -> list[str]:
    return list(shown(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pages_commands_exist(page: Path) -> None:
    assert [wrong for command in shown_on(page) if (wrong := problem(command, TARGETS))] == []


def test_commands_are_seen_and_wrong_ones_found() -> None:
    text = (
        "`make nothing` and\n\n    ndrepro run lenet_bn_1_digits --sed 3   # a comment\n    ndrepro keys expotr\n\n"
        "```sh\n.venv/bin/ndrepro diff A B \\\n    --locat\nls\n```\n```python\nndrepro.record()\n```\n"
        "    ndrepro run lenet_bn_1_digit\n    ndrepro run lenet_bn_1_digits --set lr=1\n"
        "\n`ndrepro record -- x --any`\n"
    )
    wrong = [problem(command, TARGETS) for command in shown(text)]
    assert [each and each.partition(": ")[2] for each in wrong] == [
        "no option --locat",
        "no option --sed",
        "no command expotr",
        "unknown experiment",
        "unknown setting",
        "no target nothing",
        None,
    ]
    assert sum(len(shown_on(page)) for page in PAGES) > 200


def test_commands_that_only_read_are_answered(ndrepro: Callable[..., Answer]) -> None:
    asked = {command for page in PAGES for command in shown_on(page) if READING.match(command)}
    done = {}
    for command in sorted(asked):
        words = shlex.split(command)[1:]
        if not any(re.fullmatch(r"[A-Z_]{2,}|.*[…=].*|[a-z]*\.toml", word) for word in words):
            done[command] = ndrepro(*words)
    assert len(done) >= 8
    assert [command for command, answer in done.items() if answer.code not in (output.DONE, output.NO)] == []


def test_the_readme_is_short_and_shows_its_pictures() -> None:
    assert len(README.splitlines()) <= 75
    assert len(README.partition("\n## ")[0].split()) <= 200  # beside its picture, what is above the details
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)|<img src=\"([^\"]+)\"[^>]*\balt=\"[^\"]", README)
    pictures = [picture for pair in pictures for picture in pair if picture]
    assert len(pictures) >= 2 and all((ROOT / picture).stat().st_size < 300_000 for picture in pictures)
    links = [link for link in re.findall(r"\]\(([^):#]+)", README) if not (ROOT / link).exists()]
    assert links == []


def test_the_readmes_result_is_what_the_recording_shows() -> None:
    svg = (ROOT / "docs" / "figures" / "terminal-diff.svg").read_text(encoding="utf-8")
    recorded = " ".join(re.sub(r"<[^>]+>", " ", svg).replace("&#160;", " ").split())
    claim = README.partition("**One thread instead of two.**")[2].partition("**")[0]
    numbers = re.findall(r"\d+(?:\.\d+)?(?:e-\d+| %)", claim)
    assert len(numbers) == 3 and [number for number in numbers if number not in recorded] == []


def test_the_pages_have_every_method_level_and_exit_code() -> None:
    page = (ROOT / "docs" / "how-to" / "run.md").read_text(encoding="utf-8")
    assert [name for name in (*METHODS, *LEVELS) if f"`{name}`" not in page] == []
    codes = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^\| (\d) \| .+ \|$", codes)
    assert listed == [str(code) for code in (output.DONE, output.NO, output.USAGE, output.COULD_NOT)]
