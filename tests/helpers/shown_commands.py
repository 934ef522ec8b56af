"""The commands that pages show: fenced sh and console blocks, and indented ones, line by line.

In prose, `ndrepro …` between backticks counts too.
"""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ndrepro.cli.app import command_tree
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "runbooks").glob("*.md")]
    + [path for path in (ROOT / "docs").rglob("*.md") if "runs" not in path.relative_to(ROOT / "docs").parts]
)
_FENCE = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^\1```")
_PROGRAM = re.compile(r"^(?:\$ |\.\./)?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|uvx --from \. )?(ndrepro|make)(?= |$)(.*)$")
# words that stand for something in place of an argument
_ELLIPSIS = re.compile(r"…|\.\.\.")


def shown(text: str) -> Iterator[str]:
    """Every line of a page that begins with ndrepro or make, without its comment; continued lines joined."""
    blocks = [block for _, kind, block in _FENCE.findall(text) if kind in ("sh", "console")]
    prose = _FENCE.sub("", text)
    blocks += re.findall(r"(?m)(?:^    .*\n)+", prose)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`((?:ndrepro|make) [^`]+)`", re.sub(r"(?m)\n *", " ", prose))
    for line in lines:
        command = re.split(r"\s+#|\s*[|&;<>]{1,2}\s", line.strip())[0].strip().rstrip("\\")
        if _PROGRAM.match(command):
            yield command


def problem(command: str, targets: set[str]) -> str | None:
    """What is wrong with a command of a page: an unknown command, option, make target; ``None`` if nothing."""
    found = _PROGRAM.match(command)
    assert found is not None
    program, rest = found[1], found[2]
    try:
        words = shlex.split(_ELLIPSIS.sub("", rest))
    except ValueError:
        return f"{command}: not shell words"
    if program == "make":
        asked = [word for word in words if "=" not in word and not word.startswith("-")]
        unknown = [word for word in asked[:1] if word not in targets]
        return f"{command}: no target {unknown[0]}" if unknown else None
    return _wrong_words(command, words)


@functools.cache
def _root() -> Any:
    return command_tree(whole=True)


def _wrong_words(command: str, words: list[str]) -> str | None:
    """The first word that is no command, or option that the command does not have."""
    tree = _root()
    while hasattr(tree, "commands"):
        while words and words[0].startswith("-"):
            if not _has(tree, words[0]):
                return f"{command}: no option {words[0]}"
            words = words[1:]
        if not words:
            return None
        if words[0] not in tree.commands:
            return None if words[0].isupper() else f"{command}: no command {words[0]}"
        name, tree, words = words[0], tree.commands[words[0]], words[1:]
        if name == "run" and "study" not in command and (wrong := _wrong_experiment(words)):
            return f"{command}: {wrong}"
    for word in words:
        if word == "--":
            break
        if re.match(r"--?[a-zA-Z]", word) and not _has(tree, word.partition("=")[0]):
            return f"{command}: no option {word}"
    return None


def _has(command: Any, option: str) -> bool:
    names = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return option in names | {"--help", "-h"}


def _wrong_experiment(words: list[str]) -> str | None:
    """What is wrong with the experiment or the settings of `ndrepro run`; placeholders in capitals are left out."""
    pairs = [word for option, word in itertools.pairwise(words) if option == "--set" and not word[0].isupper()]
    try:
        if words and re.fullmatch(r"[a-z0-9_]+", words[0]):
            Experiment.from_name(words[0], dict(pair.split("=", 1) for pair in pairs))
    except UsageError as error:
        return re.split("[:']", error.message)[0].strip()
    return None
