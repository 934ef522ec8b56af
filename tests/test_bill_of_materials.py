"""A bill of materials is what CycloneDX's own schema allows, or is not given out; of a real image: tests/engines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bill_of_materials import bill, check

IMAGE, BASE = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
LABELS = {
    "org.opencontainers.image.created": "2026-09-01T12:00:00Z",
    "org.opencontainers.image.base.name": f"docker.io/library/debian:bookworm@{BASE}",
    "org.opencontainers.image.base.digest": BASE,
}
LISTING: dict[str, Any] = {
    "distributions": {"typing_extensions": "4.16.0", "torch": "2.13.0+cpu", "GitPython": "3.1.45"},
    "wheels": [
        ["a" * 64, "/tmp/wheels/typing_extensions-4.16.0-py3-none-any.whl"],
        ["b" * 64, "/tmp/wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"],
        ["c" * 64, "/tmp/wheels/gitpython-3.1.45-py3-none-any.whl"],
    ],
    "packages": [["libstdc++6", "12.2.0-14+deb12u1", "amd64"], ["perl-base", "1:5.36~rc1", "amd64"]],
    "system": "debian",
}


def made(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bill("ndrepro:latest", IMAGE, LABELS, {**LISTING, **changes}))
    return document


def test_everything_in_the_image_is_named_by_its_package_url() -> None:
    components = {component["purl"]: component for component in made()["components"]}
    assert set(components) == {
        "pkg:pypi/typing-extensions@4.16.0?file_name=typing_extensions-4.16.0-py3-none-any.whl",
        "pkg:pypi/torch@2.13.0%2Bcpu?file_name=torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "pkg:pypi/gitpython@3.1.45?file_name=gitpython-3.1.45-py3-none-any.whl",
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
        "pkg:deb/debian/perl-base@1:5.36~rc1?arch=amd64",
    }
    (torch,) = (component for url, component in components.items() if "/torch@" in url)
    assert torch["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]


def test_the_image_and_its_base_have_their_digests_and_the_bytes_are_the_images() -> None:
    image = made()["metadata"]["component"]
    (base,) = image["pedigree"]["ancestors"]
    assert (image["type"], image["version"], image["hashes"][0]["content"]) == ("container", IMAGE, "1" * 64)
    assert (base["name"], base["version"]) == ("docker.io/library/debian:bookworm", BASE)
    assert made() == made()
    assert made()["serialNumber"] != json.loads(bill("x", BASE, LABELS, LISTING))["serialNumber"]


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda made: made["components"][0].pop("name"), "components/0"),
        (lambda made: made["components"][0].update(type="wheel"), "components/0/type"),
        (lambda made: made["components"][0].update(sha256="a" * 64), "components/0"),
        (lambda made: made["metadata"]["component"]["hashes"][0].update(content="12"), "content"),
        (lambda made: made.update(serialNumber="none"), "serialNumber"),
    ],
)
def test_a_damaged_bill_is_not_cyclonedx(damage: Any, where: str) -> None:
    document = made()
    check(json.dumps(document))
    damage(document)
    with pytest.raises(ValueError, match=where):
        check(json.dumps(document))


def test_a_distribution_of_unknown_origin_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match=r"torch 2\.13\.0\+cpu is installed and no wheel"):
        made(wheels=LISTING["wheels"][:1])
