"""A manifest in words: one row a subject, and nothing in it that would make a dirty or changed run look clean.

What a manifest says it could not find out (``{"unavailable": reason}``) is said here too, with its reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ndrepro.cli.display import words
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.experiment.settings import changed_settings, shown_value
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.text.plurals import plural
from provenance.attestation.manifest import DATASET, Artifact, Manifest, Resource
from provenance.attestation.packages import warnings
from provenance.capture.source_patch import PATCH
from provenance.capture.unavailable import at, is_missing
from provenance.comparison.kept_source import differs
from provenance.errors import ManifestError

Row = tuple[str, str]
# what a reader must not overlook; a terminal shows these words in another colour
ALARMS = (
    "WITH UNCOMMITTED CHANGES",
    "NO COMMIT",
    "MAY DIFFER FROM IT",
    "NOT KEPT",
    "NOT KNOWN",
    "NOT the official files",
    "FLAGS CHANGED UNDER WAY",
    "EDITED AFTER INSTALLATION",
    "NOT COMPARED",
    "NO RECORD",
    "DISAGREE",
    "LEFTOVER",
)
_LIBRARIES = ("torchvision", "numpy", "pillow")


def experiment_rows(experiment: Experiment) -> list[Row]:
    """Every setting that the name does not tell, and the seeds."""
    changed = changed_settings(experiment)
    settings = ", ".join(
        f"{key}={shown_value(key, value)}" for key, value in changed.items() if not key.startswith("seed")
    )
    seeds = {stream: experiment.seed_of(stream) for stream in STREAMS}
    own = ", ".join(f"{stream} {seed}" for stream, seed in seeds.items() if seed != experiment.seed)
    return [
        ("settings", settings or "the defaults"),
        ("seeds", f"{experiment.seed} for every stream" if not own else f"{experiment.seed}, but for {own}"),
    ]


def manifest_rows(manifest: Manifest) -> list[Row]:
    """Everything else that the manifest says, shortest first where it matters most."""
    record, machine = TrainingRecord.of(manifest), manifest.machine
    data = next((each.resource for each in record.datasets), Resource(f"{DATASET}?"))
    return [
        ("source", told(source, record.source, [artifact.path for artifact in manifest.artifacts])),
        ("data", told(dataset, data)),
        ("python", told(_python, record)),
        *([("packages", told("; ".join, flagged))] if (flagged := warnings(manifest)) else []),
        ("machine", told(machine_row, machine)),
        ("gpu", told(gpu_row, machine, record.libraries)),
        ("computed", told(_computed, manifest.internal_parameters)),
        ("determinism", told(determinism, record.determinism)),
        ("network", told(_network, record.census)),
        ("time", told(time_row, record)),
        ("artifacts", artifacts(manifest.artifacts)),
    ]


def told(row: Callable[..., str], *recorded: Any) -> str:
    """A row's words. A manifest may be anybody's, and what has another form than here hides no other row."""
    try:
        return row(*recorded)
    except (AttributeError, KeyError, TypeError, ValueError, ManifestError):
        return "NOT KNOWN (recorded in another form than this version knows)"


def word(value: Any) -> str:
    """A recorded value as text; what is missing with its reason."""
    if is_missing(value):
        ((kind, reason),) = value.items()
        return f"none ({reason})" if kind == "none" else f"NOT KNOWN ({reason})"
    return str(value)


def source(resource: Resource, kept: Collection[str] = ()) -> str:
    """The commit and, in capitals, whether the work tree differed from it; the ``kept`` files of the run decide."""
    found = resource.annotations or {}
    commit, dirty = at(found, "commit"), at(found, "dirty")
    name = f"commit {commit[:12]}" if isinstance(commit, str) else f"NO COMMIT: {_why(commit)}"
    evident = differs(found, kept)
    if is_missing(commit) and commit == dirty and not evident:
        return name  # nothing that the files could be compared with
    if dirty is False and not evident:
        return f"{name}, clean"
    if is_missing(dirty) and not evident:
        return f"{name}; MAY DIFFER FROM IT: {word(dirty)}"
    changed, untracked = at(found, "changed", "count"), at(found, "untracked")
    parts = [f"{plural(changed, 'file')} changed"] if isinstance(changed, int) and changed else []
    if PATCH in kept and not changed:  # said of a manifest that does not verify
        parts = ["patched"]
    copied, left_out = at(untracked, "copied"), at(untracked, "left_out")
    if isinstance(copied, list) and isinstance(left_out, list) and copied + left_out:
        summed_up = at(untracked, "left_out_too", "files")
        not_kept = len(left_out) + (summed_up if isinstance(summed_up, int) else 0)
        lost = f", {not_kept:,} of them NOT KEPT" if not_kept else ""
        parts.append(f"{plural(len(copied) + not_kept, 'untracked file')}{lost}")
    omitted = at(found, "patch", "omitted", "count")
    if not is_missing(at(found, "patch", "left_out")):
        parts.append("the patch was NOT KEPT")
    elif isinstance(omitted, int):
        parts.append(f"{words.plural(omitted, 'changed file')} NOT KEPT")
    modules = at(found, "submodules", "changed")
    if isinstance(modules, list) and modules:
        parts.append(f"{words.plural(len(modules), 'submodule')} changed")
    return f"{name} WITH UNCOMMITTED CHANGES" + (f": {', '.join(parts)}" if parts else "")


def _why(missing: Any) -> str:
    """Why a value is missing, without what kind of absence it is."""
    return next(iter(missing.values())) if is_missing(missing) else str(missing)


def dataset(resource: Resource) -> str:
    """What the data were, whether the official files, and their digest."""
    found = resource.annotations or {}
    name = resource.name.removeprefix(DATASET)
    if is_missing(found) or "tree_sha256" not in found:
        return f"{name}: {word(found) if is_missing(found) else 'NOT KNOWN'}"
    by = f" by {word(found['official_by'])}" if "official_by" in found else ""
    official = {True: f"the official files{by}", False: "NOT the official files", None: "no official digest is known"}
    images = f"{word(at(found, 'train_images'))} + {word(at(found, 'test_images'))} images"
    read = f"read as {word(at(found, 'reader'))}; sha256 {str(found['tree_sha256'])[:16]}..."
    left_out = found.get("left_out", {}).get("count", 0)
    lost = f"; {plural(left_out, 'file')} in its folders LEFT OUT" if left_out else ""
    return f"{name}, {images}, {official.get(found.get('canonical'), '?')}; {read}{lost}"


def determinism(found: Any) -> str:
    """The level, then every flag; one that changed under way stands first, in capitals."""
    level, start, end = at(found, "level"), at(found, "start"), at(found, "end")
    if is_missing(start):
        return f"{word(level)}; flags {word(start)}"
    if is_missing(end):
        verdict = f"flags at the end {word(end)}; at the start"
    else:
        changed = [f"{key} {word(start[key])} -> {word(end.get(key))}" for key in start if start[key] != end.get(key)]
        verdict = (
            f"FLAGS CHANGED UNDER WAY: {', '.join(changed)}; at the start" if changed else "the same at start and end"
        )
    return f"{word(level)}; {verdict}: " + ", ".join(f"{key} {word(value)}" for key, value in start.items())


def artifacts(listed: tuple[Artifact, ...]) -> str:
    """Files with their sizes; those in folders summed up by folder."""
    folders: dict[str, list[int]] = defaultdict(list)
    for artifact in listed:
        top, slash, _ = artifact.path.partition("/")
        folders[top + slash].append(artifact.size)
    parts = [
        f"{name} {words.size(sum(sizes))}" + (f" ({plural(len(sizes), 'file')})" if name.endswith("/") else "")
        for name, sizes in folders.items()
    ]
    total = words.size(sum(artifact.size for artifact in listed))
    return f"{plural(len(listed), 'file')}, {total}: {', '.join(parts)}"


def _python(record: TrainingRecord) -> str:
    cell = "of the image" if record.container else record.environment
    interpreter = at(record.manifest.machine, "interpreter", "version")
    parts = [f"Python {word(interpreter)}", f"torch {word(at(record.libraries, 'torch'))}"]
    had = record.distributions
    parts += [f"{name} {had[name].version or 'of no known version'}" for name in _LIBRARIES if name in had]
    return f"{', '.join(parts)}; {plural(len(had), 'distribution')}; environment {cell}"


def machine_row(machine: Any) -> str:
    """Processor, cores, memory, system, container."""
    found = at(machine, "machine")
    if is_missing(found):
        return word(found)
    memory = at(found, "memory_bytes")
    container = at(machine, "container")
    cores = f"{word(at(found, 'cores', 'affinity', 'count'))} of {word(at(found, 'cores', 'logical'))} cores"
    parts = [word(at(found, "cpu", "model_name")), cores]
    parts += [words.size(memory) if isinstance(memory, int) else word(memory), word(at(found, "operating_system"))]
    if "none" not in container:
        digest = at(container, "image", "digest")
        image = digest if isinstance(digest, str) else "image not known"
        parts.append(f"in {word(at(container, 'engine'))} ({image})")
    return ", ".join(parts)


def _computed(inner: Mapping[str, Any]) -> str:
    return f"on {word(at(inner, 'device'))}, {plural(int(at(inner, 'threads')), 'thread')}"


def gpu_row(machine: Any, libraries: Mapping[str, Any]) -> str:
    """GPUs with their multiprocessors, driver, CUDA."""
    gpus, seen = at(machine, "gpus"), at(libraries, "gpus")
    if is_missing(gpus):
        return word(gpus)
    devices = at(gpus, "devices")
    names = ", ".join(word(at(device, "name")) for device in devices) if isinstance(devices, list) else word(devices)
    counts = [str(at(device, "multiprocessors")) for device in seen] if isinstance(seen, list) else []
    sizes = f" ({', '.join(counts)} multiprocessors)" if counts else ""
    cuda = f"CUDA {word(at(libraries, 'cuda'))}, cuDNN {word(at(libraries, 'cudnn'))}"
    return f"{names}{sizes}, driver {word(at(gpus, 'driver'))}, {cuda}"


def _network(census: Mapping[str, Any]) -> str:
    parameters = at(census, "trainable_parameters")
    if is_missing(parameters):
        return word(parameters)
    layers = [
        f"{count} {key.removesuffix('_layers')}" for key, count in census.items() if key.endswith("_layers") and count
    ]
    return f"{parameters:,} parameters; layers: {', '.join(layers)}"


def time_row(record: TrainingRecord) -> str:
    """Start and end, processor time, peak memory."""
    manifest, usage = record.manifest, record.usage
    started = f"{manifest.started_on[:19].replace('T', ' ')} to {manifest.finished_on[:19].replace('T', ' ')} UTC"
    if is_missing(usage):
        return f"{started}; CPU time and memory {word(usage)}"
    cpu = sum(float(usage.get(key, 0.0)) for key in ("user_seconds", "system_seconds"))
    peak = at(usage, "peak_memory_bytes")
    return f"{started}; {cpu:.0f} CPU s; peak memory {words.size(peak) if isinstance(peak, int) else word(peak)}"
