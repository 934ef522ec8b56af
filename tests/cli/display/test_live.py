"""What the terminal shows of a run, fed by hand: the same events, in a terminal, in a pipe, in ASCII, after failure."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from ndrepro.cli.display import live, terminal
from ndrepro.cli.display.live import LiveTable, PlainLines
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, Timing

STEPS = 4


def play(watching: AbstractContextManager[Observer], loss: float = 2.3) -> None:
    """Two epochs of four steps, as ``execution.run`` tells them."""
    experiment = Experiment.from_name("vgg16_nd_2_digits")
    with watching as observer:
        observer.began(RunFolder(Path("runs/vgg16_nd_2_digits/a")), Request(experiment, "d"))
        observer.progress(Progress("starting", 0, None, None, 1.0, None, None))
        for epoch in (1, 2):
            for step in range(STEPS * (epoch - 1) + 1, STEPS * epoch + 1):
                left = 2.0 * (2 * STEPS - step)
                observer.progress(Progress("training", step, 2 * STEPS, loss, 2.0 * step, 212.3, left))
            scores = Scores(epoch, STEPS * epoch, loss, 0.4 * epoch, 1.1, 0.35 * epoch, 0.1)
            observer.epoch(scores, Timing(epoch, 8.0, 1.0, 0.1, 212.3, 1, 0))
        observer.progress(Progress("signing", 2 * STEPS, 2 * STEPS, loss, 17.0, 212.3, 0.0))


def written(kind: type[live.Display], width: int = 80, encoding: str = "utf-8", loss: float = 2.3) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict", write_through=True)
    play(kind(Console(file=file, force_terminal=kind is LiveTable, width=width, highlight=False)), loss)
    return raw.getvalue().decode(encoding)


def test_a_pipe_gets_one_line_an_epoch_and_no_escape() -> None:
    text = written(PlainLines)
    assert "\x1b" not in text and "\r" not in text
    assert text.splitlines() == [
        "vgg16 with nd on digits, 2 epochs, batch 128, seed 0, deterministic, 2 threads",
        "runs/vgg16_nd_2_digits/a",
        "epoch 1/2  loss 2.3000  train 40.00 %  test 35.00 %  212 images/s  0:08 left",
        "epoch 2/2  loss 2.3000  train 80.00 %  test 70.00 %  212 images/s  0:00 left",
    ]
    assert "\x1b" in written(LiveTable)  # the control: a terminal does get escapes


def test_the_table_keeps_a_row_for_every_epoch_and_moves_a_bar_within_one() -> None:
    text = written(LiveTable)
    for heading in ("epoch", "loss", "train", "test", "images/s", "left"):
        assert heading in text
    assert "        1/2    2.3000    40.00 %    35.00 %        212      0:08" in text
    assert "        2/2    2.3000    80.00 %    70.00 %        212      0:00" in text
    assert "━" in text and "starting 0:01" in text and "signing 0:17" in text
    assert text.index("1/2") < text.index("━") < text.rindex("2/2")


def test_the_bar_stays_full_while_an_epoch_is_evaluated() -> None:
    display = LiveTable(Console(file=io.StringIO()))
    display.experiment = Experiment.from_name("vgg16_nd_2_digits")
    at = [display._epoch_fraction(Progress("training", step, 2 * STEPS, 1.0, 1.0, 1.0, 1.0)) for step in (0, 2, 4)]
    assert at == [0.0, 0.5, 1.0]
    display.epochs_done = 1
    assert display._epoch_fraction(Progress("training", 4, 2 * STEPS, 1.0, 1.0, 1.0, 1.0)) == 0.0


@pytest.mark.parametrize("width", [64, 80, 120])
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    import re

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(LiveTable, width))
    table = re.split(r"[\r\n]", text.partition("runs/vgg16_nd_2_digits/a")[2])  # what is above may wrap
    assert 60 < max(map(len, table)) <= width


@pytest.mark.parametrize("kind", [PlainLines, LiveTable])
def test_ascii_locales_get_ascii(kind: type[live.Display]) -> None:
    assert "2/2" in written(kind, encoding="ascii")  # a letter beyond ASCII would have raised


def test_a_loss_that_is_not_finite_or_huge_keeps_the_columns() -> None:
    assert "       nan    40.00 %" in written(LiveTable, loss=float("nan"))
    assert "       inf    40.00 %" in written(LiveTable, loss=float("inf"))
    assert "   1.2e+10    40.00 %" in written(LiveTable, loss=1.234e10)


class _Gone(io.StringIO):
    """A terminal that goes away after a few writes."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes > 3:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.mark.parametrize("kind", [PlainLines, LiveTable])
def test_a_run_outlives_its_terminal(kind: type[live.Display]) -> None:
    file = _Gone()
    play(kind(Console(file=file, force_terminal=True, width=80)))
    assert file.writes > 3  # the control: it did fail


def test_what_suits_the_terminal_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(quiet: bool = False, **options: object) -> object:
        console = Console(file=io.StringIO(), **options)  # type: ignore[arg-type]
        monkeypatch.setattr(terminal, "console", lambda error: console)
        with live.watching(quiet=quiet, error=False) as observer:
            return type(observer)

    assert chosen(force_terminal=True, width=80) is LiveTable
    assert chosen(force_terminal=True, width=50) is PlainLines
    assert chosen(force_terminal=False) is PlainLines
    assert chosen(quiet=True) is Observer
    monkeypatch.setenv("TERM", "dumb")
    assert chosen(force_terminal=True, width=80) is PlainLines
