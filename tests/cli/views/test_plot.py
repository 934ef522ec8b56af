"""Curves in the terminal: where the values are, in any width, with braille and without; odd values are counted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer, begin_run, sign_run

import provenance
from ndrepro.analysis.run_curves import CurvePanel, RunCurve, run_curves
from ndrepro.cli.views.plot import HEIGHT, lines
from ndrepro.protocol.layout import RunsFolder

RISING = RunCurve("rising", tuple(map(float, range(10))), tuple(map(float, range(10))))
FALLING = RunCurve("falling", RISING.places, tuple(reversed(RISING.values)))


def drawn(*curves: RunCurve, width: int = 60, braille: bool = False) -> list[str]:
    return [line.plain for line in lines(CurvePanel("loss", "epoch", curves), width, braille=braille)]


def test_the_highest_value_is_on_top_and_each_curve_has_its_letter() -> None:
    title, *rows, axis = drawn(RISING, FALLING)
    assert title == "loss   * rising 9   + falling 0"
    assert len(rows) == HEIGHT and all(len(row) <= 60 for row in (*rows, axis))
    assert rows[0].startswith("         9 |+") and rows[0].endswith("*")
    assert rows[-1].startswith("         0 |*") and rows[-1].endswith("+")
    assert axis.split() == ["epoch", "0", "9"]
    assert len(drawn(FALLING)[1].rstrip()) < 20 < len(drawn(RISING)[1].rstrip()), "the control: the other way round"


@pytest.mark.parametrize("width", [20, 40, 79, 120])
def test_it_is_as_wide_as_the_terminal(width: int) -> None:
    rows = drawn(RISING, width=width, braille=True)[1:]
    assert max(map(len, rows)) == max(width, 22)
    letters = {letter for row in rows[:-1] for letter in row[12:]}
    assert letters <= {" ", *map(chr, range(0x2801, 0x2900))} and len(letters) > 1


def test_what_is_not_finite_is_counted_and_one_value_is_drawn() -> None:
    broken = RunCurve("loss", (1.0, 2.0, 3.0), (1.0, math.nan, math.inf))
    title, *rows, _ = drawn(broken)
    assert title == "loss   * inf, 2 not finite" and sum(row.count("*") for row in rows) == 1
    assert drawn(RunCurve("loss", (1.0,), (math.nan,)))[1] == "  no finite value"


def test_a_training_run_is_drawn(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    assert "accuracy in percent" not in ndrepro("show", "latest").out, "the control"
    text = ndrepro("show", "latest", "--plot").out
    assert "accuracy in percent" in text and "train 60" in text and "test 50" in text and "epoch 1" in text
    begin_run(runs, "lenet_nd_2_digits", "20261121T110000Z-bbbbbb", epochs=0)
    assert "nothing was logged" in ndrepro("show", "20261121T110000Z-bbbbbb", "--plot").out


def test_a_script_is_drawn_by_each_number_that_it_logs(ndrepro: Callable[..., Answer]) -> None:
    with provenance.record(name="fit") as run:
        for step in range(10, 40, 10):
            run.log(step=step, loss=1 / step, note="text")
    (panel,) = run_curves(next(iter(RunsFolder(Path("runs")).runs())))
    assert (panel.title, panel.counted, panel.curves[0].places) == ("loss", "step", (10.0, 20.0, 30.0))
    assert "loss   ⣿ 0.033333" in ndrepro("show", "latest", "--plot").out


def test_a_page_of_one_run_is_whole_and_asks_for_nothing(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    answer = ndrepro("show", "latest", "--html", "run.html")
    assert answer.code == 0 and answer.out.splitlines()[-1] == "page         run.html"
    page = Path("run.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "lenet_bn_2_digits 20261121T100000Z-aaaaaa" in page
    assert "train, epoch 2: 60" in page
    assert "<script" not in page and "src=" not in page and "https://" not in page.replace("http://www.w3.org", "")


def test_markup_in_a_run_is_text_in_its_page(ndrepro: Callable[..., Answer]) -> None:
    with provenance.record(name="fit", parameters={"x": "<script>alert(1)</script>"}) as run:
        run.log(step=1, **{"<b>": 1.0})
    assert ndrepro("show", "latest", "--html", "run.html").code == 0
    page = Path("run.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page
