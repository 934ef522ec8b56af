"""Pages and help texts use the field's standard terms: the worst idioms of the past are kept out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docs_site import commands
from shown_commands import PAGES, ROOT

# idiom -> what to write
IDIOMS = {
    r"go(?:es|ing)? on\b(?! (?:the|a|to)\b)|gone on with": "resumes, continues",
    r"(?:is|was|were) begun": "started",
    r"cut off": "interrupted, truncated, removed",
    r"(?:what|where it) stands|stands? (?:there|here)\b": "status; is",
    r"tells? of\b": "reports, records",
    r"could(?: not)? be (?:had|found out)": "available, unavailable",
    r"taken? in runs?\b|was taken in\b": "import",
    r"surroundings": "environment",
    r"whereabouts|where it lies": "path, location",
    r"of one's own": "of your own",
    r"(?:told|tell(?:s|ing)?) apart": "differ significantly",
    r"how sure\b": "confidence interval",
    r"for once": "for this check only",
    r"(?:held|holds?) (?:it |them )?against": "compared with; protects against",
    r"comes? out\b": "the result is",
    r"\bat hand\b": "available, installed",
    r"alike in all": "identical except for",
    r"(?:runs|releases|two|mostly) parts?\b(?! of)|\bparts? in (?:its|the) (?:first|forward|backward)": "diverge",
    r"the bits are those": "bit-identical to",
    r"(?:is|are|was|not) told\b|tells\b": "reported, shown; reports, finds",
    r"(?:lie|lies) (?:in|on|beside|below|there)\b": "is in, is stored in",
    r"cut short|tell one story": "truncated, interrupted; agree",
    r"doubts\b": "flags, warns",
    r"cross(?:es)? the door|that door": "process boundary",
}


def idioms(text: str) -> Iterator[str]:
    """Each idiom in a text, with what to write instead; blocks of code are left out."""
    prose = " ".join(re.sub(r"(?ms)^( *)```.*?^\1```|^    .*$|`[^`]*`", "", text).split())
    for pattern, instead in IDIOMS.items():
        for hit in re.finditer(rf"(?i)\b(?:{pattern})", prose):
            yield f"{prose[max(hit.start() - 30, 0) : hit.end() + 20]!r}: write {instead}"


def test_idioms_are_found_and_other_uses_are_not() -> None:
    assert len(list(idioms("The run was cut off and\ngoes on where it stands; nothing can be told apart."))) == 4
    assert list(idioms("It goes on the cluster, part of the path.\n\n    what stands\n\n`cut off` in code")) == []


def test_pages_are_in_plain_english() -> None:
    found = {
        str(page.relative_to(ROOT)): wrong
        for page in PAGES
        if "sensitivity" not in page.parent.parts and (wrong := list(idioms(page.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_help_is_in_plain_english() -> None:
    found = {name: wrong for name, text in help_texts() if (wrong := list(idioms(text)))}
    assert found == {}


def help_texts() -> Iterator[tuple[str, str]]:
    for name, command in commands.all_commands(commands.root()):
        options = [getattr(each, "help", None) or "" for each in command.params]
        yield name, " ".join([command.help or "", command.short_help or "", *options])
