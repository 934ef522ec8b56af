"""What a process says of itself at its start and once more at its end, in ``environment.json``.

What no process can change of its machine, Python and torch is the same at both moments, and the end has the members of
the start, else the file is refused (``expect_unchanged``). What its code may change, variables and what is found on its
search path, is compared with what a repetition changes (``changed_otherwise``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ndrepro.protocol.recorded.variables import of_training_not_given
from provenance.capture.unavailable import is_missing, mapping
from provenance.errors import ManifestError

# microcode, limits, clocks and what a driver reports of the rest may change
_FIXED = {
    ("environment", "interpreter"): "implementation version build flags hash_seed encoding",
    ("environment", "machine"): "kernel libc",
    ("environment", "machine", "cpu"): "model_name vendor family model stepping flags kinds_of_core",
    ("environment", "gpus"): "driver cuda_driver nvml",
    ("libraries",): "torch torch_git cuda build cudnn gpus",
}
# whose members of the start are those of the end, too
_WHOLE = ((), ("environment",), ("environment", "machine"), ("environment", "variables"), ("flags",), *_FIXED)
_TAKEN_AWAY = "taken away"
_FIXED_OF_GPUS = "name uuid pci_bus compute_capability vbios memory_bytes multiprocessors cuda_cores"


def expect_unchanged(document: Mapping[str, Any]) -> None:
    """Raises ManifestError where ``environment.json`` has another machine, Python or torch at the end, or less there
    than at the start."""
    start, end = document.get("start"), document.get("end")
    for place in _WHOLE if end else ():
        _expect_members(place, _part(start, place), _part(end, place))
    for place, names in _FIXED.items():
        _expect_same(".".join(place), _part(start, place), _part(end, place), names)
    before, after = (_part(seal, ("environment", "gpus")) for seal in (start, end))
    known = {mapping(device).get("index"): device for device in _devices(before)}
    for device in [] if _is_unknown(before) else _devices(after):
        index = mapping(device).get("index")
        _expect_same(f"GPU {index}", known.get(index), device, _FIXED_OF_GPUS)


def _expect_members(place: tuple[str, ...], before: Any, after: Any) -> None:
    lacking = sorted(mapping(before).keys() - mapping(after).keys())
    lost = [name for name in _FIXED.get(place, "").split() if _is_lost(mapping(before), mapping(after), name)]
    if names := [] if is_missing(before) or is_missing(after) else [*lacking, *lost]:
        where = "".join(f"{name}." for name in place)
        raise ManifestError(f"environment.json: {where}{str(names[0])[:80]}: not there at the end", "ask its author")


def _is_lost(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> bool:
    return name in after and after[name] is None and before.get(name) is not None


def _expect_same(where: str, before: Any, after: Any, names: str) -> None:
    if _is_unknown(before) or is_missing(after):
        return
    for name in names.split():
        then, now = mapping(before).get(name), mapping(after).get(name)
        if now is not None and then != now and not (_is_unknown(then) or is_missing(now)):
            raise ManifestError(
                f"environment.json: {where}.{name} at the end: {str(now)[:80]}, at the start: {str(then)[:80]}",
                "ask its author",
            )


def _part(seal: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        seal = mapping(seal).get(name)
    return seal


def _devices(gpus: Any) -> list[Any]:
    devices = mapping(gpus).get("devices")
    return devices if isinstance(devices, list) else []


def _is_unknown(value: Any) -> bool:
    """Whether a probe failed, which may work later."""
    return is_missing(value) and "unavailable" in value


def changed_otherwise(document: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, ...]:
    """What a process had at its end otherwise than at its start, and its repetition had not, in words."""
    then, now = _changed(document), _changed(again)
    variables = of_training_not_given(then[0], now[0])
    packages = sorted(name for name, value in then[1].items() if now[1].get(name) != value)
    return *(f"variable {name}" for name in variables), *(f"package {name}" for name in packages)


def _changed(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and packages of the end that are not those of the start, and those that are not there any more."""
    moments = [(_variables(document.get(when)), dict(_packages(document.get(when)))) for when in ("start", "end")]
    pairs = zip(*moments, strict=True)
    variables, packages = (
        {
            **{name: value for name, value in after.items() if before.get(name) != value},
            **dict.fromkeys(before.keys() - after.keys(), _TAKEN_AWAY),
        }
        for before, after in pairs
    )
    return variables, packages


def _variables(seal: Any) -> Mapping[str, Any]:
    return mapping(_part(seal, ("environment", "variables", "recorded")))


def _packages(seal: Any) -> Iterator[tuple[str, Any]]:
    installed = _part(seal, ("environment", "distributions", "installed"))
    for each in map(mapping, installed if isinstance(installed, list) else ()):
        yield str(each.get("name")), (each.get("version"), each.get("record_sha256"))
