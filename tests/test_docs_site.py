"""The documentation builds as a site without a warning, and its pages are where readers look for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest
from browser import Browser
from docs_site import commands, terminal
from docs_site.figure_widths import legible_width
from docs_site.sphinx_events import site_page
from docs_site.studies import studies_table
from recorded_runs import ROOT

from ndrepro.execution.studies.study_file import load_study, study_files
from ndrepro.protocol.study.search_space import Search
from ndrepro.protocol.study.study_schema import _GRID_KEYS, _RESOURCE_KEYS, _STUDY_KEYS

DOCS = ROOT / "docs"
LOOKED_AT = ("index.html", "tutorial.html", "reference/commands.html", "reference/settings.html", "findings/seeds.html")
# what WCAG 2.2 asks at level AA
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does, elsewhere."""
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(DOCS), "-d", str(target / "doctrees")]
    command = [sys.executable, *words, str(source), str(target / "html")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(DOCS, target)
    assert done.returncode == 0, done.stderr
    return target / "html"


def test_it_has_every_page_and_every_command(site: Path) -> None:
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md") if "runs" not in path.parts]
    assert len(pages) > 30 and [page for page in pages if not (site / page).is_file()] == []
    reference = "".join((site / "reference" / f"{name}.html").read_text() for name in ("commands", "command-groups"))
    names = [name for name, _ in commands.all_commands(commands.root())]
    assert len(names) > 35 and [name for name in names if f'id="{name.replace(" ", "-")}"' not in reference] == []
    assert "Signed manifests" not in reference  # the control: not everything is in it


def test_every_command_has_its_options_and_an_example() -> None:
    sections = re.split(r"(?m)^(?=#{2,3} )", f"{commands.single_commands()}\n{commands.command_groups()}\n")
    shown = {part.partition("\n")[0].lstrip("# "): part for part in sections}
    for name, command in commands.all_commands(commands.root()):
        assert f"```sh\n{name}" in shown[name], f"{name} has no example"
        options = {each.opts[0] for each in command.params if each.name != "help" and not each.hidden}
        assert [option for option in options if option.startswith("-") and option not in shown[name]] == []


def test_the_page_on_studies_has_every_key_and_its_example_is_a_study() -> None:
    page = (DOCS / "how-to" / "studies.md").read_text(encoding="utf-8")
    keys = {*_STUDY_KEYS, *(f"grids.NAME.{key}" for key in _GRID_KEYS), *(f"resources.{key}" for key in _RESOURCE_KEYS)}
    keys |= {"resources.when", "search.space.KEY", *(f"search.{each.name}" for each in fields(Search))} - {
        "search.space"
    }
    keys = keys - {"grids"} | {"grids.NAME"}
    assert [key for key in keys if f"| `{key}` |" not in page] == []
    study = load_study(DOCS / "examples" / "study.toml")
    assert [len(study.runs([grid.name])) for grid in study.grids] == [6, 4]
    table = studies_table()
    assert all(f"**`{path.stem}`**" in table for path in study_files())


def test_pictures_of_terminals_are_whole_in_their_first_frame(tmp_path: Path) -> None:
    screen = terminal.record([["printf", r"one\rtwo\n\033[1mbold\033[0m\n"]], tmp_path, dict(os.environ), 40)
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in screen.lines[1:3]] == ["two", "bold"]
    pictures = [terminal.picture(screen, "A title", 40)]
    pictures += [path.read_text(encoding="utf-8") for path in (DOCS / "figures").glob("terminal-*.svg")]
    assert len(pictures) == 3 and "<title>A title</title>" in pictures[0]
    assert [picture for picture in pictures if "animat" in picture or "opacity" in picture] == []


def test_letters_of_figures_are_readable_on_every_page(site: Path) -> None:
    drawn = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.svg")}
    least = {name: width for name, svg in drawn.items() if (width := legible_width(svg))}
    # figures whose trails are not kept, so that they are not drawn again in one column; and recordings
    wide = {f"sensitivity/{study}/{name}.svg" for study in ("axes", "cpu_isa") for name in ("agreement", "divergence")}
    assert {*least} == wide | {
        f"figures/{name}.svg" for name in ("deconvolution_growth", "terminal-run", "terminal-diff")
    }
    pages = {name: (site / "findings" / f"{name}.html").read_text("utf-8") for name in ("sensitivity", "performance")}
    shown = re.search(r'<img [^>]*deconvolution_growth.svg"[^>]*style="width: (\d+)px;"', pages["performance"])
    assert shown and int(shown[1]) == least["figures/deconvolution_growth.svg"]
    assert 'style="width' not in pages["sensitivity"], "the control: its figures are one column"


def test_a_link_to_nothing_breaks_the_build(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text("# Title\n\n[sound](#title) [lost](nowhere.md) [gone](#nothing)\n")
    done = build(tmp_path / "pages", tmp_path)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr and "'nothing'" in done.stderr and "title" not in done.stderr


def test_links_to_folders_and_runbooks_are_right_in_the_site() -> None:
    assert site_page("[all](../runs/axes/) [see](../../runbooks/cluster.md#other)", "findings/results") == (
        "all [see](../how-to/cluster.md#other)"
    )


def test_every_page_lies_in_the_folder_of_its_kind() -> None:
    assert {path.name for path in DOCS.glob("*.md")} == {"index.md", "tutorial.md", "contributing.md"}
    assert all(len(list((DOCS / kind).iterdir())) <= 15 for kind in ("how-to", "reference", "explanation", "findings"))


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_pages_are_accessible_and_fit(site: Path, width: int, dark: bool, tmp_path: Path) -> None:
    script = (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    violations = f"axe.run({{runOnly: {TAGS}}}).then((found) => found.violations.map((v) => [v.id, v.nodes[0].html]))"
    wrong: list[tuple[str, ...]] = []
    with Browser.open(tmp_path) as browser:
        browser.look(width, dark=dark)
        for name in LOOKED_AT:
            browser.go(site / name)
            browser.ask(f"{script}; 1")
            wrong += [(name, *each) for each in browser.ask(violations)]
            wrong += [(name, "too wide")] * (browser.ask("document.documentElement.scrollWidth") > width)
            browser.picture(ROOT / "build" / "screenshots" / f"site-{Path(name).stem}-{width}{'-dark' * dark}.png")
        assert wrong == [] and browser.requests == []
