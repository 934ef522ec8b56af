"""What ``ndrepro record`` is asked for, and how its plain form is parsed without the command line's library.

Importing that library and building every command take as long as recording itself, so the words of a plain command are
read here. Whatever is not plain (``--help``, an unknown option, a missing value, a word beyond ASCII) is left to the
library, which has the messages for it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ndrepro.protocol.layout import DEFAULT_RUNS, RUNS_VARIABLE

# option and attribute of RecordOptions: those that may be given many times, those with one value, and those without
REPEATED = {"--out": "out", "--data": "data", "--seed": "seed", "--metrics": "metrics"}
SINGLE = {"--name": "name", "--trail": "trail", "--runs": "runs"}
FLAGS = {"--json": "as_json", "--quiet": "quiet", "-q": "quiet"}


@dataclass(frozen=True)
class RecordOptions:
    """The command, and the value of each option of ``ndrepro record`` as it was typed."""

    command: tuple[str, ...] = ()
    name: str | None = None
    out: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    trail: str = "auto"
    runs: Path = DEFAULT_RUNS
    as_json: bool = False
    quiet: bool = False


def own_words(words: Sequence[str]) -> Sequence[str]:
    """The words that are for this program: of ``record`` those before the command, which may hold anything."""
    if "record" not in words[:2]:
        return words
    return words[: words.index("--") if "--" in words else words.index("record") + 1]


def plain_options(words: Sequence[str]) -> RecordOptions | None:
    """The options in the words that follow ``record``; ``None`` where they are not plain."""
    repeated: dict[str, list[str]] = {attribute: [] for attribute in REPEATED.values()}
    single: dict[str, str] = {}
    flags: set[str] = set()
    waiting = [*reversed(words)]
    while waiting and waiting[-1].startswith("-") and (word := waiting.pop()) != "--":
        option, equals, value = word.partition("=")
        if word in FLAGS:
            flags.add(FLAGS[word])
            continue
        if option not in {*REPEATED, *SINGLE} or not (equals or waiting):
            return None
        value = value if equals else waiting.pop()
        if not value.isascii():
            return None
        if option in REPEATED:
            repeated[REPEATED[option]].append(value)
        else:
            single[SINGLE[option]] = value
    return RecordOptions(
        tuple(reversed(waiting)),
        single.get("name"),
        out=tuple(repeated["out"]),
        data=tuple(repeated["data"]),
        seed=tuple(repeated["seed"]),
        metrics=tuple(repeated["metrics"]),
        trail=single.get("trail", RecordOptions.trail),
        runs=Path(single.get("runs") or os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS),
        as_json="as_json" in flags,
        quiet="quiet" in flags,
    )
