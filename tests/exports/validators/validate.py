"""Runs in an environment of one validator and asks it about exports: ``python validate.py KIND CASES``.

    crate FOLDER    prov | slsa | croissant | citation FILE    model SIDECAR KEY MODEL    mlflow STORE RUN_ID

``CASES`` is a JSON list with the arguments of each case. Printed is a JSON list with one object a case: whether the
validator accepts it, why not, and what it read back. Nothing of this project is imported: the validator alone is asked.
"""

import contextlib
import json
import sys
import warnings
from pathlib import Path


def crate(folder):
    """roc-validator: every requirement of Process Run Crate and of RO-Crate 1.1."""
    from rocrate_validator import services
    from rocrate_validator.models import Severity

    settings = services.ValidationSettings(
        rocrate_uri=folder, profile_identifier="process-run-crate", requirement_severity=Severity.REQUIRED
    )
    _answer_without_network()
    found = services.validate(settings).get_issues()
    _expect(not found, [f"{issue.check.identifier} {issue.message}" for issue in found])


def _answer_without_network():
    """Serve RO-Crate's context from the package rocrate, which has it, and nothing else.

    It ships the terms of RO-Crate 1.3, which has those of 1.1 too.
    """
    from importlib.resources import files

    import requests
    from rocrate_validator.utils.http import HttpRequester

    class Local(requests.adapters.BaseAdapter):
        def send(self, request, **options):
            if request.url != "https://w3id.org/ro/crate/1.1/context":
                raise requests.ConnectionError(f"{request.url}: no network in this test")
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer._content = files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
            answer.headers["Content-Type"] = "application/ld+json"
            return answer

        def close(self):
            pass

    session = HttpRequester().session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, Local())


def prov(file):
    """prov: what it reads, as PROV-JSON; what it warns of is refused, since it leaves that out."""
    from prov.model import ProvDocument

    warnings.simplefilter("error")
    return json.loads(ProvDocument.deserialize(file, format="json").serialize(format="json"))


def slsa(file):
    """in-toto-attestation: the statement, each resource, and the predicate as SLSA's own message, no field unknown."""
    from google.protobuf.json_format import Parse, ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    text = Path(file).read_text(encoding="utf-8")
    Statement.copy_from_pb(Parse(text, StatementMessage())).validate()
    document = json.loads(text)
    _expect(document["predicateType"] == "https://slsa.dev/provenance/v1", document["predicateType"])
    provenance = ParseDict(document["predicate"], Provenance())
    definition, details = provenance.build_definition, provenance.run_details
    for descriptor in (*definition.resolved_dependencies, *details.byproducts):
        ResourceDescriptor.copy_from_pb(descriptor).validate()
    # what SLSA requires, and protobuf does not
    required = (definition.build_type, definition.external_parameters.fields, details.builder.id)
    _expect(all(required), "a field that SLSA requires is missing")


def croissant(file):
    """mlcroissant: the description has no error."""
    import logging

    import mlcroissant

    logging.disable()
    found = mlcroissant.Dataset(jsonld=file).metadata.ctx.issues
    _expect(not found.errors, sorted(found.errors))


def model(sidecar, key, file):
    """model-signing: the sidecar is the key's, and the model is the one that was signed."""
    from model_signing import verifying

    verifying.Config().use_elliptic_key_verifier(public_key=Path(key)).verify(Path(file), Path(sidecar))


def mlflow(store, run):
    """MLflow's client: the run as it is read back, and its files, downloaded."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    found = client.get_run(run)
    history = {name: [(m.step, m.value) for m in client.get_metric_history(run, name)] for name in found.data.metrics}
    folders, files = [""], []
    while folders:
        for each in client.list_artifacts(run, folders.pop() or None):
            (folders if each.is_dir else files).append(each.path)
    read = {"params": found.data.params, "tags": found.data.tags, "metrics": history, "files": sorted(files)}
    info = found.info
    read |= {"status": info.status, "start": info.start_time, "end": info.end_time, "name": info.run_name}
    return {**read, "folder": client.download_artifacts(run, "")}


def tensorboard(folder):
    """TensorBoard's own reader: step and value of each scalar, and when the first was written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    _expect(scalars, f"{folder}: no scalars")
    moment = min(each.wall_time for found in scalars.values() for each in found)
    return {"scalars": {tag: [(e.step, e.value) for e in found] for tag, found in scalars.items()}, "moment": moment}


def citation(file):
    """cffconvert: the file is valid for its own schema."""
    from cffconvert import Citation

    Citation(Path(file).read_text(encoding="utf-8")).validate()


def _expect(holds, problem):
    if not holds:
        raise ValueError(problem)


def asked(kind, arguments):
    """One case: whether it was accepted, why not, what was read."""
    try:
        return {"accepted": True, "problem": "", "read": globals()[kind](*arguments)}
    except Exception as error:
        return {"accepted": False, "problem": f"{type(error).__name__}: {error}", "read": None}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the validators' own libraries
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what they print is none
        found = [asked(sys.argv[1], case) for case in json.loads(sys.argv[2])]
    json.dump(found, answers)
