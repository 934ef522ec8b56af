"""``ndrepro doctor``: what this machine has and lacks, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.display import options, output, study_slurm, terminal
from ndrepro.execution.environments import doctor as machine
from ndrepro.execution.environments.finding import PROBLEM, WARNING, Finding
from ndrepro.execution.slurm.cluster_check import check_cluster
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.text.plurals import plural

OnCluster = Annotated[
    bool, typer.Option("--cluster", help="A Slurm cluster: this login node, and two tasks of a minute on its nodes.")
]
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_NAME_WIDTH = 21
_INDENT = len("problem ") + 1 + _NAME_WIDTH + 1


def doctor(
    cluster: OnCluster = False,
    profile: study_slurm.ProfileName = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Diagnose this machine, or a Slurm cluster, before a run. Exit 1 where there is a problem.

    For a cluster: `ndrepro doctor --cluster --profile mycluster` on its login node.

    Example: ndrepro doctor --cluster
    """
    findings: list[Finding] = []
    for finding in _findings(cluster, profile, runs):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.status == PROBLEM for finding in findings)
    if as_json:
        output.print_json({"ok": not problems, "findings": findings})
    else:
        warnings = sum(finding.status == WARNING for finding in findings)
        terminal.write_text(f"\n{plural(problems, 'problem')}, {plural(warnings, 'warning')}")
    return output.NO if problems else output.DONE


def _findings(cluster: bool, profile: str | None, runs: Path) -> Iterator[Finding]:
    if cluster:
        return check_cluster(study_slurm.profile_of(profile), RunsFolder(runs))
    if profile is not None:
        raise UsageError(f"--profile {profile}: without --cluster", "add --cluster to check a cluster")

    return iter(machine.examine(RunsFolder(runs)))


def _print(finding: Finding) -> None:
    """Status, name and what was found; a cure on the next line."""
    text = f" {finding.name:<{_NAME_WIDTH}} {terminal.hanging(finding.message, _INDENT)}"
    terminal.write_styled((f"{finding.status:<8}", _STYLES[finding.status]), text)
    if finding.cure and finding.status != "ok":
        terminal.write_row("", f"hint: {finding.cure}", _INDENT - 1, "dim")
