"""An audit in words: what is said of a claim, a column, a row, the same for terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from ndrepro.analysis.audit.audit import (
    CONTRADICTED,
    NOT,
    OTHERWISE,
    REDERIVES,
    STATUSES,
    UNCHECKABLE,
    Audit,
    ClaimFinding,
    agrees,
    value_text,
)
from ndrepro.analysis.audit.crosscheck import DIFFERS, CrossFinding, HeadFinding, PrintedCell
from ndrepro.text.markdown import markdown_table

# the order in which a reader wants them: what is wrong first
ORDER = (NOT, CONTRADICTED, OTHERWISE, UNCHECKABLE, REDERIVES)


def summary(audit: Audit) -> str:
    """One line: how many claims of each status, how many cells differ."""
    counts = audit.counts
    parts = [f"{counts[status]} {_plural(status, counts[status])}" for status in STATUSES if counts[status]]
    cells = sum(found.cells for found in audit.crosschecks)
    wrong = sum(found.differing for found in audit.crosschecks)
    tables = f"; {wrong} of {cells} cells differ from the raw data" if cells else ""
    return f"{len(audit.claims)} claims: {', '.join(parts)}{tables}"


def claimed(finding: ClaimFinding) -> str:
    """What is claimed, with its relation."""
    value = finding.claim.claimed
    text = (
        ", ".join(value) if isinstance(value, tuple) else "yes" if value is True else "no" if value is False else value
    )
    return text if finding.claim.relation == "=" else f"{finding.claim.relation} {text}"


def outcome(finding: ClaimFinding) -> Iterator[str]:
    """The results, line by line: as the paper says, from raw data, under other definitions."""
    claim = finding.claim
    if claim.missing:
        yield claim.missing
    if finding.table:
        by = f" ({claim.definition})" if claim.definition else ""
        value = finding.table.problem or value_text(finding.table.value, claim.claimed)
        yield f"recomputes to: {value}{_items(finding)}{by}"
    if finding.raw:
        text = finding.raw.problem or value_text(finding.raw.value, claim.claimed)
        if finding.table and text == value_text(finding.table.value, claim.claimed):
            text = "the same"
        yield f"from the raw data: {text}" + (
            ", which is not what is claimed" if finding.status == CONTRADICTED else ""
        )
    for other in finding.others:
        mark = ", which is what is claimed" if other.agrees else ""
        yield f"otherwise: {other.problem or value_text(other.value, claim.claimed)}{mark} ({other.definition})"


def cross_summary(found: CrossFinding) -> str:
    """One line of a cross-check."""
    cut = sum(head.cut_off for head in found.heads)
    more = f"; {cut} {'is' if cut == 1 else 'are'} truncated instead of rounded" if cut else ""
    differ = f"{found.differing} of {found.cells} cells differ" if found.differing else f"all {found.cells} cells agree"
    return differ + more


def column(head: HeadFinding) -> Iterator[str]:
    """What is said of one printed column: how many cells differ, where its numbers come from, single cells."""
    if not head.differing:
        return
    yield f"{head.differing} of {head.rows} cells {'differs' if head.differing == 1 else 'differ'}"
    if head.origin:
        found = head.origin
        others = f", {found.others} others do as well" if found.others else ""
        yield (
            f"{found.rows} of {found.of} are the {found.words} (the best of {found.candidates:,} candidates{others}; "
            f"with the rows moved, the best gives {found.by_chance})"
        )
    cells = [cell for cell in head.cells if cell.how == DIFFERS]
    yield "; ".join(_cell(cell) for cell in cells)


def origins(audit: Audit) -> Iterator[tuple[CrossFinding, HeadFinding]]:
    """Every column with a cell that differs."""
    for found in audit.crosschecks:
        for head in found.heads:
            if head.differing:
                yield found, head


def markdown(audit: Audit) -> str:
    """The whole audit as a Markdown document."""
    lines = [f"# {audit.file.title}", "", f"{summary(audit)}.", ""]
    for status in ORDER:
        findings = [found for found in audit.claims if found.status == status]
        if findings:
            lines += [f"## {_title(status)}", ""]
            lines.append(markdown_table(("claim", "where", "claimed", "recomputed"), map(_cells, findings)))
    if audit.crosschecks:
        lines += ["## Tables against raw data", ""]
        lines += [f"* {found.check.text}: {cross_summary(found)}." for found in audit.crosschecks] + [""]
        columns = list(origins(audit))
        if columns:
            rows = ((head.head, "; ".join(column(head))) for _, head in columns)
            lines.append(markdown_table(("column", "what was found"), rows))
    for suspicious in audit.suspicions:
        if suspicious.rows:
            shown = list(suspicious.rows[0])
            lines += [f"## {_title(suspicious.suspicion.text)}", ""]
            lines.append(markdown_table(shown, ([value(row[name]) for name in shown] for row in suspicious.rows)))
    if audit.without_spread:
        lines += [f"Means without a spread: {', '.join(audit.without_spread)}.", ""]
    lines += ["## Papers", ""] + [f"* *{short}*: {full}" for short, full in audit.file.papers.items()] + [""]
    return "\n".join(lines)


def _items(finding: ClaimFinding) -> str:
    """How many items of a list are as claimed, where not all are."""
    wanted, got = finding.claim.claimed, finding.table.value if finding.table else None
    if (
        not isinstance(wanted, tuple)
        or not isinstance(got, list)
        or len(wanted) != len(got)
        or finding.status in (REDERIVES, CONTRADICTED)
    ):
        return ""
    right = sum(agrees(a, b, finding.claim.relation, finding.claim.tolerance) for a, b in zip(wanted, got, strict=True))
    return f", {right} of {len(got)} as claimed"


def value(found: object) -> str:
    """A number of a row for a reader."""
    return f"{found:.2f}" if isinstance(found, float) else str(found)


def _cells(found: ClaimFinding) -> tuple[str, ...]:
    claim = found.claim
    return claim.text, f"{claim.paper}, {claim.place}", claimed(found), "; ".join(outcome(found))


def _cell(cell: PrintedCell) -> str:
    note = f", {cell.note}" if cell.note else ""
    return f"{cell.row} {cell.printed:.2f}, raw {cell.computed:.2f}{note}"


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


def _plural(status: str, count: int) -> str:
    if count == 1:
        return status
    return {REDERIVES: "re-derive", NOT: "do not re-derive"}.get(status, status)
