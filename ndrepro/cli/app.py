"""The tree of commands, and the options that stand before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ndrepro.cli.commands import (
    audit,
    bisect,
    checklist,
    diff,
    doctor,
    env,
    import_,
    keys,
    list_runs,
    report,
    reproduce,
    run,
    search,
    sensitivity,
    show,
    study,
    verify,
)
from ndrepro.cli.display import output, terminal

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.write_line(f"ndrepro {version('ndrepro')}")
        except PackageNotFoundError:
            terminal.write_line("ndrepro, not installed: run from a source tree")
        raise typer.Exit(output.DONE)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train networks with and without network deconvolution, and sign what each run was.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 could not run.
    """
    _help_if_bare(context)


study_app = typer.Typer(help="Whole studies: a table's runs, a figure's, a version matrix.", rich_markup_mode=None)


@study_app.callback(invoke_without_command=True)
def _study(context: typer.Context) -> None:
    _help_if_bare(context)


env_app = typer.Typer(help="Environments: cells of the version matrix, built from locks.", rich_markup_mode=None)


@env_app.callback(invoke_without_command=True)
def _env(context: typer.Context) -> None:
    _help_if_bare(context)


keys_app = typer.Typer(help="This author's key, and the keys to trust.", rich_markup_mode=None)


@keys_app.callback(invoke_without_command=True)
def _keys(context: typer.Context) -> None:
    _help_if_bare(context)


def _help_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        terminal.write_line(context.get_help())
        raise typer.Exit(output.USAGE)


app.command("run")(run.run)
app.command("verify", short_help="Check a run: signature, files, ledger.")(verify.verify)
app.command("show", short_help="Show a run on one screen.")(show.show)
app.command("list")(list_runs.list_runs)
app.command("reproduce", short_help="Train a run again, and judge.")(reproduce.reproduce)
app.command("diff", short_help="Where two runs part, and why.")(diff.diff)
app.command("bisect", short_help="Which package moved a result.")(bisect.bisect)
app.command("report", short_help="One HTML folder about a study or its runs.")(report.report)
app.command("audit", short_help="Compute what papers claim again.")(audit.audit)
app.command("checklist", short_help="Check guidelines of reproducibility.")(checklist.checklist)
app.command("sensitivity", short_help="What moves the result, and by how much.")(sensitivity.sensitivity)
app.command("import", short_help="Take in runs that were made elsewhere.")(import_.import_runs)
app.command("doctor")(doctor.doctor)
app.add_typer(study_app, name="study")
study_app.command("list")(study.list_studies)
study_app.command("plan", short_help="What a study comes to, and what is left of it.")(study.plan)
study_app.command("run", short_help="Run what is not done.")(study.run)
study_app.command("status")(study.status)
study_app.command("resume", short_help="Go on with a study that was begun.")(study.resume)
study_app.command("search", short_help="Search the hyper-parameters of a grid.")(search.search)
study_app.command("cancel", short_help="Cancel what Slurm still has of a study.")(study.cancel)
app.add_typer(env_app, name="env")
env_app.command("list")(env.list_cells)
env_app.command("create", short_help="Build cells from their locks.")(env.create)
env_app.command("verify", short_help="Compare built cells with their locks.")(env.verify)
env_app.command("remove")(env.remove)
env_app.command("add")(env.add)
app.add_typer(keys_app, name="keys")
keys_app.command("show")(keys.show)
keys_app.command("export")(keys.export)
keys_app.command("trust")(keys.trust)
keys_app.command("list")(keys.list_keys)
keys_app.command("remove")(keys.remove)


def invoke(words: Sequence[str]) -> int:
    """Parse ``words`` and run their command; returns its exit code, and lets its errors through."""
    command = typer.main.get_command(app)
    code = command.main(args=[*words], prog_name="ndrepro", standalone_mode=False)
    if code == 130:  # typer's own word for Ctrl-C
        raise KeyboardInterrupt
    return int(code or output.DONE)
