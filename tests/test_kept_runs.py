"""The signed manifests that are kept beside the documentation hold, and say what the table says."""

import json
from pathlib import Path

import pytest

from provenance.signing import PublicKey
from provenance.trust import TrustedKey, TrustPolicy
from provenance.verify import verify

KEPT = sorted((Path(__file__).parents[1] / "docs" / "runs").glob("*/manifest.dsse.json"))


def trusting(key: Path) -> TrustPolicy:
    public = PublicKey.from_pem(key.read_bytes())
    return TrustPolicy(Path(), None, (TrustedKey(public.pem, public.keyid, "the author", ""),))


@pytest.mark.parametrize("manifest", KEPT, ids=lambda path: path.parent.name)
def test_a_kept_manifest_verifies_and_sums_up_its_metrics(manifest: Path) -> None:
    trust = trusting(manifest.with_name("author.pub"))
    verdict = verify(manifest, trust=trust, manifest_only=True)
    assert verdict.ok and verdict.manifest is not None
    (summary,) = (item for item in verdict.manifest.byproducts if item.name == "metrics summary")
    last = json.loads(manifest.with_name("metrics.jsonl").read_text().splitlines()[-1])
    assert summary.annotations is not None and summary.annotations["last"] == last
    table = (manifest.parents[2] / "results.md").read_text(encoding="utf-8")
    assert manifest.parent.name in table and f"{100 * last['test_accuracy']:.2f} %" in table


def test_a_changed_one_does_not(tmp_path: Path) -> None:
    content = KEPT[0].read_bytes()
    changed = tmp_path / "manifest.dsse.json"
    changed.write_bytes(content.replace(b'"payload":"e', b'"payload":"f', 1))
    assert not verify(changed, trust=trusting(KEPT[0].with_name("author.pub")), manifest_only=True).ok
