"""What is run: a frozen Experiment, made from a name and settings, holding everything that can move the result.

``vgg16_nd_100`` is VGG-16, network deconvolution, 100 epochs, CIFAR-10; ``ARCH_METHOD_EPOCHS[_DATASET]``. Anything
else of an experiment is a setting, ``key=value``, with the study's recipe as its default (Ye et al. 2020, section
5.1 and the released code): SGD with momentum 0.9, learning rate 0.1, weight decay 1e-3, batch 128, cosine to zero
by step. Law: ``Experiment.from_json(experiment.to_json()) == experiment``.

Nothing here chooses by looking at the machine: an Experiment is complete before it starts, and the same Experiment
elsewhere is the same experiment.
"""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from ndrepro.spec.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.spec.determinism import LEVELS
from ndrepro.spec.errors import UsageError

STREAMS = ("init", "order", "augment", "dropout", "corrupt", "split")
SCHEDULES = ("cosine", "constant")
DEVICES = ("auto", "cpu", "cuda")
DEFAULT_DATASET = "cifar10"
# what `make run` trains when nothing is named: minutes on two cores, no download
DEFAULT_EXPERIMENT = "vgg16_nd_3_digits"


@dataclass(frozen=True)
class Seeds:
    """A seed for a single random stream; ``None`` takes the experiment's seed."""

    init: int | None = None
    order: int | None = None
    augment: int | None = None
    dropout: int | None = None
    corrupt: int | None = None
    split: int | None = None


@dataclass(frozen=True)
class Deconvolution:
    """Settings of the deconvolution layers; ``linear_block`` ``None`` is what the released code uses for the net."""

    block: int = 64
    linear_block: int | None = None
    eps: float = 1e-5
    n_iter: int = 5
    momentum: float = 0.1
    sampling_stride: int = 3


@dataclass(frozen=True)
class Experiment:
    """Everything that can move the result of one training run.

    ``epochs`` whole passes over the training set; ``learning_rate`` at the start of the schedule; ``weight_decay``
    on every parameter; ``augment`` random crop and flip as the data set's recipe has them; ``train_images`` and
    ``test_images`` keep only the first so many of each (``None``: all); ``threads`` of the CPU (they change bits);
    ``checkpoint_epochs`` keeps a checkpoint after every so many epochs; ``checkpoint_seconds`` also writes one, not
    kept, at least so often, so that a killed run loses little.
    """

    arch: str
    method: str
    epochs: int
    dataset: str = DEFAULT_DATASET
    seed: int = 0
    seeds: Seeds = field(default_factory=Seeds)
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    schedule: str = "cosine"
    augment: bool = True
    train_images: int | None = None
    test_images: int | None = None
    deconv: Deconvolution = field(default_factory=Deconvolution)
    determinism: str = "deterministic"
    threads: int = 2
    device: str = "auto"
    checkpoint_epochs: int = 10
    checkpoint_seconds: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what no run could mean. Raises UsageError with the key, the value and what was expected."""
        _one_of("arch", self.arch, ARCHITECTURES)
        _one_of("method", self.method, tuple(METHODS))
        _one_of("dataset", self.dataset, tuple(DATASETS))
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("determinism", self.determinism, LEVELS)
        _one_of("device", self.device, DEVICES)
        for key in ("batch_size", "threads", "checkpoint_epochs", "deconv.block", "deconv.n_iter"):
            _at_least(key, self.value(key), 1)
        _at_least("deconv.sampling_stride", self.deconv.sampling_stride, 1)
        for key in (
            "epochs",
            "weight_decay",
            "momentum",
            "learning_rate",
            "checkpoint_seconds",
            "deconv.eps",
        ):
            _at_least(key, self.value(key), 0)
        for key in ("train_images", "test_images", "deconv.linear_block"):
            if self.value(key) is not None:
                _at_least(key, self.value(key), 1)
        for stream in STREAMS:
            _seed(f"seeds.{stream}", self.seed_of(stream))
        if self.determinism == "canonical" and self.threads != 1:
            raise UsageError(
                f"threads={self.threads} under determinism=canonical: it is defined with one thread",
                "add --set threads=1",
            )

    @property
    def name(self) -> str:
        """``ARCH_METHOD_EPOCHS[_DATASET]``: the folder name, not the whole experiment."""
        suffix = "" if self.dataset == DEFAULT_DATASET else f"_{self.dataset}"
        return f"{self.arch}_{self.method}_{self.epochs}{suffix}"

    @classmethod
    def from_name(cls, name: str, settings: Mapping[str, str] | None = None) -> Experiment:
        """The experiment of that name, with settings applied. Raises UsageError with the nearest right names."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise UsageError(f"unknown experiment '{name}'", _name_cure(name))
        settings = dict(settings or {})
        if settings.get("determinism") == "canonical":
            settings.setdefault("threads", "1")  # the level is defined with one thread
        start = cls(
            arch=match["arch"],
            method=match["method"],
            epochs=int(match["epochs"]),
            dataset=match["dataset"] or DEFAULT_DATASET,
        )
        return start.with_settings(settings)

    def with_settings(self, settings: Mapping[str, str]) -> Experiment:
        """This experiment with ``key=value`` settings, each value read by the type of its key.

        Raises UsageError for an unknown key (the nearest are offered) or a value of the wrong type.
        """
        document = self.to_json()
        for key, text in settings.items():
            section, _, leaf = key.rpartition(".")
            if key not in _TYPES:
                near = difflib.get_close_matches(key, _TYPES, n=3, cutoff=0.5)
                raise UsageError(
                    f"unknown setting '{key}'",
                    f"did you mean {', '.join(near)}?" if near else f"settings are {', '.join(sorted(_TYPES))}",
                )
            place = document[section] if section else document
            place[leaf] = _parse(key, text, _TYPES[key])
        return Experiment.from_json(document)

    def value(self, key: str) -> Any:
        """The value of a dotted key, e.g. ``deconv.block``."""
        here: Any = self
        for part in key.split("."):
            here = getattr(here, part)
        return here

    def seed_of(self, stream: str) -> int:
        """The seed of one random stream: its own, or the experiment's."""
        own = getattr(self.seeds, stream)
        return self.seed if own is None else int(own)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, every setting written out, defaults included."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Experiment:
        """The experiment that ``to_json`` wrote. Raises UsageError for a missing, unknown or mistyped key."""
        flat = dict(document)
        for key in ("seeds", "deconv"):
            if not isinstance(flat.get(key), Mapping):
                raise UsageError(f"experiment: '{key}' is {flat.get(key)!r}, expected an object")
        flat["seeds"] = _from_mapping(Seeds, flat["seeds"], "seeds.")
        flat["deconv"] = _from_mapping(Deconvolution, flat["deconv"], "deconv.")
        return typing.cast(Experiment, _from_mapping(cls, flat, ""))


def nearest_names(name: str, count: int = 3) -> list[str]:
    """The experiment names nearest to a wrong one: same epochs where it names any."""
    numbers = re.findall(r"\d+", name.split("_", 1)[-1]) or ["1", "20", "100"]
    suffixes = ["", *(f"_{dataset}" for dataset in DATASETS if dataset != DEFAULT_DATASET)]
    candidates = [
        f"{arch}_{method}_{epochs}{suffix}"
        for arch in ARCHITECTURES
        for method in METHODS
        for epochs in dict.fromkeys(numbers)
        for suffix in suffixes
    ]
    return difflib.get_close_matches(name.lower(), candidates, n=count, cutoff=0.5)


def _longest_first(names: typing.Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


# longest first, so that nd_full is not read as nd with a rest
_NAME = re.compile(
    rf"(?P<arch>{_longest_first(ARCHITECTURES)})_(?P<method>{_longest_first(METHODS)})"
    rf"_(?P<epochs>\d{{1,5}})(_(?P<dataset>{_longest_first(DATASETS)}))?"
)


def _name_cure(name: str) -> str:
    near = nearest_names(name)
    form = "names are ARCH_METHOD_EPOCHS[_DATASET], e.g. vgg16_nd_100 or resnet18_bn_20_cifar100"
    return f"did you mean {', '.join(near)}? {form}" if near else f"{form}; `ndrepro list --names` has them all"


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{key}={value!r} is not known", f"{hint}it is one of {', '.join(allowed)}")


def _at_least(key: str, value: Any, lowest: int) -> None:
    if not (value >= lowest and math.isfinite(value)):
        raise UsageError(f"{key}={value!r}, expected a finite number, at least {lowest}")


def _seed(key: str, value: int) -> None:
    if not 0 <= value < 2**63:
        raise UsageError(f"{key}={value!r}, expected a whole number from 0 to 2^63 - 1")


def _field_types(kind: type, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> type, for every leaf of a dataclass."""
    types: dict[str, Any] = {}
    for key, annotation in typing.get_type_hints(kind).items():
        if is_dataclass(annotation):
            types.update(_field_types(typing.cast(type, annotation), f"{prefix}{key}."))
        else:
            types[f"{prefix}{key}"] = annotation
    return types


def _parse(key: str, text: str, annotation: Any) -> Any:
    kinds = typing.get_args(annotation) or (annotation,)
    if type(None) in kinds and text.lower() in ("none", "null"):
        return None
    kind = kinds[0]
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        raise UsageError(f"{key}={text!r}: expected {_kind_name(kinds)}") from None


def _kind_name(kinds: tuple[Any, ...]) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a word",
        type(None): "none",
    }
    return " or ".join(words[kind] for kind in kinds)


def _from_mapping(kind: type, document: Mapping[str, Any], prefix: str) -> Any:
    known = {item.name for item in fields(kind)}
    if set(document) != known:
        wrong = sorted(set(document) ^ known)
        raise UsageError(f"experiment: missing or unknown {', '.join(prefix + key for key in wrong)}")
    for key, value in document.items():
        _check_type(prefix + key, value)
    return kind(**document)


def _check_type(key: str, value: Any) -> None:
    annotation = _TYPES.get(key)
    if annotation is None:
        return
    kinds = typing.get_args(annotation) or (annotation,)
    accepted = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in kinds):
        raise UsageError(f"{key}={value!r}: expected {_kind_name(kinds)}")


_TYPES = _field_types(Experiment)
