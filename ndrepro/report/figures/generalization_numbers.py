"""The numbers of Zhang et al.'s figures 1a, 2a and 2b: epoch of the fit, and results at the end.

The highest test accuracy of any epoch stands beside the last one, as "early stopping" does in their figure 2a. It was
chosen on the test images, so that it is too high by as much as that choice gains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ndrepro.analysis.results.results import ResultRow
from ndrepro.report.elements.table import MISSING, Column, Table, Value, count, decimal, numeric, word
from ndrepro.report.figures.curves import Curve
from ndrepro.report.figures.generalization_figures import FITTED_PERCENT
from ndrepro.report.figures.generalization_series import Lines, Reader, corrupted, groups_of, normalised, regularised
from ndrepro.report.sections.run_tables import anchor
from ndrepro.report.sections.seed_groups import PERCENT, Spread


def generalization_numbers(runs: Sequence[ResultRow]) -> tuple[Table, ...]:
    """The table of every line that is drawn; none where none is."""
    rows = tuple(_rows(runs))
    if not rows:
        return ()
    columns = (
        Column("Figure", facet=True),
        Column("Network", facet=True),
        Column("Line"),
        *numeric("Epochs", "n", "Fitted after", "Train loss", "Train %", "Test %", "Highest test %"),
    )
    caption = (
        f"The lines of the figures. Fitted after: the epochs until the train accuracy first reached {FITTED_PERCENT:g} "
        "%, of every seed. Loss and accuracies are those of the last epoch, means over n seeds; from three "
        "seeds on with a 95 % interval. Highest: the best epoch, chosen on the test images and so too high."
    )
    return (Table("generalization_ends", "Where the lines end", caption, columns, rows),)


def _rows(runs: Sequence[ResultRow]) -> Iterator[tuple[Value, ...]]:
    reader = Reader()
    for network, lines in corrupted(groups_of(runs), reader).items():
        yield from _lines("1a", network, lines)
    yield from _lines("2a", "small_inception bn", regularised(runs, reader))
    yield from _lines("2b", "small_inception", normalised(runs, reader))


def _lines(figure: str, network: str, lines: Lines) -> Iterator[tuple[Value, ...]]:
    for name, curves in lines.items():
        one = curves[0].run
        tests = Spread.of((curve.test_accuracy_percent[-1] for curve in curves), PERCENT)
        yield (
            word(figure),
            word(network),
            word(name),
            count(one.epochs),
            count(len(curves)),
            _fitted(curves),
            decimal(Spread.of(curve.train_loss[-1] for curve in curves).mean, 3, missing="NaN"),
            _spread(Spread.of((curve.train_accuracy_percent[-1] for curve in curves), PERCENT)),
            Value(tests.text, tests.mean, href=f"#{anchor(one)}"),
            _spread(Spread.of((max(curve.test_accuracy_percent) for curve in curves), PERCENT)),
        )


def _spread(found: Spread) -> Value:
    return Value(found.text, found.mean)


def _fitted(curves: Sequence[Curve]) -> Value:
    """Every seed's epochs until fitted; sorted by the first of them."""
    epochs = [curve.fitted_at(FITTED_PERCENT) for curve in curves]
    if not any(epochs):
        return Value("no", float("inf"))
    return Value(", ".join(str(each) if each else MISSING for each in epochs), float(next(filter(None, epochs)) or 0))
