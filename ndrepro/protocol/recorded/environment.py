"""What ``environment.json`` may hold: the account that a process gives of what it runs in, at its start and its end.

``CAPTURED`` is what ``provenance.capture.environment`` returns; ``TRAINING`` is the file of a training process, with
torch's flags and libraries, ``SCRIPT`` that of a script; that of a recorded program is ``CAPTURED`` alone. Any probe's
answer may be the marker of what is missing; processors and systems differ in what they say.
"""

from __future__ import annotations

from ndrepro.protocol.recorded.shapes import (
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
from provenance.capture.unavailable import MOST_BYTES, MOST_WATTS

_TEXTS, _COUNT = array(text), whole()
_BYTES = captured(number(0, MOST_BYTES, "bytes"))
_SCALAR = one_of(truth, number(-(2.0**63), 2.0**64), text, nothing)


def _captured(names: str, shape: Shape) -> dict[str, Shape]:
    return each(names, captured(shape))


_INTERPRETER = record(
    {},
    {
        **_captured("implementation version build executable prefix base_prefix", text),
        **_captured("path warnings command", _TEXTS),
        # CPython without its global lock says nothing of it unless it is asked for
        "flags": table(one_of(truth, number(-(2.0**63), 2.0**63), nothing)),
        "options": table(text),
        "hash_seed": captured(_COUNT),
        "encoding": record({"file_system": text, "default": text}),
    },
)
# what an installer, or conda, says of where a package is from is its own (PEP 610)
_SOURCE = record({}, {"commit": captured(text), "dirty": captured(truth), "differing": _TEXTS, "count": _COUNT})
_DISTRIBUTION = record(
    {"name": text, "version": captured(text), "record_sha256": captured(sha256)},
    {"content_sha256": captured(sha256), "origin": anything, "source": captured(_SOURCE), "imported_from": text},
)
_METADATA = {"name": text, "version": captured(text), "folder": text, "metadata": text}
_DISTRIBUTIONS = record(
    {},
    {
        "count": _COUNT,
        "installed": array(_DISTRIBUTION),
        "shadowed": array(record(_METADATA)),
        "unreadable": array(record({"folder": text, "reason": text})),
        "leftovers": array(record({**_METADATA, "reason": text})),
        "disagreements": array(record({"name": text, "reason": text})),
    },
)
_NAMED = record({"count": _COUNT, "first": _TEXTS})
_EDITED = record({"distribution": text, "recorded": captured(sha256), "actual": captured(sha256)})
IMPORTED_FILES = captured(
    record(
        {},
        {
            "imported": _TEXTS,
            "checked": _COUNT,
            "edited": table(_EDITED),
            "unlisted": _NAMED,
            "without_digest": _NAMED,
            "witness": captured(record({"checked": _COUNT})),
        },
    )
)
LOADED_CODE = captured(
    record(
        {},
        {
            "count": _COUNT,
            "foreign": table(record({"kind": text, "sha256": captured(sha256)})),
            "system": table(captured(sha256)),
            "compiled": _COUNT,
            "unrecorded": _COUNT,
        },
    )
)
_CPU = record(
    {},
    {
        **_captured("model_name vendor family model stepping microcode", text),
        "flags": captured(_TEXTS),
        "kinds_of_core": captured(_COUNT),
    },
)
_LIMITS = record(
    {},
    {
        "cgroup_version": captured(_COUNT),
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
    {}, {"index": _COUNT, **_captured("name uuid", text), **_captured("memory_bytes multiprocessors", _COUNT)}
)
_GPU = record(
    {"index": _COUNT},
    {
        **_captured("name uuid pci_bus compute_capability vbios", text),
        **_captured("memory_bytes multiprocessors cuda_cores compute_mode", _COUNT),
        **{"ecc": _STATE, "mig": _STATE, "mig_devices": captured(array(_SLICE)), "persistence": captured(truth)},
        "power_limit_watts": captured(number(0, MOST_WATTS, "W")),
        "clocks_mhz": record({}, _captured("sm memory sm_highest memory_highest", _COUNT)),
        "unavailable": text,
    },
)
_GPUS = record({}, {**_captured("driver cuda_driver nvml", text), "devices": captured(array(captured(_GPU)))})
_CONDA = captured(record({}, each("version build channel subdir sha256 md5", text)))
_CONTAINER = record(
    {},
    {
        "engine": captured(text),
        "seen_by": _TEXTS,
        "id": captured(text),
        "image": captured(record({}, _captured("name digest id", text))),
    },
)
VARIABLES = captured(record({"recorded": table(text), "not_recorded": _COUNT}))
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
_SECONDS = number(0, 3.2e9, "seconds")  # a century
USAGE = captured(
    record(
        {},
        {
            **each("wall_seconds user_seconds system_seconds", _SECONDS),
            **each("children_user_seconds children_system_seconds", _SECONDS),
            **each("peak_memory_bytes children_peak_memory_bytes", _BYTES),
            **each("minor_page_faults major_page_faults", _COUNT),
            **each("children_minor_page_faults children_major_page_faults", _COUNT),
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
_TORCH_GPU = record({"name": text, "multiprocessors": _COUNT, "compute_capability": text, "memory_bytes": _COUNT})
_LIBRARIES = captured(
    record(
        {},
        {
            **_captured("torch torch_git cuda build parallel", one_of(text, nothing)),
            "cudnn": captured(_COUNT),
            "gpus": captured(array(_TORCH_GPU)),
        },
    )
)
_SEAL = captured(record({}, {"environment": CAPTURED, "flags": _FLAGS, "libraries": _LIBRARIES, "usage": USAGE}))
_RANK = record(
    {"rank": _COUNT, "local_rank": _COUNT, "hostname": text, "pid": _COUNT, "device": text},
    {"slurm_node": text, "gpu": captured(record({"name": text, "multiprocessors": _COUNT, "uuid": captured(text)}))},
)
TRAINING = record(
    {}, {"start": _SEAL, "end": _SEAL, "processes": captured(record({"backend": text, "ranks": array(_RANK)}))}
)
SCRIPT = record({}, {"start": CAPTURED, "end": CAPTURED})
