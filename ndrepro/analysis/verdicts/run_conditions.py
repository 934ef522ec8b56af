"""Whether two runs computed under the same conditions, so that a determinism level promises them the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.recorded.start_and_end import changed_otherwise
from ndrepro.protocol.recorded.variables import moves_numbers, of_training_not_given
from ndrepro.protocol.training_record import RecordedDistribution, TrainingRecord
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.first_difference import first_different_place
from ndrepro.text.plurals import all_of, bounded, first_of, in_room
from provenance.attestation.manifest import Manifest
from provenance.capture.unavailable import at, mapping, text

CONDITIONS, VARIABLES, ASSERTED = "conditions", "variables", "machine, times, energy and log"
# what else a training run's signer alone says
ASSERTED_OF_TRAINING = (
    "the command, Python, operating system and container, branch, tag, remotes and other descriptions of the source, "
    "earlier attempts, the run that it says it repeats or continues, threads between operators, which modules were "
    "imported, the system's libraries, use of memory, features of the processor, what an installer or conda says of "
    "packages, the paths of runs, code and caches among the variables, where processes met, which files beside the "
    "code were not copied, and what torch says of its parallel backend"
)
# and a program's or script's
ASSERTED_OF_PROGRAMS = (
    "declared seeds and globs, remotes and other descriptions of the source, earlier attempts, a container image, the "
    "size of data, use of memory, what an installer or conda says of packages, the list of processes and their number, "
    "what standard streams were, and why something was not recorded"
)
# levels at which equal conditions promise equal bits
_PROMISING = ("deterministic", "canonical")
# what the trainer computes, and reads images, with
_COMPUTING = frozenset(
    [
        "torch",
        "torchvision",
        "numpy",
        "triton",
        "mkl",
        "intel-openmp",
        "tbb",
        "pillow",
        "scipy",
        "scikit-learn",
        "pyarrow",
    ]
)
# and what programs compute with
_COMPUTING_OF_PROGRAMS = _COMPUTING | {
    *(
        "torchaudio",
        "jax",
        "jaxlib",
        "tensorflow",
        "keras",
        "transformers",
        "timm",
        "accelerate",
        "lightning",
        "diffusers",
    ),
    *("pytorch-lightning", "xgboost", "lightgbm", "pandas", "polars", "numba", "opencv-python", "statsmodels"),
}
_COMPUTING_PREFIXES = ("nvidia-", "cuda-", "pytorch-triton")
# which adds up what several GPUs computed
_NCCL = "nvidia-nccl-"
# of libraries: compared by name, or asserted
_NO_CONDITION = ("torch", "parallel")
_SHOWN = 60
# of ``unequal_conditions``, what the claim on conditions has nowhere else
_NAMED_BY_THEIR_WORDS = ("cpu: ", "instructions: ", "packages: ")


def promises_bits(manifest: Manifest) -> bool:
    """Whether a run's determinism level promises equal bits under equal conditions."""
    return TrainingRecord.of(manifest).determinism_level in _PROMISING


def unequal_conditions(first: Manifest, second: Manifest) -> tuple[str, ...]:
    """Why two runs are not promised equal bits, in words: each condition that differs, or was not recorded.

    () where both ran at a level that promises them, with the same processor, GPUs, threads and libraries. Libraries
    are those that compute and decode; of a network of the user's own, which may import any, all of them.
    """
    one, two = _conditions(first), _conditions(second)
    if one is None or two is None:
        return ("a level that promises no equal bits, or a processor that was not recorded",)
    unequal = [f"{name}: {difference_in_words(one[name], two[name])}" for name in one if one[name] != two[name]]
    before, after = (_computing(TrainingRecord.of(manifest)) for manifest in (first, second))
    packages = [
        name
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or not before[name].same_files(after[name])
    ]
    variables = [name for name, _ in _unequal_variables(first, second) if name not in INSTRUCTION_LIMITS]
    found = {"packages": packages, "variables": variables}
    return (*unequal, *(f"{what}: {first_of(names, 3)}" for what, names in found.items() if names))


def difference_in_words(then: Any, now: Any) -> str:
    """The first members that differ, of what may be nested."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        unequal = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
        return first_of([f"{name} {difference_in_words(then.get(name), now.get(name))}" for name in unequal], 2)
    if isinstance(then, list) and isinstance(now, list):
        unequal = [f"{'-' if each in then else '+'}{each}" for each in [*then, *now] if (each in then) != (each in now)]
        return first_of(unequal, 3) if unequal else "in another order or number"
    before, after = str(then), str(now)
    start = max(0, first_different_place(before, after) - _SHOWN // 2)  # of long ones the part where they differ
    return f"{before[start : start + _SHOWN]} then, {after[start : start + _SHOWN]} now"


def _computing(record: TrainingRecord) -> dict[str, RecordedDistribution]:
    own = is_own_network(record.experiment.arch)
    return {
        name: found
        for name, found in record.distributions.items()
        if own or name in _COMPUTING or name.startswith(_COMPUTING_PREFIXES)
    }


def _conditions(manifest: Manifest) -> dict[str, Any] | None:
    record = TrainingRecord.of(manifest)
    cpu = at(manifest.machine, "machine", "cpu")
    if not promises_bits(manifest) or not isinstance(cpu, Mapping) or "model_name" not in cpu:
        return None
    return {
        "cpu": {name: cpu.get(name) for name in ("vendor", "model_name", "family", "model", "stepping")},
        "instructions": sorted(set(map(str, flags))) if isinstance(flags := cpu.get("flags"), list) else flags,
        "gpus": at(manifest.machine, "gpus") if record.device.startswith("cuda") else None,
        "level": record.determinism_level,
        "flags": _moving(record.determinism.get("start")),
        "device": record.device,
        "torch": record.libraries.get("build"),
        "limits": {name: manifest.variables.get(name) for name in INSTRUCTION_LIMITS},
    }


def _moving(flags: Any) -> Any:
    """The flags that move numbers: threads between operators run whole operators, in the order of the program."""
    return {name: flags[name] for name in flags if name != "interop_threads"} if isinstance(flags, Mapping) else flags


def conditions_claim(then: Manifest, again: Manifest) -> ClaimCheck:
    """The claim on the conditions of a run and its repetition, by their manifests: checked where they are the same.

    The environment's name is none of them, but results are shown under it. What is named here is all that lets equal
    bits be no longer promised: it would else be a way to have other results judged within tolerances.
    """
    same = "device, GPUs, processor, torch, its flags and the known variables that move numbers are those recorded"
    names = [TrainingRecord.of(manifest).environment for manifest in (then, again)]
    named = [] if names[0] == names[1] else [f"environment: {names[0]} then, {names[1]} now"]
    if not promises_bits(then):
        same += f"; its level, {TrainingRecord.of(then).determinism_level}, promises no equal bits"
    more = [line for line in unequal_conditions(then, again) if line.startswith(_NAMED_BY_THEIR_WORDS)]
    return _conditions_claim([*named, *_differences(then, again), *more], same)


def variables_claim(names: Sequence[str], more: Sequence[str] = ()) -> tuple[ClaimCheck, ...]:
    """The claim that names recorded variables that a repetition does not get as they were; () for none.

    ``more``: what else it lacks of their values, in words.
    """
    words = [*([f"of then, not so now: {all_of(names)}"] if names else []), *more]
    return (claim(VARIABLES, None, in_room(words)),) if words else ()


def training_variables_claim(then: Manifest, again: Manifest) -> tuple[ClaimCheck, ...]:
    """The same of a training run, by the manifests of it and its repetition, which may have others: code of its
    author's may read any."""
    lost = of_training_not_given(then.variables, again.variables)
    more = of_training_not_given(again.variables, then.variables)
    alone = [name for name in more if name not in then.variables]
    return variables_claim(lost, [f"of now alone: {all_of(alone)}"] if alone else ())


def distributions_claim(then: Manifest, again: Manifest) -> tuple[ClaimCheck, ...]:
    """The claim that names recorded distributions that a repetition found otherwise, or not at all: its sandbox shows
    no folder that a ``.pth`` file or an editable installation leads to, and code of its author's may fall back.
    """
    before, after = (TrainingRecord.of(manifest).distributions for manifest in (then, again))
    names = [name for name in before if name not in after or not before[name].same_files(after[name])]
    words = f"of then, in the repetition's own environment not as recorded: {all_of(names)}"
    return (claim("distributions", None, bounded(words)),) if names else ()


def changes_claim(then: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[ClaimCheck, ...]:
    """The claim on what changed while a training run lasted, by ``environment.json`` of it and its repetition."""
    names = changed_otherwise(then, again)
    words = f"at its end otherwise than at its start, and not so in the repetition: {all_of(names)}"
    return (claim("changes while it ran", None, bounded(words)),) if names else ()


def program_conditions_claim(then: Manifest, again: Manifest, packages: Mapping[str, str]) -> ClaimCheck:
    """The same of a program, whose packages, cores and C library are conditions, too: under the same it repeats its
    bits, unless what it uses does not. What an author claims otherwise, to be judged within tolerances, is named.

    ``packages`` says of Python and each distribution that differs how it does, by name.
    """
    same = "GPUs, processor, cores, C library, Python, packages that compute and the known variables that move numbers"
    lines = [*_differences(then, again), *_differences_of_programs(then, again)]
    lines += [line for name, line in packages.items() if _is_computing(name)]
    others = "paths, process numbers, times of the files of the code and what of /etc is shown are the sandbox's own"
    return _conditions_claim(lines, f"{same} are those recorded; {others}")


def _is_computing(name: str) -> bool:
    """Whether programs compute with Python or the distribution of this name."""
    return name == "python" or name in _COMPUTING_OF_PROGRAMS or name.startswith(_COMPUTING_PREFIXES)


def _conditions_claim(lines: Iterable[str], same: str) -> ClaimCheck:
    found = "; ".join(lines)
    return claim(CONDITIONS, None if found else True, bounded(found) or same)


def _differences_of_programs(then: Manifest, again: Manifest) -> Iterator[str]:
    places = {"cores": ("cores", "affinity", "count"), "C library": ("libc",)}
    for name, place in places.items():
        before, after = (at(manifest.machine, "machine", *place) for manifest in (then, again))
        if before != after:
            yield f"{name}: {before} then, {after} now"


def asserted_claim(more: str = "") -> ClaimCheck:
    """The claim on what no repetition can show; ``more`` names what is asserted beside what its name says."""
    return claim(ASSERTED, None, f"no repetition shows them{more and f', nor {more}'}: asserted by the signer")


def _differences(then: Manifest, again: Manifest) -> Iterator[str]:
    facts = _facts(then), _facts(again)
    for name in facts[0] | facts[1]:
        before, after = (found.get(name) for found in facts)
        if before != after:
            yield f"{name}: {before or 'not recorded'} then, {after or 'not recorded'} now"
    settings = _settings(then), _settings(again)
    for name in sorted(settings[0].keys() | settings[1].keys()):
        before, after = (found.get(name, "not recorded") for found in settings)
        if before != after or type(before) is not type(after):
            yield f"{name}: {difference_in_words(before, after)}"
    yield from (f"{name}: {words}" for name, words in _unequal_variables(then, again))


def _unequal_variables(then: Manifest, again: Manifest) -> Iterator[tuple[str, str]]:
    variables = [{name: v for name, v in m.variables.items() if moves_numbers(name)} for m in (then, again)]
    for name in sorted(variables[0].keys() | variables[1].keys()):
        before, after = (found.get(name, "not set") for found in variables)
        if before != after:
            yield name, f"{before} then, {after} now"


def _settings(manifest: Manifest) -> dict[str, Any]:
    """Every flag that moves numbers, at the start and at the end, and of which build torch is."""
    record = TrainingRecord.of(manifest)
    moments = {moment: mapping(_moving(record.determinism.get(moment))) for moment in ("start", "end")}
    flags = {f"{name} at the {moment}": value for moment, found in moments.items() for name, value in found.items()}
    build = {f"torch: {name}": value for name, value in record.libraries.items() if name not in _NO_CONDITION}
    return {**flags, **build}


def _facts(manifest: Manifest) -> dict[str, str]:
    """Device, GPUs, processor, torch, and NCCL where processes exchanged sums by it, as words; "" for none recorded."""
    record = TrainingRecord.of(manifest)
    devices = at(manifest.machine, "gpus", "devices")
    gpus = [str(at(each, "name")) for each in devices] if isinstance(devices, list) else []
    ranks = at(manifest.internal_parameters, "processes", "ranks")
    of_ranks = [text(at(each, "gpu", "name")) or "" for each in ranks] if isinstance(ranks, list) else []
    together = at(manifest.internal_parameters, "processes", "backend") == "nccl"
    nccl = [f"{name} {each.version}" for name, each in record.distributions.items() if name.startswith(_NCCL)]
    return {
        "device": record.device,
        "GPUs": ", ".join(gpus),
        "GPUs of processes": ", ".join(filter(None, of_ranks)),
        "processor": text(at(manifest.machine, "machine", "cpu", "model_name")) or "",
        "torch": text(record.libraries.get("torch")) or "",
        **({"NCCL": ", ".join(sorted(nccl)) or "torch's own"} if together else {}),
    }
