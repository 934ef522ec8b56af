"""Where everything that a manifest says has its place: the groups in which two manifests are compared.

    experiment, seeds   what was asked for
    source, data        commit, patch, untracked files, the code's own digest; every data set's digests
    packages            every installed distribution, by version and by the digest of its RECORD
    libraries           what the numerical libraries say of their own build
    interpreter, flags, variables, threads, machine, gpus, container
    results             outcome, artifacts that are results, byproducts
    circumstances       where and when: paths, command lines, host names, identifiers; they move no number

``document`` lays a manifest out, ``place`` finds the group of one path in it. A path that no rule names belongs to
the group of its section, so nothing is lost; only what a run used of time and memory is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from provenance.attestation.manifest import DATASET, Manifest, Resource
from provenance.capture.unavailable import is_missing
from provenance.comparison.json_leaves import ABSENT
from provenance.comparison.recorded_source import patch_identity, untracked_identities, untracked_not_named

GROUPS = (
    "experiment",
    "seeds",
    "source",
    "data",
    "packages",
    "libraries",
    "interpreter",
    "flags",
    "variables",
    "threads",
    "machine",
    "gpus",
    "container",
    "results",
    "circumstances",
)
# files that tell how a run was made; every other artifact is taken for a result where the caller names none
_ABOUT_THE_RUN = re.compile(r"environment\.json|source\.patch|(?:untracked|submodules|attempts)/.*")
# variables that name places and jobs
_NAMING = (
    "VIRTUAL_ENV|PYTHONPATH|PYTHONPYCACHEPREFIX|PYTHONDONTWRITEBYTECODE|CONDA_\\w+|SLURM_\\w+|LSB_JOBID|PBS_JOBID|"
    "HOME|TMPDIR|MASTER_\\w+|NDREPRO_(?!IMAGE)\\w+|NVIDIA_VISIBLE_DEVICES"
)
# lines of torch's descriptions of its own build that tell how this process uses it, not what was built
_IN_USE = re.compile(
    r"[\s-]*(CPU capability usage|(?:at::|omp_|mkl_)\w+\(\)|std::thread::hardware_concurrency\(\)|\w+_NUM_THREADS)"
    r" *: *(.*)"
)
# path -> group, name in it; the first that matches. No group: the same is said elsewhere.
_RULES = (
    (r"external\.(command|data)", "circumstances", r"\1"),
    (r"external\.(workingFolder|trail|(?:outputs|metrics|data).*)", "circumstances", r"program's \1"),
    (r"external\.asked\.?(.*)", "experiment", r"command's \1"),
    (r"observed\.(flags|threads)(.*?)\.(.+)", r"\1", r"\3 at the first step\2"),
    (r"observed\.seeds(.*?)\.(.+)", "seeds", r"\2\1"),
    (r"observed\.states(.*?)\.(.+)", "seeds", r"state of \2 before the first step\1"),
    (r"observed\.(.+)", "experiment", r"\1"),
    (r"internal\.(ending|streams|observation|metrics|interpreters).*", "circumstances", r"program's \1"),
    (r"external\.experiment\.seeds\..*", "", ""),
    (r"external\.experiment\.seed", "seeds", "seed"),
    (r"external\.seeds\.(.+)", "seeds", r"\1"),
    (r"external\.experiment\.determinism", "", ""),
    (r"external\.experiment\.threads", "", ""),
    (r"external\.experiment\.device", "gpus", "device asked for"),
    (r"external\.(?:experiment\.)?(.+)", "experiment", r"\1"),
    (r"internal\.resumedFromStep", "circumstances", "resumed from step"),
    (r"internal\.threads", "threads", "threads"),
    (r"internal\.device", "gpus", "device"),
    (r"internal\.determinism\.(start|end)\.((?:interop_)?threads)", "threads", r"\2 at \1"),
    (r"internal\.determinism\.(start|end)\.(.+)", "flags", r"\2 at \1"),
    (r"internal\.determinism\.(.+)", "flags", r"\1"),
    (r"internal\.libraries\.gpus(.*)", "gpus", r"libraries\1"),
    (r"internal\.libraries\.in use\.CPU capability usage", "flags", "cpu_capability in use"),
    (r"internal\.libraries\.in use\.std::thread::(hardware_concurrency)\(\)", "machine", r"\1"),
    (r"internal\.libraries\.in use\.at::get_num_(interop_threads)\(\)", "threads", r"\1 in use"),
    (r"internal\.libraries\.in use\.(.+)", "threads", r"\1 in use"),
    (r"internal\.libraries\.(.+)", "libraries", r"\1"),
    (rf"machine\.variables\.recorded\.({_NAMING})", "circumstances", r"variable \1"),
    (rf"internal\.variables\.(\w+)\.recorded\.({_NAMING})", "circumstances", r"variable \2 at \1"),
    (r".*\.variables\.not_recorded|.*\.variables\.\w+\.not_recorded", "circumstances", "variables not recorded"),
    (r"machine\.variables\.recorded\.(\w+_(?:NUM_THREADS|DYNAMIC))", "threads", r"\1"),
    (r"machine\.variables\.(?:recorded\.)?(.+)", "variables", r"\1"),
    (r"internal\.variables\.(\w+)\.(?:recorded\.)?(.+)", "variables", r"\2 at \1"),
    (r"internal\.(.+)", "experiment", r"\1"),
    (r"machine\.interpreter\.(command|executable|prefix|base_prefix|path)", "circumstances", r"interpreter's \1"),
    (r"machine\.interpreter\.(.+)", "interpreter", r"\1"),
    (r"machine\.distributions\.count", "", ""),
    (r"machine\.distributions\.(.+)", "packages", r"\1"),
    (r"machine\.conda\.(.+)\.(\w+)", "packages", r"conda \1: \2"),
    (r"machine\.machine\.hostname", "circumstances", "host name"),
    (r"machine\.machine\.(.+)", "machine", r"\1"),
    (r"machine\.container\.(id|seen_by)", "circumstances", r"container's \1"),
    (r"machine\.container(?:\.(.+))?", "container", r"\1"),
    (r"machine\.gpus\.(devices\[\d+\]\.(?:uuid|pci_bus|clocks_mhz\.\w+|.*\.uuid))", "circumstances", r"gpus' \1"),
    (r"machine\.gpus(?:\.(.+))?", "gpus", r"\1"),
    (r"machine\.(.+)", "machine", r"\1"),
    (r"source\.((?:branch|describe|remotes|root|shallow|excluded).*)", "circumstances", r"source's \1"),
    (r"(source|data|results)\.(.+)", r"\1", r"\2"),
    (r"builder\.(.+)", "circumstances", r"recorder's \1"),
    (r"byproducts\.layer census\.(.+)", "experiment", r"network's \1"),
    (r"byproducts\.clock.*", "", ""),
    (r"byproducts\.(.+)", "results", r"\1"),
)
_ROUTES = tuple((re.compile(pattern, re.DOTALL), group, name) for pattern, group, name in _RULES)


def place(path: str) -> tuple[str, str]:
    """The group of a path of ``document`` and its name there; ("", "") for what is said elsewhere."""
    for pattern, group, name in _ROUTES:
        found = pattern.fullmatch(path)
        if found:
            group = found.expand(group)
            # a whole section that is missing has no name of its own
            return group, found.expand(name) or group
    section = path.partition(".")[0]
    return (section if section in GROUPS else "experiment"), path


def document(manifest: Manifest, results: Collection[str] | None) -> dict[str, Any]:
    """What is compared of a manifest, but for the distributions. ``results``: see
    ``provenance.comparison.manifest_diff``."""
    artifacts = {item.path: item.sha256 for item in manifest.artifacts}
    chosen = result_names(manifest) if results is None else results
    named = {resource.name: resource for resource in manifest.dependencies}
    return {
        "external": _external(manifest.external_parameters),
        "internal": _internal(manifest.internal_parameters),
        "machine": _machine(manifest),
        "source": _source(named.get("source"), named.get("code")),
        "data": _data(manifest.dependencies),
        "builder": dict(manifest.builder.version),
        "byproducts": {item.name: _described(item) for item in manifest.byproducts},
        "results": {
            "outcome": manifest.outcome,
            "exit code": manifest.exit_code,
            **{name: artifacts[name] for name in chosen if name in artifacts},
        },
    }


def _external(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for. Of a run that asks for nothing but a command, the command is what was asked."""
    found = dict(parameters)
    if "command" in found and not found.keys() & {"experiment", "parameters"}:
        words = found.pop("command")
        found["asked"] = (
            {f"word {place}": word for place, word in enumerate(words, 1)} if isinstance(words, list) else words
        )
    return found


def _machine(manifest: Manifest) -> Any:
    """The machine without the files of its packages and of other code, which are compared one by one."""
    if not isinstance(manifest.machine, Mapping):
        return manifest.machine
    return {key: value for key, value in manifest.machine.items() if key not in ("imported_files", "loaded_code")}


def result_names(manifest: Manifest) -> tuple[str, ...]:
    """The artifacts that may be results: all but the recorder's own files."""
    return tuple(item.path for item in manifest.artifacts if not _ABOUT_THE_RUN.fullmatch(item.path))


def _internal(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All but what was used of time and memory; state that stands amid the libraries' versions under a key of its own.

    ``torch.__config__`` reports the instruction set and the threads of this process among the versions of what torch
    was built with: two runs of one build differ in those lines, which is no other build.
    """
    found = {key: value for key, value in parameters.items() if key != "usage"}
    libraries = found.get("libraries")
    if not isinstance(libraries, Mapping) or is_missing(libraries):
        return found
    state: dict[str, str] = {}
    built: dict[str, Any] = {}
    for name, value in libraries.items():
        lines = value.split("\n") if isinstance(value, str) else []
        matches = [_IN_USE.fullmatch(line) for line in lines]
        state.update(match.groups() for match in matches if match)  # type: ignore[misc]  # two groups
        kept = (line for line, match in zip(lines, matches, strict=True) if not match)
        built[name] = "\n".join(kept) if any(matches) else value
    return {**found, "libraries": {**built, **({"in use": state} if state else {})}}


def _source(source: Resource | None, code: Resource | None) -> dict[str, Any]:
    """What is recorded of the code, each piece by what identifies its content."""
    found: dict[str, Any] = {"code": dict(code.digest or {}).get("sha256", ABSENT) if code else ABSENT}
    annotations = (source.annotations or {}) if source else {}
    if is_missing(annotations):
        return {"repository": annotations, **found}
    for key, value in annotations.items():
        if key == "patch":
            found[key] = patch_identity(value)
        elif key == "untracked" and not is_missing(value):
            found.update({f"untracked {path}": digest for path, digest in untracked_identities(value).items()})
            found["untracked, not named"] = untracked_not_named(value).get("listing_sha256", ABSENT)
        elif key not in ("changed", "tree", "code"):  # the patch, the commit and the code's digest say the same
            found[key] = value
    return found


def _data(dependencies: tuple[Resource, ...]) -> dict[str, Any]:
    """Every input that is neither code nor package. A data set that stands alone is compared with another's."""
    inputs = [item for item in dependencies if not re.match(r"(?:source|code|distributions?)(?::|$)", item.name)]
    sets = [item for item in inputs if item.name.startswith(DATASET)]
    found: dict[str, Any] = {item.name: _described(item) for item in inputs if [item] != sets}
    if len(sets) == 1:
        alone = _described(sets[0])
        found["name"] = sets[0].name.removeprefix(DATASET)
        found.update({"files": alone} if is_missing(alone) else alone)
    return found


def _described(resource: Resource) -> dict[str, Any]:
    """A resource's annotations, and its digests where they do not hold them."""
    found = dict(resource.annotations or {})
    digest = dict(resource.digest or {})
    if is_missing(found) or is_missing(digest):
        return found or digest
    return {**found, **{kind: value for kind, value in digest.items() if value not in found.values()}}
