"""What a shell is offered after Tab: runs, experiments, settings, studies and cells that begin with what was typed.

Each function gets the word so far. Nothing that goes wrong in one is shown in the middle of a line: there is then
nothing to offer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

_EPOCHS = (1, 20, 100)
# shells evaluate what they are offered, and a name may come with a clone
_PLAIN = re.compile(r"[\w.+=/ -]+", re.ASCII)
# zsh runs an autoloaded file as the function of its name: typer's only defines what completes from the second Tab on
_ZSH_FIRST_TAB = '[ "$funcstack[1]" = "_%(prog_name)s" ] && %(complete_func)s "$@"\n'


def _offered(find: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """The words of ``find`` that begin with what was typed and are plain, each once."""

    def offer(incomplete: str) -> list[str]:
        try:
            return list(dict.fromkeys(w for w in find() if w.startswith(incomplete) and _PLAIN.fullmatch(w)))
        except Exception:
            return []

    return offer


@_offered
def runs() -> Iterable[str]:
    """The word latest, experiments that have runs, and identifiers, the last one first."""
    from ndrepro.protocol.layout import RunsFolder

    folders = RunsFolder(Path(os.environ.get("NDREPRO_RUNS") or "runs")).runs()
    yield "latest"
    yield from (folder.root.parent.name for folder in folders)
    yield from (folder.root.name for folder in reversed(folders))


@_offered
def experiments() -> Iterable[str]:
    """Names of experiments with some numbers of epochs, the default data set first."""
    from ndrepro.execution.own_sources import offered
    from ndrepro.protocol.experiment.combinations import combinations
    from ndrepro.protocol.experiment.names import DEFAULT_DATASET, name_of
    from ndrepro.protocol.experiment.own import OWN_METHODS

    found = sorted(combinations(), key=lambda each: each[2] != DEFAULT_DATASET)
    offers = [offer.name for offer in offered.networks() if not offer.refused]
    yield from (f"{name}_{method}_{count}" for name in offers for method in OWN_METHODS for count in _EPOCHS)
    yield from (name_of(arch, method, count, data) for arch, method, data in found for count in _EPOCHS)


@_offered
def settings() -> Iterable[str]:
    """Keys of settings, as ``--set`` and ``--where`` take them."""
    from ndrepro.protocol.experiment.experiment import SETTINGS

    return (f"{key}=" for key in SETTINGS)


@_offered
def setting_names() -> Iterable[str]:
    """Keys of settings and their groups, then experiments."""
    from ndrepro.protocol.experiment.experiment import SETTINGS

    yield from (*SETTINGS, *(key.partition(".")[0] for key in SETTINGS if "." in key))
    yield from experiments("")


@_offered
def studies() -> Iterable[str]:
    """Studies that are known by name."""
    from ndrepro.execution.studies.study_file import study_files

    return (path.stem for path in study_files())


@_offered
def cells() -> Iterable[str]:
    """Cells of the version matrix."""
    from ndrepro.execution.environments import matrix

    return (cell.name for cell in (*matrix.list_cells(), *matrix.added_cells()))


@_offered
def outcomes() -> Iterable[str]:
    """Outcomes of runs."""
    from ndrepro.execution.runs.run_lookup import OUTCOMES

    return iter(OUTCOMES)


def complete_on_first_tab() -> None:
    """Have the script for zsh complete on the first Tab of a session too."""
    from typer import _completion_shared as shells

    script = shells.COMPLETION_SCRIPT_ZSH
    shells._completion_scripts["zsh"] = f"{script.rstrip()}\n{_ZSH_FIRST_TAB}"
