"""``ndrepro audit`` as a user sees it: what is wrong first, JSON, Markdown, and a file that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recorded_runs import Answer

Command = Callable[..., Answer]
CLAIMS = 'title = "T"\n[papers]\np = "P"\n[[claims]]\nname = "sum"\npaper = "p"\nplace = "s"\ntext = "t"\n'


def claims(text: str) -> str:
    Path("claims.toml").write_text(CLAIMS + text, encoding="utf-8")
    return "claims.toml"


def test_the_studies_are_audited_when_nothing_is_named(ndrepro: Command) -> None:
    answer = ndrepro("audit")
    assert answer.code == 1 and answer.err == ""
    lines = answer.out.splitlines()
    assert lines[1].startswith(
        "42 claims: 20 re-derive, 2 contradicted by the raw data, 6 only under another definition, 8 do"
    )
    assert lines.index("does not re-derive") < lines.index("re-derives") < lines.index("tables against raw data")
    assert any("10 of 10 are the mean of train_seconds of cifar100 bn 100" in line for line in lines)


def test_json_and_markdown_say_the_same(ndrepro: Command) -> None:
    document = ndrepro("audit", "--json").json
    assert document["holds"] is False and document["counts"]["does not re-derive"] == 8
    markdown = ndrepro("audit", "--markdown").out
    assert "## Does not re-derive" in markdown and markdown.count("\n| ") > 42


def test_a_claim_that_comes_out_is_exit_0_and_one_that_does_not_is_1(ndrepro: Command) -> None:
    assert ndrepro("audit", claims('claimed = "4"\nquery = "SELECT 2 + 2"\n')).code == 0
    assert ndrepro("audit", claims('claimed = "5"\nquery = "SELECT 2 + 2"\n')).code == 1


def test_a_wrong_file_is_two_lines_and_exit_2(ndrepro: Command) -> None:
    answer = ndrepro("audit", claims('claimed = "4"\nquery = "DROP TABLE t"\n'))
    assert answer.code == 2 and answer.out == ""
    what, cure = answer.err.splitlines()
    assert what.startswith("error: claims.toml: claim sum: `DROP TABLE t`") and cure.startswith("  hint: ")
    assert ndrepro("audit", "none.toml").code == 3
    assert ndrepro("audit", "--json", "--markdown").code == 2
