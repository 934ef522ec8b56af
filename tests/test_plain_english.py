"""Pages, help, messages, docstrings and comments use the field's standard terms: the worst idioms are kept out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

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
    r"cross(?:es)? the door|that door|of the door": "process boundary",
    r"(?:what|whatever) (?:has )?(?:become|became|becomes) of": "outcome, result",
    r"can(?:not)? be had": "is (not) available",
    r"gone on\b|is spoken of": "resumed; mentioned",
    r"(?<!\")begun\b(?!\")|part(?:ed)? at (?:step|the first)": "started; diverge",
}
PACKAGES = ("ndrepro", "provenance")
# whose comments are read as well
CODE = (*PACKAGES, "tests", "tools", "benchmarks", "integrations", "docs/examples")


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


def test_messages_are_in_plain_english() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert wrong_strings(paths, documentation=False) == {}


def test_docstrings_are_in_plain_english() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert wrong_strings(paths, documentation=True) == {}


def test_comments_are_in_plain_english() -> None:
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    found = {
        f"{path}:{line}": wrong
        for path in paths
        for line, text in comments(path.read_text(encoding="utf-8"))
        if (wrong := list(idioms(text)))
    }
    assert len(paths) > 1000 and found == {}


def test_a_comment_is_read_over_its_lines() -> None:
    code = "x = 1  # it was cut\n# another: cut\n# off in two lines\ny = '# goes on'\n"
    assert list(comments(code)) == [(1, "it was cut"), (2, "another: cut off in two lines")]
    assert [len(list(idioms(text))) for _, text in comments(code)] == [0, 1]


def test_strings_of_code_are_found(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text('def f(x):\n    """What is told."""\n    return f"{x} was cut off", "goes on"\n')
    assert [len(found) for found in wrong_strings([path], documentation=False).values()] == [2]
    assert len(wrong_strings([path], documentation=True)) == 1


def wrong_strings(paths: list[Path], *, documentation: bool) -> dict[str, list[str]]:
    """Idioms in docstrings, or in all other strings, by file and line."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for line, text, is_docstring in strings(ast.parse(path.read_text(encoding="utf-8"))):
            if is_docstring == documentation and (wrong := list(idioms(text))):
                found.setdefault(f"{path}:{line}", []).extend(wrong)
    return found


def strings(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """The strings of a module, pieces of a formatted one joined: line, text, whether it is a docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    seen: set[int] = set()
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            seen.add(id(node.body[0].value))
            yield node.body[0].lineno, ast.get_docstring(node) or "", True
        elif isinstance(node, ast.JoinedStr):
            seen.update(map(id, node.values))
            yield (
                node.lineno,
                "".join(each.value if isinstance(each, ast.Constant) else "X" for each in node.values),
                False,
            )
        # a word alone is a name: of a member of a document, of an event
        elif isinstance(node, ast.Constant) and id(node) not in seen and " " in str(node.value):
            yield node.lineno, str(node.value), False


def comments(code: str) -> Iterator[tuple[int, str]]:
    """The comments of a module, each with its first line; lines of comment that follow each other are one."""
    first, last, words = 0, 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        alone = token.line.lstrip().startswith("#")
        if words and not (alone and token.start[0] == last + 1):
            yield first, " ".join(words)
            words = []
        first = first if words else token.start[0]
        words.append(token.string.lstrip("# "))
        last = token.start[0] if alone else -1
    if words:
        yield first, " ".join(words)


def help_texts() -> Iterator[tuple[str, str]]:
    for name, command in commands.all_commands(commands.root()):
        options = [getattr(each, "help", None) or "" for each in command.params]
        yield name, " ".join([command.help or "", command.short_help or "", *options])
