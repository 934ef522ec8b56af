"""What ``environment.json`` may hold: the account that a process gives of what it runs in, at its start and its end.

``CAPTURED`` is what ``provenance.capture.environment`` returns; ``TRAINING`` is the file of a training process, with
torch's flags and libraries, ``SCRIPT`` that of a script; that of a recorded program is ``CAPTURED`` alone. Any probe's
answer may be the marker of what is missing; processors and systems differ in what they say.
"""

from __future__ import annotations

from ndrepro.protocol.program_record import PLACES
from ndrepro.protocol.recorded.shapes import (
    COUNT,
    SECONDS,
    TEXTS,
    Shape,
    anything,
    array,
    captured,
    each,
    nothing,
    number,
    one_of,
    record,
    sha256,
    table,
    text,
    truth,
    whole,
)
from provenance.capture.environment import is_recorded
from provenance.capture.unavailable import MOST_BYTES, MOST_WATTS
from provenance.formats.strict_json import Field

_BYTES = captured(number(0, MOST_BYTES, "bytes"))
_SCALAR = one_of(truth, number(-(2.0**63), 2.0**64), text, nothing)


def _captured(names: str, shape: Shape) -> dict[str, Shape]:
    return each(names, captured(shape))


_INTERPRETER = record(
    {},
    {
        **_captured("implementation version build executable prefix base_prefix", text),
        **_captured("path warnings command", TEXTS),
        # CPython without its global lock says nothing of it unless it is asked for
        "flags": table(one_of(truth, number(-(2.0**63), 2.0**63), nothing)),
        "options": table(text),
        "hash_seed": captured(COUNT),
        "encoding": record({"file_system": text, "default": text}),
    },
)
# what an installer, or conda, says of where a package is from is its own (PEP 610)
_SOURCE = record({}, {"commit": captured(text), "dirty": captured(truth), "differing": TEXTS, "count": COUNT})
_DISTRIBUTION = record(
    {"name": text, "version": captured(text), "record_sha256": captured(sha256)},
    {"content_sha256": captured(sha256), "origin": anything, "source": captured(_SOURCE), "imported_from": text},
)
_METADATA = {"name": text, "version": captured(text), "folder": text, "metadata": text}
_DISTRIBUTIONS = record(
    {},
    {
        "count": COUNT,
        "installed": array(_DISTRIBUTION),
        "shadowed": array(record(_METADATA)),
        "unreadable": array(record({"folder": text, "reason": text})),
        "leftovers": array(record({**_METADATA, "reason": text})),
        "disagreements": array(record({"name": text, "reason": text})),
    },
)
_NAMED = record({"count": COUNT, "first": TEXTS})
_EDITED = record({"distribution": text, "recorded": captured(sha256), "actual": captured(sha256)})
IMPORTED_FILES = captured(
    record(
        {},
        {
            "imported": TEXTS,
            "checked": COUNT,
            "edited": table(_EDITED),
            "unlisted": _NAMED,
            "without_digest": _NAMED,
            "witness": captured(record({"checked": COUNT})),
        },
    )
)
LOADED_CODE = captured(
    record(
        {},
        {
            "count": COUNT,
            "foreign": table(record({"kind": text, "sha256": captured(sha256)})),
            "system": table(captured(sha256)),
            "compiled": COUNT,
            "unrecorded": COUNT,
        },
    )
)
_CPU = record(
    {},
    {
        **_captured("model_name vendor family model stepping microcode", text),
        "flags": captured(TEXTS),
        "kinds_of_core": captured(COUNT),
    },
)
_LIMITS = record(
    {},
    {
        "cgroup_version": captured(COUNT),
        "cores": captured(number(0, 1e6)),
        "memory_bytes": captured(number()),
        "allowed_cores": captured(text),
    },
)
_MACHINE = record(
    {},
    {
        **_captured("hostname libc operating_system", text),
        "kernel": captured(record({}, _captured("name release version architecture", text))),
        "cpu": captured(_CPU),
        "cores": record(
            {},
            {
                **_captured("logical physical", whole(1)),
                "affinity": captured(record({"count": whole(1), "cores": text})),
            },
        ),
        "memory_bytes": _BYTES,
        "swap_bytes": _BYTES,
        "limits": captured(_LIMITS),
    },
)
_STATE = captured(record({"current": truth, "pending": truth}))
_SLICE = record(
    {}, {"index": COUNT, **_captured("name uuid", text), **_captured("memory_bytes multiprocessors", COUNT)}
)
_GPU = record(
    {"index": COUNT},
    {
        **_captured("name uuid pci_bus compute_capability vbios", text),
        **_captured("memory_bytes multiprocessors cuda_cores compute_mode", COUNT),
        **{"ecc": _STATE, "mig": _STATE, "mig_devices": captured(array(_SLICE)), "persistence": captured(truth)},
        "power_limit_watts": captured(number(0, MOST_WATTS, "W")),
        "clocks_mhz": record({}, _captured("sm memory sm_highest memory_highest", COUNT)),
        "unavailable": text,
    },
)
_GPUS = record({}, {**_captured("driver cuda_driver nvml", text), "devices": captured(array(captured(_GPU)))})
_CONTAINER = record(
    {},
    {
        "engine": captured(text),
        "seen_by": TEXTS,
        "id": captured(text),
        "image": captured(record({}, _captured("name digest id", text))),
    },
)


def _variable(field: Field) -> None:
    """The name of a variable that recorders record; earlier ones had all that begin with PYTHON."""
    name = field.string()
    if not (is_recorded(name) or name in PLACES or name.startswith("PYTHON")):
        field.refuse("a variable that is recorded")


VARIABLES = captured(record({"recorded": table(text, _variable), "not_recorded": COUNT}))
CAPTURED = captured(
    record(
        {},
        {
            "interpreter": captured(_INTERPRETER),
            "distributions": captured(_DISTRIBUTIONS),
            "imported_files": IMPORTED_FILES,
            "loaded_code": LOADED_CODE,
            "conda": captured(table(captured(record({}, each("version build channel subdir sha256 md5", text))))),
            "variables": VARIABLES,
            "machine": captured(_MACHINE),
            "gpus": captured(_GPUS),
            "container": captured(_CONTAINER),
        },
    )
)
USAGE = captured(
    record(
        {},
        {
            **each("wall_seconds user_seconds system_seconds", SECONDS),
            **each("children_user_seconds children_system_seconds", SECONDS),
            **each("peak_memory_bytes children_peak_memory_bytes", _BYTES),
            **each("minor_page_faults major_page_faults", COUNT),
            **each("children_minor_page_faults children_major_page_faults", COUNT),
        },
    )
)
_FLAGS = captured(
    record(
        {},
        each(
            "deterministic_algorithms deterministic_warn_only cudnn_enabled cudnn_deterministic cudnn_benchmark "
            "cudnn_allow_tf32 matmul_allow_tf32 matmul_fp16_reduced_precision matmul_bf16_reduced_precision "
            "float32_matmul_precision mkldnn_enabled default_dtype threads interop_threads cpu_capability "
            "flush_denormal",
            captured(_SCALAR),
        ),
    )
)
_TORCH_GPU = record({"name": text, "multiprocessors": COUNT, "compute_capability": text, "memory_bytes": COUNT})
_LIBRARIES = captured(
    record(
        {},
        {
            **_captured("torch torch_git cuda build parallel", one_of(text, nothing)),
            "cudnn": captured(COUNT),
            "gpus": captured(array(_TORCH_GPU)),
        },
    )
)
_SEAL = captured(record({}, {"environment": CAPTURED, "flags": _FLAGS, "libraries": _LIBRARIES, "usage": USAGE}))
_RANK = record(
    {"rank": COUNT, "local_rank": COUNT, "hostname": text, "pid": COUNT, "device": text},
    {"slurm_node": text, "gpu": captured(record({"name": text, "multiprocessors": COUNT, "uuid": captured(text)}))},
)
TRAINING = record(
    {}, {"start": _SEAL, "end": _SEAL, "processes": captured(record({"backend": text, "ranks": array(_RANK)}))}
)
SCRIPT = record({}, {"start": CAPTURED, "end": CAPTURED})
