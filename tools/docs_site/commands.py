"""The reference of the commands, from the command tree itself: what `--help` says, as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from ndrepro.cli.app import command_tree

# click's own or typer's copy of it: the classes differ, the members do not
Command = Any


def root() -> Command:
    """The root of the command tree."""
    return command_tree(whole=True)


def all_commands(group: Command, path: str = "ndrepro") -> Iterator[tuple[str, Command]]:
    """Every command that can be typed, with its full name, in the order of `--help`."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from all_commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def single_commands() -> str:
    """Markdown of the commands that belong to no group."""
    found = [(name, each) for name, each in all_commands(root()) if name.count(" ") == 1]
    return "\n\n".join([_overview(found), *(_section(name, each, "##") for name, each in found)])


def command_groups() -> str:
    """Markdown of the groups of commands, such as `ndrepro study`."""
    parts = []
    for name, group in root().commands.items():
        if not hasattr(group, "commands") or group.hidden:
            continue
        found = list(all_commands(group, f"ndrepro {name}"))
        parts += [f"## ndrepro {name}", _text(group.help), _overview(found)]
        parts += [_section(full, each, "###") for full, each in found]
    return "\n\n".join(parts)


def _overview(found: list[tuple[str, Command]]) -> str:
    """A table of commands: name with a link, and one line."""
    rows = [f"| [`{name}`](#{_anchor(name)}) | {each.get_short_help_str(200)} |" for name, each in found]
    return "\n".join(["| command | what it does |", "| --- | --- |", *rows])


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


def _section(name: str, command: Command, level: str) -> str:
    """A command with its usage, its text and a table of its arguments and options."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"{level} {name}", f"```text\n{usage}\n```", _text(command.help)]
    parameters = [each for each in command.get_params(context) if each.name != "help"]
    rows = [row for each in parameters if (row := _row(each, context))]
    return "\n\n".join([*parts, "\n".join(["| argument | meaning |", "| --- | --- |", *rows] if rows else [])])


def _text(text: str | None) -> str:
    """A docstring as Markdown: examples, which are indented there or begin with "Example:", as blocks of code."""
    text = inspect.cleandoc(text or "").replace("\f", "")
    examples = re.sub(r"(?m)^(Examples?:) (ndrepro .*)$", r"\1\n\n```sh\n\2\n```", text)
    # lines of examples are code already
    return re.sub(r"(?m)^(?!    |ndrepro ).*$", lambda line: _options_as_code(line[0]), examples)


def _options_as_code(text: str) -> str:
    """A text in which every option that is not in code yet is, so that no line breaks at its hyphens."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", piece) for piece in pieces
    )


def _row(parameter: Any, context: Any) -> str:
    """A row of the table: how the parameter is written, and what it means. Empty for a hidden one."""
    record = parameter.get_help_record(context)
    if record is None:
        return ""
    written, meaning = record
    if parameter.param_type_name == "argument":
        written = parameter.make_metavar(context)
    return f"| `{written.replace('|', chr(92) + '|')}` | {table_cell(meaning)} |"


def table_cell(text: str | None) -> str:
    """A text for a cell of a table."""
    words = " ".join((text or "").split())
    return _options_as_code(re.sub(r"([|<>*_\[\]])", r"\\\1", words))
