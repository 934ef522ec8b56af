"""Tokens of two hundred services, known by gitleaks' rules: by their looks, or by the service's name beside them.

The rules are data, ``gitleaks_rules.py``, with their source and licence (``tools/secret_rules.py`` wrote it). A rule
is tried where one of its keywords is in the text; what it finds counts if its letters are mixed enough: the Shannon
entropy that gitleaks asks for.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from typing import NamedTuple

from provenance.redaction.gitleaks_rules import RULES
from provenance.redaction.marker import marker

# no rule's token is shorter
_SHORTEST = 12
# texts that are short are remembered: what a process sees of its environment it sees at its start and at its end
_REMEMBERED = 256


class Rule(NamedTuple):
    """One kind of token, with its pattern and the words without which it is not looked for."""

    kind: str
    pattern: str
    keywords: tuple[str, ...]
    entropy: float
    group: int

    def redact(self, text: str) -> str:
        """``text`` with every token of this kind replaced."""
        return _compiled(self.pattern).sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        group = self.group or next((number for number, text in enumerate(match.groups(), 1) if text), 0)
        letters = match.group(group)
        if entropy(letters) <= self.entropy:
            return match.group()
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match.group()[:start] + marker(self.kind) + match.group()[end:]


def redact_by_rules(text: str) -> str:
    """``text`` with every token that a rule knows replaced by ``[redacted:KIND]``."""
    if len(text) < _SHORTEST:
        return text
    return _remembered(text) if len(text) <= _REMEMBERED else _by_rules(text)


def _by_rules(text: str) -> str:
    lower = text.lower()
    for keyword, rules in _by_keyword().items():
        if keyword in lower:
            for rule in rules:
                text = rule.redact(text)
    return text


@functools.lru_cache(maxsize=8192)
def _remembered(text: str) -> str:
    return _by_rules(text)


def entropy(text: str) -> float:
    """Shannon's entropy of the letters of ``text``, in bits a letter."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule of the file."""
    return tuple(
        Rule(kind, pattern, tuple(keywords.split()), least, group) for kind, pattern, keywords, least, group in RULES
    )


@functools.cache
def _by_keyword() -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in all_rules():
        for keyword in rule.keywords:
            found.setdefault(keyword, []).append(rule)
    return found


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
