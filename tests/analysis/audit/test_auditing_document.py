"""The claims file that docs/how-to/auditing.md shows can be audited, and its list of functions is complete."""

from __future__ import annotations

import re
from pathlib import Path

from ndrepro.analysis.audit.audit import CONTRADICTED, NOT, OTHERWISE, REDERIVES, UNCHECKABLE, audit
from ndrepro.analysis.audit.claims_sql import FUNCTIONS
from ndrepro.analysis.audit.published_tables import published_folder

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "how-to" / "auditing.md").read_text(encoding="utf-8")


def test_the_example_is_a_claims_file(tmp_path: Path) -> None:
    section = DOCUMENT.split("## A claims file\n")[1].split("\nTables are read strictly")[0]
    (tmp_path / "claims.toml").write_text(re.sub(r"(?m)^    ", "", section), encoding="utf-8")
    (tmp_path / "runs.csv").write_text("net,seed,accuracy\na,0,88.0\na,1,92.0\nb,0,93.0\nb,1,91.0\n", encoding="utf-8")
    (tmp_path / "table1.csv").write_text("net,mean\na,90.0\nb,92.0\n", encoding="utf-8")
    found = audit(tmp_path / "claims.toml")
    assert [finding.status for finding in found.claims] == [REDERIVES, REDERIVES, UNCHECKABLE]
    assert found.holds and found.crosschecks[0].cells == 2


def test_every_function_is_described() -> None:
    table = DOCUMENT.split("| function | gives |")[1].split("\n\n")[0]
    assert [name for name in FUNCTIONS if not re.search(rf"\b{name}\b", table)] == []


def test_the_numbers_that_it_tells_are_those_of_the_audit() -> None:
    found = audit(published_folder() / "claims.toml")
    counts = found.counts
    summary = (
        f"{len(found.claims)} claims: {counts[REDERIVES]} re-derive, "
        f"{counts[CONTRADICTED]} are contradicted by the raw data, "
        f"{counts[OTHERWISE]} only under another definition, {counts[NOT]} do not, "
        f"{counts[UNCHECKABLE]} cannot be checked."
    )
    said = " ".join(DOCUMENT.split())
    assert summary in said
    cells, wrong = (sum(getattr(check, name) for check in found.crosschecks) for name in ("cells", "differing"))
    assert f"Of {cells} printed means {wrong} are not those of their attempts." in said
    above = next(item for item in found.suspicions if item.suspicion.name == "above-best-known")
    assert f"{sum(row['attempts'] for row in above.rows)} attempts are above the best test accuracy" in said
