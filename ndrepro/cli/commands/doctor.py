"""``ndrepro doctor``: what this machine has and lacks, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndrepro.cli.display import options, output, terminal
from ndrepro.text.plurals import plural

if TYPE_CHECKING:
    from ndrepro.execution.environments.finding import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_NAME_WIDTH = 21
_INDENT = len("problem ") + 1 + _NAME_WIDTH + 1


def doctor(runs: options.Runs = options.DEFAULT_RUNS, as_json: options.Json = False) -> int:
    """Diagnose this machine before a run. Exit 1 where there is a problem."""
    from ndrepro.execution.environments.doctor import examine
    from ndrepro.execution.environments.finding import PROBLEM, WARNING
    from ndrepro.protocol.layout import RunsFolder

    findings: list[Finding] = []
    for finding in examine(RunsFolder(runs)):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.status == PROBLEM for finding in findings)
    if as_json:
        output.print_json({"ok": not problems, "findings": [finding.to_json() for finding in findings]})
    else:
        warnings = sum(finding.status == WARNING for finding in findings)
        terminal.write_line(f"\n{plural(problems, 'problem')}, {plural(warnings, 'warning')}")
    return output.NO if problems else output.DONE


def _print(finding: Finding) -> None:
    """Status, name and what was found; a cure on the next line."""
    from rich.text import Text

    console = terminal.console()
    line = Text(f"{finding.status:<8}", style=_STYLES[finding.status])
    line.append(f" {finding.name:<{_NAME_WIDTH}} {terminal.hanging(finding.message, _INDENT)}", style="default")
    console.print(line, soft_wrap=True)
    if finding.cure and finding.status != "ok":
        cure = terminal.hanging(f"hint: {finding.cure}", _INDENT)
        console.print(Text(f"{'':<{_INDENT}}{cure}", style="dim"), soft_wrap=True)
