"""The tree of commands, and the options that stand before them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.commands import (
    audit,
    bisect,
    checklist,
    diff,
    doctor,
    env,
    export,
    import_,
    keys,
    keys_lifecycle,
    ledger,
    list_runs,
    operators,
    record,
    report,
    reproduce,
    run,
    search,
    sensitivity,
    settings,
    show,
    study,
    study_workflows,
    verify,
    watch,
)
from ndrepro.cli.commands.record_options import own_words
from ndrepro.cli.display import output, terminal
from ndrepro.protocol.errors import UsageError

# a file's name is bytes and need not be text; every other word is
PATH_OPTIONS = frozenset(
    {
        *("--authority", "--citation", "--code", "--data", "--html", "--into", "--keep", "--key", "--ledger"),
        *("--out", "-o", "--identity-token", "--passphrase-file", "--policy", "--report", "--repository", "--runs"),
        *("--signing-key", "--sigstore-root", "--tensorboard", "--timestamp", "--trust-config", "--witness"),
    }
)

_FIRST_COMMANDS = """\
Usage: ndrepro COMMAND [OPTIONS] [ARGS]...

Record training runs in signed manifests, and verify, repeat and compare them.

First commands:
  ndrepro run                        train a small network, record it, sign
  ndrepro record -- python train.py  record any program, unchanged
  ndrepro verify                     check the latest run
  ndrepro show                       show the latest run on one screen
  ndrepro list                       list the runs
  ndrepro diff RUN RUN --locate      find where two runs diverge, and why
  ndrepro reproduce RUN              run it again and sign a verdict

`ndrepro --help` lists all commands, `ndrepro COMMAND --help` explains one."""

app = typer.Typer(add_completion=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


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
    """Record training runs in signed manifests, and verify, repeat and compare them.

    Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 could not run.
    """
    if context.invoked_subcommand is None:
        terminal.write_line(_FIRST_COMMANDS)
        raise typer.Exit(output.USAGE)


def _help_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        terminal.write_line(context.get_help())
        raise typer.Exit(output.USAGE)


def _group(name: str, about: str) -> typer.Typer:
    """Commands under one name, which prints their help where none of them is named."""
    group = typer.Typer(help=about, rich_markup_mode=None, callback=_help_if_bare, invoke_without_command=True)
    app.add_typer(group, name=name)
    return group


app.command("run")(run.run)
app.command(
    "record",
    short_help="Run any command, record it and sign the record.",
    # the command's own options are not ours
    context_settings={"allow_interspersed_args": False},
)(record.record)
app.command("verify", short_help="Verify a run: signature, files, ledger.")(verify.verify)
app.command("show", short_help="Show a run on one screen.")(show.show)
app.command("list", short_help="List the runs, latest last.")(list_runs.list_runs)
app.command("watch", short_help="Watch runs while they run.")(watch.watch)
app.command("settings", short_help="Explain the settings of an experiment.")(settings.settings)
app.command("reproduce", short_help="Re-execute a run and sign a verdict.")(reproduce.reproduce)
app.command("diff", short_help="Show where two runs diverge, and why.")(diff.diff)
app.command("bisect", short_help="Find the package that changed a result.")(bisect.bisect)
app.command("report", short_help="Write an HTML report of a study or of runs.")(report.report)
app.command("audit", short_help="Recompute the claims of papers.")(audit.audit)
app.command("checklist", short_help="Check guidelines of reproducibility.")(checklist.checklist)
app.command("sensitivity", short_help="Measure what a result is sensitive to.")(sensitivity.sensitivity)
app.command("import", short_help="Verify and import runs made elsewhere.")(import_.import_runs)
app.command("export", short_help="Write a run in the format of another tool.")(export.export)
app.command("archive", short_help="Pack runs into one file for a repository.")(export.archive)
app.command("doctor")(doctor.doctor)
study_app = _group("study", "Run whole studies: a table, a figure, a version matrix.")
study_app.command("list", short_help="List the studies that come with ndrepro.")(study.list_studies)
study_app.command("plan", short_help="Show a study's size, status and estimated cost.")(study.plan)
study_app.command("run", short_help="Run all that is not complete.")(study.run)
study_app.command("status")(study.status)
study_app.command("resume", short_help="Resume a study that was started.")(study.resume)
study_app.command("search", short_help="Search the hyper-parameters of a grid.")(search.search)
study_app.command("export", short_help="Write what is to do as jobs for another engine.")(study_workflows.export)
study_app.command("collect", short_help="Import what such jobs made, and report what is missing.")(
    study_workflows.collect
)
study_app.command("cancel", short_help="Cancel a study's tasks in Slurm.")(study.cancel)
env_app = _group("env", "Build and verify environments: cells of the version matrix.")
env_app.command("list", short_help="List the cells, and which are built.")(env.list_cells)
env_app.command("create", short_help="Build cells from their locks.")(env.create)
env_app.command("verify", short_help="Compare built cells with their locks.")(env.verify)
env_app.command("remove")(env.remove)
env_app.command("add")(env.add)
operators_app = _group("operators", "Compare what environments compute, operation by operation.")
operators_app.command("compare", short_help="Compare the operations of two environments.")(operators.compare)
operators_app.command("measure", short_help="Keep what an environment computes, to compare later.")(operators.measure)
ledger_app = _group("ledger", "Verify the ledger of runs, and prove what it says.")
ledger_app.command("verify", short_help="Verify every entry, and name what is wrong.")(ledger.verify)
ledger_app.command("head", short_help="Print the last signed entry, to keep elsewhere.")(ledger.head)
ledger_app.command("prove", short_help="Print the proof of how a run ended.")(ledger.prove)
ledger_app.command("check-proof", short_help="Verify such a proof, without the ledger.")(ledger.check_proof)
keys_app = _group("keys", "Manage the signing key and trusted keys.")
keys_app.command("show")(keys.show)
keys_app.command("export")(keys.export)
keys_app.command("trust")(keys.trust)
keys_app.command("list", short_help="List the keys that verify accepts.")(keys.list_keys)
keys_app.command("remove")(keys.remove)
keys_app.command("sign", short_help="Add your signature to a run.")(keys.sign)
keys_app.command("new", short_help="Make a signing key.")(keys_lifecycle.new)
keys_app.command("use", short_help="Sign with another key that exists.")(keys_lifecycle.use)
keys_app.command("rotate", short_help="Replace the signing key by a new one.")(keys_lifecycle.rotate)
keys_app.command("revoke", short_help="Revoke the signing key.")(keys_lifecycle.revoke)
keys_app.command("import", short_help="Import statements on keys.")(keys_lifecycle.import_statements)


def invoke(words: Sequence[str]) -> int:
    """Parse ``words`` and run their command; returns its exit code, and lets its errors through."""
    _expect_text(own_words(words))
    completion.complete_on_first_tab()
    command = typer.main.get_command(app)
    code = command.main(args=[*words], prog_name="ndrepro", standalone_mode=False)
    if code == 130:  # typer's own word for Ctrl-C
        raise KeyboardInterrupt
    return int(code or output.DONE)


def _expect_text(words: Sequence[str]) -> None:
    """Raises UsageError for a word that is no text, unless it is a path: of an option that takes one, or one there.

    Bytes that the locale's encoding cannot decode arrive as lone surrogates (PEP 383). They can be passed on to the
    file system, but not be written to a manifest, a key's name or a job script.
    """
    for before, word in pairwise(("", *words)):
        if word.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in word):
            continue
        option = word.partition("=")[0]
        if not (before in PATH_OPTIONS or option in PATH_OPTIONS or os.path.lexists(word)):
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise UsageError(
                f"{shown}: not {sys.getfilesystemencoding().upper()} text, and no path that exists",
                "type it in this terminal's encoding, or choose a UTF-8 locale (LANG=C.UTF-8)",
            )
