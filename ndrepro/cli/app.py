"""The tree of commands, and the options that stand before them.

The module of a command is imported when the command is run, so that a command starts without the libraries of all
others; until then its name and its line in the help are known.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ndrepro.cli import completion
from ndrepro.cli.commands.record_options import own_words
from ndrepro.cli.display import output, terminal
from ndrepro.protocol.errors import UsageError

# a command -> module and function below ``commands``, and its line in the help
_COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run.run", "Train, record and sign."),
    "record": ("record.record", "Run any command, record it and sign the record."),
    "verify": ("verify.verify", "Verify a run: signature, files, ledger."),
    "show": ("show.show", "Show a run on one screen."),
    "list": ("list_runs.list_runs", "List the runs, latest last."),
    "watch": ("watch.watch", "Watch runs while they run."),
    "settings": ("settings.settings", "Explain the settings of an experiment."),
    "reproduce": ("reproduce.reproduce", "Re-execute a run and sign a verdict."),
    "diff": ("diff.diff", "Show where two runs diverge, and why."),
    "bisect": ("bisect.bisect", "Find the package that changed a result."),
    "report": ("report.report", "Write an HTML report of a study or of runs."),
    "audit": ("audit.audit", "Recompute the claims of papers."),
    "checklist": ("checklist.checklist", "Check guidelines of reproducibility."),
    "sensitivity": ("sensitivity.sensitivity", "Measure what a result is sensitive to."),
    "import": ("import_.import_runs", "Verify and import runs made elsewhere."),
    "export": ("export.export", "Write a run in the format of another tool."),
    "archive": ("export.archive", "Pack runs into one file for a repository."),
    "doctor": ("doctor.doctor", "Diagnose this machine, or a Slurm cluster, before a run."),
    "study list": ("study.list_studies", "List the studies that come with ndrepro."),
    "study plan": ("study.plan", "Show a study's size, status and estimated cost."),
    "study run": ("study.run", "Run all that is not complete."),
    "study status": ("study.status", "Show the status of every run."),
    "study resume": ("study.resume", "Resume a study that was started."),
    "study search": ("search.search", "Search the hyper-parameters of a grid."),
    "study export": ("study_workflows.export", "Write what is to do as jobs for another engine."),
    "study collect": ("study_workflows.collect", "Import what such jobs made, and report what is missing."),
    "study cancel": ("study.cancel", "Cancel a study's tasks in Slurm."),
    "env list": ("env.list_cells", "List the cells, and which are built."),
    "env create": ("env.create", "Build cells from their locks."),
    "env verify": ("env.verify", "Compare built cells with their locks."),
    "env remove": ("env.remove", "Remove built cells."),
    "env add": ("env.add", "Resolve a new cell and keep its hashed lock."),
    "operators compare": ("operators.compare", "Compare the operations of two environments."),
    "operators measure": ("operators.measure", "Keep what an environment computes, to compare later."),
    "ledger verify": ("ledger.verify", "Verify every entry, and name what is wrong."),
    "ledger head": ("ledger.head", "Print the last signed entry, to keep elsewhere."),
    "ledger prove": ("ledger.prove", "Print the proof of how a run ended."),
    "ledger check-proof": ("ledger.check_proof", "Verify such a proof, without the ledger."),
    "keys show": ("keys.show", "Show the key that signs this author's runs."),
    "keys export": ("keys.export", "Print the public key, for those who verify."),
    "keys trust": ("keys.trust", "Trust another author's key or identity."),
    "keys list": ("keys.list_keys", "List the keys that verify accepts."),
    "keys remove": ("keys.remove", "No longer trust a key or identity that was added."),
    "keys sign": ("keys.sign", "Add your signature to a run."),
    "keys new": ("keys_lifecycle.new", "Make a signing key."),
    "keys use": ("keys_lifecycle.use", "Sign with another key that exists."),
    "keys rotate": ("keys_lifecycle.rotate", "Replace the signing key by a new one."),
    "keys revoke": ("keys_lifecycle.revoke", "Revoke the signing key."),
    "keys import": ("keys_lifecycle.import_statements", "Import statements on keys."),
}
_GROUPS = {
    "study": "Run whole studies: a table, a figure, a version matrix.",
    "env": "Build and verify environments: cells of the version matrix.",
    "operators": "Compare what environments compute, operation by operation.",
    "ledger": "Verify the ledger of runs, and prove what it says.",
    "keys": "Manage the signing key and trusted keys.",
}
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


class _ListedCommand(TyperCommand):
    """A command as the help lists it; ``load`` imports it."""

    def __init__(self, name: str, place: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._place = place

    def load(self) -> Any:
        """The command with its arguments and options."""
        module, _, function = self._place.partition(".")
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        # what is recorded has options of its own
        settings = {"allow_interspersed_args": False} if function == "record" else None
        register = alone.command(self.name, short_help=self.short_help, context_settings=settings)
        register(getattr(import_module(f"ndrepro.cli.commands.{module}"), function))
        gc.freeze()  # what is imported stays
        return typer.main.get_command(alone)


class _Group(TyperGroup):
    """A group whose commands are imported when they are named."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, with the command imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _ListedCommand) else command, rest


_app = typer.Typer(
    cls=_Group, add_completion=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            terminal.write_line(f"ndrepro {version('ndrepro')}")
        except PackageNotFoundError:
            terminal.write_line("ndrepro, not installed: run from a source tree")
        raise typer.Exit(output.DONE)


@_app.callback(invoke_without_command=True)
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
        terminal.write_text(_FIRST_COMMANDS)
        raise typer.Exit(output.USAGE)


def _help_if_bare(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        terminal.write_text(context.get_help())
        raise typer.Exit(output.USAGE)


for _name, _about in _GROUPS.items():
    _group = typer.Typer(
        help=_about, cls=_Group, rich_markup_mode=None, callback=_help_if_bare, invoke_without_command=True
    )
    _app.add_typer(_group, name=_name)


def command_tree(*, whole: bool = False) -> Any:
    """The root of the tree of commands; with ``whole`` every command is imported, for what reads all of them."""
    root: Any = typer.main.get_command(_app)
    groups = root.commands
    root.commands = {}
    for full, (place, short_help) in _COMMANDS.items():
        group, _, name = full.rpartition(" ")
        command = _ListedCommand(name, place, short_help)
        (groups[group] if group else root).add_command(command.load() if whole else command)
    root.commands.update(groups)
    return root


def invoke(words: Sequence[str]) -> int:
    """Parse ``words`` and run their command; returns its exit code, and lets its errors through."""
    _expect_text(own_words(words))
    completion.complete_on_first_tab()
    code = command_tree().main(args=[*words], prog_name="ndrepro", standalone_mode=False)
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
