"""``ndrepro settings``: what every setting of an experiment is, from the declarations themselves."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import options, output, terminal, words
from ndrepro.execution.own_sources import offered
from ndrepro.protocol.experiment.experiment import SETTINGS, Experiment
from ndrepro.protocol.experiment.setting import Setting, unknown_setting
from ndrepro.protocol.experiment.settings import leaves

_BY_NAME = ("arch", "method", "epochs")


def settings(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=completion.setting_names,
            show_default=False,
            help="A setting, a group of settings (deconv, seeds, corrupt), or an experiment, for its own defaults.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Explain the settings of an experiment: default, allowed values, unit and meaning.

    Example: ndrepro settings learning_rate
    """
    defaults = {key: each.default for key, each in SETTINGS.items()}
    shown = {key: each for key, each in SETTINGS.items() if name is None or key == name or key.startswith(f"{name}.")}
    if not shown:
        assert name is not None
        if not any(letter.isdigit() for letter in name):  # it has no number of epochs: no experiment's name
            raise unknown_setting(name, SETTINGS)
        shown, defaults = SETTINGS, dict(leaves(Experiment.from_name(name).defaults()))
    if as_json:
        output.print_json({"settings": [_document(each, defaults[key]) for key, each in shown.items()]})
        return output.DONE
    for key, each in shown.items():
        _print(each, defaults[key])
    return output.DONE


def _document(each: Setting, default: Any) -> dict[str, Any]:
    """The JSON of a setting."""
    about = each.about
    return {
        "key": each.key,
        "default": default,
        "type": each.type_name,
        "unit": about.unit,
        "meaning": about.meaning,
        "choices": list(about.choices),
        "allowed": each.allowed,
        "least": about.least,
        "most": about.most,
        "aliases": list(about.aliases),
    }


def _print(each: Setting, default: Any) -> None:
    """The key with its default, what it means, and what it may be."""
    from rich.text import Text

    console = terminal.console()
    given = "by the name" if each.key in _BY_NAME and default is None else words.setting(default)
    unit = f" {each.about.unit}" if each.about.unit and default is not None else ""
    console.print(Text.assemble((each.key, "bold"), (f"  default {given}{unit}", "dim")), soft_wrap=True)
    console.print(Text(f"    {terminal.hanging(each.about.meaning, 4)}"), soft_wrap=True)
    values = f"{each.allowed}; unit: {each.about.unit}" if each.about.unit else each.allowed
    console.print(Text(f"    {terminal.hanging(f'values: {values}', 4)}", style="dim"), soft_wrap=True)
    offers = {"arch": offered.networks, "dataset": offered.datasets}.get(each.key, tuple)()
    for offer in offers:
        console.print(Text(f"    of an installed package: {offer}", style="dim"), soft_wrap=True)
