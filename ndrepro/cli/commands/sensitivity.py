"""``ndrepro sensitivity``: what moves the result, and by how much: bits, numbers, conclusion."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.results import read_results
from ndrepro.cli.display import options, output, terminal
from ndrepro.cli.display.counting import counted
from ndrepro.protocol import extras
from ndrepro.protocol.layout import expect_folder
from ndrepro.protocol.study.study import text_of
from provenance.attestation.trust import TrustPolicy
from provenance.errors import UsageError
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.git.tracked_paths import expect_no_tracked_link

if TYPE_CHECKING:
    from ndrepro.analysis.sensitivity.analysis import AnalysisOptions, Sensitivity
    from ndrepro.report.sections.sensitivity_text import Section


def sensitivity(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUNS", help="Folders of runs, run folders or manifests. Left out: --runs."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write sensitivity.md, sensitivity.json and figures there."),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="test_accuracy, train_accuracy, test_loss or train_loss.")
    ] = "test_accuracy",
    margin: Annotated[float, typer.Option("--margin", help="Equivalence margin, in points or nats.")] = 1.0,
    better: Annotated[
        str | None, typer.Option("--contrast", metavar="A:B", help="The methods of the conclusion; by default nd:bn.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option("--reference", metavar="AXIS=VALUE", help="Compare with this cell; repeat for several axes."),
    ] = None,
    keys: options.Keys = None,
    cache: options.Cache = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Compare the cells of a study: equal bits, differences of results, and whether the conclusion holds in all.

    Cells are the combinations of what was varied: environment, threads, determinism, any setting; seeds are the
    replicates. Exit 0 where every manifest verified, else 1.

    Example: ndrepro sensitivity runs -o sensitivity
    """
    extras.require("statsmodels", "matplotlib")
    from ndrepro.analysis.sensitivity.analysis import sensitivity_of

    asked = _options(metric, margin, better, reference or [])
    if out:
        expect_folder(out, "name another folder with -o DIR")
        expect_no_tracked_link(out, "another -o DIR")
    with counted(as_json) as watch:
        scores = read_results(
            folders or [runs],
            cache=options.cache_path(cache),
            policy=TrustPolicy.from_files(keys or []),
            watch=watch,
        )
    found = sensitivity_of(scores, asked)
    written = _write(found, out) if out else ()
    if as_json:
        output.print_json({**found.to_json(), "files": [str(path.absolute()) for path in written]})
    else:
        _print(found)
        if out:
            terminal.write_text(
                f"\nwritten    {shlex.quote(terminal.here(out / 'sensitivity.md'))}, {len(written)} files"
            )
        _print_next(found)
    return output.NO if scores.refused else output.DONE


def _options(metric: str, margin: float, better: str | None, reference: list[str]) -> AnalysisOptions:
    from ndrepro.analysis.sensitivity.analysis import AnalysisOptions

    methods = None
    if better is not None:
        first, colon, second = better.partition(":")
        if not (first and colon and second) or first == second:
            raise UsageError(f"--contrast {better!r}: expected two methods", "write it as nd:bn")
        methods = first, second
    pairs = [text.partition("=") for text in reference]
    for text, (axis, equals, value) in zip(reference, pairs, strict=True):
        if not (axis and equals and value):
            raise UsageError(f"--reference {text!r}: expected AXIS=VALUE", "such as environment=torch-2.8.0")
    return AnalysisOptions(metric, margin, methods, {axis: value for axis, _, value in pairs})


def _write(found: Sensitivity, out: Path) -> tuple[Path, ...]:
    from ndrepro.report.elements import style
    from ndrepro.report.figures.sensitivity_figures import draw
    from ndrepro.report.sections.sensitivity_text import markdown

    make_folder(out)
    style.load()
    figures = draw(found, out)
    page, data = out / "sensitivity.md", out / "sensitivity.json"
    images = [path.name for path in figures if path.suffix == ".svg"]
    write_atomically(page, markdown(found, images).encode())
    write_atomically(data, (output.json_text(found.to_json()) + "\n").encode())
    return (page, data, *figures)


def _print(found: Sensitivity) -> None:
    from ndrepro.report.sections.sensitivity_text import findings, sections

    for said in findings(found):
        terminal.write_text(terminal.hanging(said, 0))
    for section in sections(found):
        _print_section(section)


def _print_section(section: Section) -> None:
    from rich.table import Table
    from rich.text import Text

    console = terminal.console()
    console.print(Text(f"\n{section.title}", style="bold" if section.level < 4 else ""))
    for said in section.sentences:
        console.print(Text(said, style="dim"))
    if not section.head:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, title in enumerate(section.head):
        table.add_column(title, justify="left" if place == 0 or title in ("verdict", "first tensor") else "right")
    for row in section.rows:
        table.add_row(*(Text(text) for text in row))
    console.print(table)


def _print_next(found: Sensitivity) -> None:
    """How to find what it was, where two environments have other bits."""
    from ndrepro.analysis.sensitivity.experimental_design import ENVIRONMENT

    design = found.design
    if ENVIRONMENT not in design.axes:
        return
    for bits in found.bits:
        for pair in bits.pairs:
            cells = {cell.label: cell for cell in design.along(ENVIRONMENT)}
            if not pair.steps or not {pair.first, pair.second} <= set(cells):
                continue
            runs = [next(iter(design.of(bits.subject, cells[label]).values())) for label in (pair.first, pair.second)]
            names = [run.cell for run in runs]
            words = [runs[0].name, *names, *_settings(runs[0])]
            terminal.write_text(f"\nwhy        {terminal.program()} bisect {' '.join(map(shlex.quote, words))}")
            return


def _settings(run: ResultRow) -> list[str]:
    """What of a run its name does not say, as ``--set`` takes it."""
    own = {"seed": run.seed, "threads": run.threads, "determinism": run.determinism}
    own |= {f"seeds.{stream}": value for stream, value in run.seeds.items()} | dict(run.settings)
    default = {"seed": 0, "threads": 2, "determinism": "deterministic"}
    pairs = [f"{key}={text_of(value)}" for key, value in own.items() if default.get(key) != value]
    return [word for each in pairs for word in ("--set", each)]
