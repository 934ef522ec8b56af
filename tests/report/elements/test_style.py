"""Figures are the same bits from the same numbers, and keep their series apart without colour."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ndrepro.report.elements import style


def draw(path: Path, values: list[float]) -> tuple[Path, Path]:
    with style.figure(3, 2) as (figure, axes):
        axes.plot(values, **style.line(0))
        style.finish(axes, "a title", "x", "y")
        return style.save(figure, path)


def test_equal_numbers_give_equal_files_and_others_do_not(tmp_path: Path) -> None:
    first, again, other = (
        draw(tmp_path / name, values) for name, values in (("a", [1, 2]), ("b", [1, 2]), ("c", [1, 3]))
    )
    for one, two, three in zip(first, again, other, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert one.read_bytes() != three.read_bytes()


def test_another_process_with_a_configuration_of_its_own_gives_the_same_files(tmp_path: Path) -> None:
    here = draw(tmp_path / "here", [1, 2])
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\n", encoding="utf-8")
    script = f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_style as t; "
    script += "t.draw(pathlib.Path('there'), [1, 2])"
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, env={**_path(), "MATPLOTLIBRC": str(tmp_path)}
    )
    for one, name in zip(here, ("there.png", "there.svg"), strict=True):
        assert one.read_bytes() == (tmp_path / name).read_bytes()


def _path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}


def test_no_date_is_written(tmp_path: Path) -> None:
    _, svg = draw(tmp_path / "a", [1, 2])
    assert "<dc:date>" not in svg.read_text(encoding="utf-8")


def test_series_differ_in_more_than_colour() -> None:
    looks = [(str(style.line(n)["linestyle"]), style.line(n)["marker"]) for n in range(10)]
    assert len(set(looks)) == 10
    assert len({style.bar(n)["hatch"] for n in range(10)}) == 10


def test_ranks_have_none_of_the_colours_of_networks() -> None:
    ranks = [style.rank_bar(n, 10)["facecolor"] for n in range(10)]
    assert len({*ranks, *style.COLOURS}) == 10 + len(style.COLOURS)


def test_no_series_is_black_on_a_dark_page(tmp_path: Path) -> None:
    with style.figure(3, 2) as (figure, axes):
        for number in range(len(style.COLOURS)):
            axes.plot([number], [number], "D", color=style.colour(number), gid=f"series-{number}")
        text = style.save_svg(figure, tmp_path / "a").read_text(encoding="utf-8")
    for number in range(len(style.COLOURS)):
        start = text.index(f'id="series-{number}"')
        assert f"fill: {style.colour(number)}" in text[start : start + 900], "what has no fill stays black"
    dark = [style.DARK.get(colour, colour) for colour in style.COLOURS]
    assert min(map(lightness, dark)) > 0.15


def test_the_ground_of_a_hatch_is_no_black_on_a_dark_page(tmp_path: Path) -> None:
    with style.column(2) as (figure, parts):
        parts[0].subplots().bar([0], [1], **style.bar(2))
        text = style.save_svg(figure, tmp_path / "a").read_text(encoding="utf-8")
    ground = style.bar(2)["facecolor"]
    assert f'fill="{ground}"' in text, "the control: it is an attribute, which rules for styles do not reach"
    assert f'svg [fill="{ground}"]{{fill:{style.DARK[ground]}}}' in text


def test_a_name_with_dollar_signs_is_no_formula(tmp_path: Path) -> None:
    with style.figure(3, 2) as (figure, axes):
        style.finish(axes, r"$\nonsense$ a$b", "$", "x")
        assert style.save_svg(figure, tmp_path / "a").exists()
    assert style.literal("a$b$") == r"a\$b\$"


def lightness(hex_colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2), from 0 (black) to 1 (white)."""
    channels = [int(hex_colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return math.fsum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_first_colours_differ_in_lightness() -> None:
    light = [lightness(colour) for colour in style.COLOURS[:4]]
    assert all(abs(one - two) > 0.08 for one, two in itertools.pairwise(light)), light


@pytest.mark.parametrize("names", [["a", "b"], ["batch norm", "deconvolution", "x" * 30], ["a long name, " * 9] * 5])
def test_a_legend_covers_no_curve(names: list[str], tmp_path: Path) -> None:
    with style.column(*[2 + style.legend_height(names)] * 2) as (figure, parts):
        for part in parts:
            axes = part.subplots()
            for number, name in enumerate(names):
                axes.plot([0, 1], [number, 0], label=name, **style.line(number))
            style.finish(axes, "a title", "x", "y")
            style.legend(part)
        style.save_svg(figure, tmp_path / "a")
        diagrams = [axes.get_window_extent() for part in parts for axes in part.axes]
        legends = [each.get_window_extent() for part in parts for each in part.legends]
        assert len(legends) == 2 and not any(one.overlaps(other) for one in diagrams for other in legends)
        assert all(axes.get_position().height * figure.get_figheight() > 0.5 for part in parts for axes in part.axes)


def test_text_of_a_column_is_eleven_pixels_high_on_a_phone(tmp_path: Path) -> None:
    with style.column(2.5) as (figure, parts):
        parts[0].subplots().plot([0, 1], label="a")
        style.legend(parts[0])
        sizes = {text.get_fontsize() for text in figure.findobj(lambda item: hasattr(item, "get_fontsize"))}
    # a page 390 wide has 348 for a drawing
    assert min(sizes) * 348 / (72 * style.WIDTH) >= 11
