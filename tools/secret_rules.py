"""Writes provenance/redaction/gitleaks_rules.py from gitleaks' own rules: ``secret_rules.py gitleaks.toml VERSION``.

gitleaks (https://github.com/gitleaks/gitleaks, MIT) keeps its rules in ``config/gitleaks.toml`` and embeds that file in
its program. Kept are the rules that know a token by its looks or by the name of its service beside it. What is changed:
RE2's spelling of flags, classes and anchors becomes Python's; the lazy prefix of a rule, which matches whatever stands
before a service's name and makes the search slow, is dropped; a token ends where its letters do, not only before
quotes and white space, so that it is found in a URL, a call or a list, and is no piece of a longer word. Left out are
the rules in ``_LEFT_OUT``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "provenance" / "redaction" / "gitleaks_rules.py"
_LEFT_OUT = {
    "generic-api-key": "names are provenance.redaction.names' part",
    "private-key": "provenance.redaction.patterns reads it line by line",
    "curl-auth-header": "quadratic; provenance.redaction.names knows its headers",
    "curl-auth-user": "quadratic",
    "jwt-base64": "a named group for each of a JWT's members; its looks are those of any base64",
    "sourcegraph-access-token": "takes every commit for a token",
    "flutterwave-public-key": "a public key",
    # these match the rule itself, so that a patch to the file would not survive them
    "aws-amazon-bedrock-api-key-short-lived": "a constant, the beginning of a key",
    "pypi-upload-token": "provenance.redaction.patterns has it",
    "sidekiq-sensitive-url": "provenance.redaction.patterns takes every password in a URL",
}
_PREFIX = r"[\w.-]{0,50}?"
# a token by itself is not a piece of a longer word: what is left of that word would be another one
_BEFORE, _AFTER = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
_END = r"""(?:[\x60'"\s;]|\\[nr]|$)"""
_ANY_END = r"(?![\w-])"
LICENSE = """MIT License

Copyright (c) 2019 Zachary Rice

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def to_python(pattern: str) -> str:
    """An RE2 pattern in Python's spelling: flags that begin in mid-pattern hold for the rest of their group."""
    pattern = pattern.replace(_PREFIX, "", 1) if pattern.startswith((_PREFIX, f"(?i){_PREFIX}")) else pattern
    pattern = pattern.replace("[[:alnum:]]", "[a-zA-Z0-9]").replace(r"\z", r"\Z").replace(_END, _ANY_END)
    found, open_flags, position, in_class = [], [0], 0, False
    while position < len(pattern):
        letter = pattern[position]
        if pattern.startswith("(?i)", position) and not in_class:
            found.append("(?i:")
            open_flags[-1] += 1
            position += 4
            continue
        step = 2 if letter == "\\" else 1
        piece = pattern[position : position + step]
        if in_class:
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            if pattern[position + 1 : position + 2] == "]":  # a literal bracket
                step, piece = 2, pattern[position : position + 2]
        elif letter == "(":
            open_flags.append(0)
        elif letter == ")":
            piece = ")" * open_flags.pop() + piece
        elif letter == "|" and open_flags[-1]:
            piece = ")" * open_flags[-1] + "|" + "(?i:" * open_flags[-1]
        found.append(piece)
        position += step
    return "".join(found) + ")" * open_flags[0]


def rules(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rules that are kept: kind, pattern, keywords, entropy, group."""
    found = []
    for rule in document["rules"]:
        if rule["id"] in _LEFT_OUT or "path" in rule:
            continue
        pattern = to_python(rule["regex"])
        pattern = pattern if _PREFIX in rule["regex"] else f"{_BEFORE}(?:{pattern}){_AFTER}"
        re.compile(pattern)
        words = " ".join(sorted(rule["keywords"]))
        found.append((rule["id"], pattern, words, float(rule.get("entropy", 0)), rule.get("secretGroup", 0)))
    return found


def main() -> None:
    """Write the file."""
    source, version = sys.argv[1:]
    kept = rules(tomllib.loads(Path(source).read_text(encoding="utf-8")))
    head = f'"""Rules of gitleaks {version}: kind, pattern, keywords, entropy, group (tools/secret_rules.py)'
    lines = [head, "", "https://github.com/gitleaks/gitleaks, config/gitleaks.toml", "", LICENSE, '"""', ""]
    lines += ["# ruff: noqa: E501", "# fmt: off", "RULES: tuple[tuple[str, str, str, float, int], ...] = ("]
    lines += [*(f"    {rule!r}," for rule in kept), ")"]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
