"""The predicate: round trip, strictness by path, the golden manifest of every schema version."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.attestation.manifest import (
    OUTCOMES,
    READERS,
    SCHEMA_V1,
    Artifact,
    Attempt,
    Builder,
    LedgerReference,
    Manifest,
    Resource,
)
from provenance.errors import ManifestError
from provenance.formats.canonical_json import canonical_bytes, parse

GOLDEN = Path(__file__).parent / "golden"

words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
names = words.filter(lambda name: name not in (".", "..") and not {"/", "\0"}.intersection(name))
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
objects = st.dictionaries(words, json_values, max_size=3)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
years = datetime(1970, 1, 1), datetime(2100, 1, 1)
times = st.datetimes(*years).map(lambda when: when.isoformat(timespec="microseconds") + "Z")
outcomes = st.sampled_from(OUTCOMES)
unavailable = st.builds(lambda reason: {"unavailable": reason}, words)
resources = st.builds(
    Resource,
    name=words,
    uri=st.none() | words,
    digest=st.none() | digests.map(lambda digest: {"sha256": digest}) | unavailable,
    media_type=st.none() | words,
    annotations=st.none() | objects,
)
manifests = st.builds(
    Manifest,
    build_type=words,
    external_parameters=objects,
    internal_parameters=objects,
    dependencies=st.lists(resources, max_size=3).map(tuple),
    builder=st.builds(Builder, words, st.dictionaries(words, words, max_size=2)),
    invocation_id=names,
    started_on=times,
    finished_on=times,
    byproducts=st.lists(resources, max_size=2).map(tuple),
    outcome=outcomes,
    exit_code=st.none() | st.integers(-255, 255) | unavailable,
    attempts=st.lists(st.builds(Attempt, times, st.none() | times, outcomes), max_size=3).map(tuple),
    machine=json_values,
    ledger=st.builds(LedgerReference, st.integers(1, 10**6), digests),
    artifacts=st.lists(st.builds(Artifact, words, st.integers(0, 2**50), digests), max_size=3).map(tuple),
)


@given(manifests)
def test_a_manifest_comes_back_from_its_predicate_and_from_its_bytes(manifest: Manifest) -> None:
    predicate = manifest.to_predicate()
    assert Manifest.from_predicate(predicate) == manifest
    assert Manifest.from_predicate(parse(canonical_bytes(predicate)), SCHEMA_V1) == manifest


def golden_predicate() -> dict[str, Any]:
    from provenance.attestation.dsse import read_envelope

    _, payload, _ = read_envelope((GOLDEN / "v1.manifest.dsse.json").read_bytes())
    predicate: dict[str, Any] = parse(payload)["predicate"]
    return predicate


def members(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all members of all objects whose members the schema fixes."""
    free = ("externalParameters", "internalParameters", "machine", "annotations", "digest", "version", "exitCode")
    found = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found += [(*path, key)] if isinstance(value, dict) else []
        if isinstance(item, (dict, list)) and (key not in free or path[-1:] == ("ledger",)):
            found += members(item, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def written(path: tuple[Any, ...]) -> str:
    return "$.predicate" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


OPTIONAL = {"uri", "digest", "mediaType", "annotations"}


def test_every_missing_member_is_named_by_its_path() -> None:
    paths = [
        path for path in members(golden_predicate()) if path[-1] not in OPTIONAL or path[-2:] == ("ledger", "digest")
    ]
    assert len(paths) > 30
    for path in paths:
        predicate = golden_predicate()
        del at(predicate, path[:-1])[path[-1]]
        with pytest.raises(ManifestError) as caught:
            Manifest.from_predicate(predicate)
        assert caught.value.message == written(path) + ": missing"


def test_every_unknown_member_is_named_by_its_path() -> None:
    places = {path[:-1] for path in members(golden_predicate())}
    assert len(places) > 10
    for path in places:
        predicate = golden_predicate()
        at(predicate, path)["surprise"] = 1
        with pytest.raises(ManifestError) as caught:
            Manifest.from_predicate(predicate)
        assert caught.value.message == written((*path, "surprise")) + ": unknown"


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("runDetails.outcome", "done", "expected one of completed, interrupted, failed, killed"),
        ("runDetails.exitCode", "0", "a whole number"),
        ("runDetails.exitCode", True, "a whole number"),
        ("runDetails.exitCode", {"unavailable": ""}, "not empty"),
        ("runDetails.metadata.startedOn", "2026-11-21 10:00:00", "a time in UTC"),
        ("runDetails.metadata.finishedOn", "2026-11-21T10:00:00+01:00", "a time in UTC"),
        ("runDetails.metadata.finishedOn", "2026-02-30T10:00:00Z", "a time in UTC"),
        ("runDetails.metadata.invocationId", "", "not empty"),
        ("runDetails.ledger.digest", "ab", "64 lower-case hexadecimal"),
        ("runDetails.ledger.sequence", 0, "at least 1"),
        ("runDetails.artifacts.0.sha256", "A" * 64, "64 lower-case hexadecimal"),
        ("runDetails.artifacts.0.size", -1, "at least 0"),
        ("runDetails.artifacts", {}, "an array"),
        ("runDetails.attempts.0.outcome", None, "one of"),
        ("buildDefinition.externalParameters", [], "an object"),
        ("buildDefinition.resolvedDependencies.0.digest", {"sha256": "12"}, "64 lower-case hexadecimal"),
        ("buildDefinition.resolvedDependencies.0.digest", {"sha256": 12}, "a string"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(path: str, value: object, what: str) -> None:
    keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    predicate = golden_predicate()
    Manifest.from_predicate(copy.deepcopy(predicate))  # the control
    at(predicate, keys[:-1])[keys[-1]] = value
    with pytest.raises(ManifestError) as caught:
        Manifest.from_predicate(predicate)
    assert caught.value.message.startswith(written(keys))
    assert what in caught.value.message


def test_an_unknown_schema_is_named_with_the_known_ones() -> None:
    with pytest.raises(ManifestError, match=r"'urn:ndrepro:run:v99' is unknown; known: urn:ndrepro:run:v1"):
        Manifest.from_predicate(golden_predicate(), "urn:ndrepro:run:v99")


@pytest.mark.parametrize("schema", READERS)
def test_the_golden_manifest_of_every_schema_reads_as_it_did(schema: str) -> None:
    version = schema.rpartition(":")[2]
    expected = json.loads((GOLDEN / f"{version}.predicate.json").read_text(encoding="utf-8"))
    assert golden_predicate() == expected
    manifest = Manifest.from_predicate(golden_predicate(), schema)
    assert manifest.to_predicate() == expected
    assert manifest.outcome == "interrupted"
    assert [attempt.finished_on for attempt in manifest.attempts] == [None, "2026-11-21T10:20:00Z"]
    assert manifest.dependencies[1].digest == {"unavailable": "the distribution has no RECORD"}
    assert manifest.machine["gpu"] == {"unavailable": "no NVIDIA driver"}
