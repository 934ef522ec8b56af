"""Every command's JSON has a schema, which accepts what the command prints and nothing of another form."""

from __future__ import annotations

from collections.abc import Callable

import json_schemas
import jsonschema
import pytest
from docs_site import commands, json_output
from recorded_runs import Answer


def test_every_command_has_a_schema_and_every_schema_a_command() -> None:
    names = {name for name, _ in commands.all_commands(commands.root())}
    assert set(json_output.definitions()) == names | {"error"}
    for name, schema in json_output.definitions().items():
        assert {"json_version"} <= set(schema["required"]) <= set(schema["properties"]), name


@pytest.mark.parametrize("words", ["study list", "study plan first", "env list", "keys list", "list", "settings seed"])
def test_a_wrong_document_is_found(words: str, ndrepro: Callable[..., Answer]) -> None:
    document = {"json_version": 1, **ndrepro(*words.split(), "--json").json}
    name = f"ndrepro {words}".removesuffix(" first").removesuffix(" seed")
    json_schemas.validate(document, name)
    member = next(each for each in document if each != "json_version")
    for wrong in ({**document, member: 3}, {**document, "json_version": 2}):
        with pytest.raises(jsonschema.ValidationError):
            json_schemas.validate(wrong, name)


def test_what_a_command_of_a_test_prints_is_validated(
    ndrepro: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ndrepro.cli.display import study_words

    monkeypatch.setattr(study_words, "study_document", lambda path, study: "no object")
    answer = ndrepro("study", "list", "--json")
    assert answer.code == 3 and "is not of type" in answer.err
