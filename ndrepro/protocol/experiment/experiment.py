"""What is run: a frozen Experiment, made from a name and settings, holding everything that can move the result.

``vgg16_nd_100`` is VGG-16, network deconvolution, 100 epochs, CIFAR-10; ``ARCH_METHOD_EPOCHS[_DATASET]``. Anything
else of an experiment is a setting, ``key=value``, with the study's recipe as its default (Ye et al. 2020, section
5.1 and the released code): SGD with momentum 0.9, learning rate 0.1, weight decay 1e-3, batch 128, cosine to zero
by step; data sets and networks that have a recipe of their own bring it (``catalogue.Recipe``).
Law: ``Experiment.from_json(experiment.to_json()) == experiment``.

Nothing here chooses by looking at the machine: an Experiment is complete before it starts, and the same Experiment
elsewhere is the same experiment.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from itertools import pairwise
from typing import Any

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment import combinations, compute_modes
from ndrepro.protocol.experiment.bit_flip import NO_NUDGE, Nudge
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS, design_of
from ndrepro.protocol.experiment.determinism import LEVELS
from ndrepro.protocol.experiment.names import DEFAULT_DATASET, name_of, nearest_names, parts_of
from ndrepro.protocol.experiment.schema_migrations import completed

__all__ = [
    "DEFAULT_DATASET",
    "DEFAULT_EXPERIMENT",
    "DEVICES",
    "PIXELS",
    "SCHEDULES",
    "STREAMS",
    "Corruption",
    "Deconvolution",
    "Experiment",
    "Seeds",
    "nearest_names",
]

STREAMS = ("init", "order", "augment", "dropout", "corrupt", "split")
SCHEDULES = ("cosine", "step", "constant", "exponential")
PIXELS = ("none", "shuffled", "random", "gaussian")
DEVICES = ("auto", "cpu", "cuda")
# the largest whole number that is signed as a number (``provenance.formats.canonical_json``)
LARGEST_INTEGER = 2**53
_MOST_THREADS = 4096  # some operations of torch crash on a million
# what `make run` trains when nothing is named: minutes on two cores, no download
DEFAULT_EXPERIMENT = "lenet_nd_5_digits"


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
class Corruption:
    """What is done to the data on purpose (Zhang et al. 2017, section 2.1), drawn from the stream "corrupt".

    ``labels`` is the fraction of training labels, chosen at random, that become a class drawn at random (1: random
    labels). ``pixels``: "shuffled", one permutation of the pixels for all images; "random", one for each image;
    "gaussian", noise with the mean and variance of each channel in place of every image. Only training images are
    changed, unless ``test_pixels`` has the test images go the same way.
    """

    labels: float = 0.0
    pixels: str = "none"
    test_pixels: bool = False


@dataclass(frozen=True)
class Experiment:
    """Everything that can move the result of one training run.

    ``epochs`` whole passes over the training set; ``learning_rate`` at the start of the schedule; ``weight_decay``
    on every parameter; ``augment`` random crop and flip as the data set's recipe has them; ``train_images`` and
    ``test_images`` keep only the first so many of each (``None``: all); ``threads`` of the CPU (they change bits);
    ``checkpoint_epochs`` keeps a checkpoint after every so many epochs; ``checkpoint_seconds`` also writes one, not
    kept, at least so often, so that a killed run loses little.

    ``size`` pads or shrinks images to that side, ``crop`` cuts out that side (the middle; anywhere for training
    images that are augmented), ``None`` leaves them; ``whiten`` takes each image's own mean and deviation in place of
    the data set's; ``jitter`` draws contrast, saturation and brightness of augmented images within 1 +- jitter;
    ``dropout`` is the fraction that dropout layers drop (``None``: the network's own); ``decay`` is what the schedule
    "exponential" multiplies the learning rate by after every epoch; the schedule "step" divides it by ``drop`` at each
    of ``drops``, fractions of the whole training (defaults: He et al. 2016, section 4.2). ``nudge`` flips one bit
    of one first weight (``ndrepro.protocol.experiment.bit_flip``). ``processes``, ``statistics``, ``precision``,
    ``compile`` and ``deconv_kernel`` are in ``ndrepro.protocol.experiment.compute_modes``; ``threads`` are those of
    each process.
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
    size: int | None = None
    crop: int | None = None
    whiten: bool = False
    jitter: float = 0.0
    dropout: float | None = None
    decay: float = 0.95
    corrupt: Corruption = field(default_factory=Corruption)
    drop: float = 10.0
    drops: str = "0.5,0.75"
    processes: int = 1
    statistics: str = "global"
    precision: str = "auto"
    compile: bool = False
    nudge: str = NO_NUDGE
    validation: float = 0.0
    deconv_kernel: str = "fast"

    def __post_init__(self) -> None:
        """Refuse what no run could mean. Raises UsageError with the key, the value and what was expected."""
        _one_of("arch", self.arch, ARCHITECTURES)
        _one_of("method", self.method, tuple(METHODS))
        _one_of("dataset", self.dataset, tuple(DATASETS))
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("determinism", self.determinism, LEVELS)
        _one_of("device", self.device, DEVICES)
        _one_of("corrupt.pixels", self.corrupt.pixels, PIXELS)
        _one_of("statistics", self.statistics, compute_modes.STATISTICS)
        _one_of("precision", self.precision, compute_modes.PRECISIONS)
        _one_of("deconv_kernel", self.deconv_kernel, compute_modes.DECONV_KERNELS)
        for key in ("batch_size", "threads", "processes", "checkpoint_epochs", "deconv.block", "deconv.n_iter"):
            _at_least(key, self.value(key), 1)
        if self.threads > _MOST_THREADS:
            raise UsageError(f"threads={self.threads}, expected at most {_MOST_THREADS}", _leave_out("threads"))
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
        for key in ("train_images", "test_images", "deconv.linear_block", "size", "crop"):
            if self.value(key) is not None:
                _at_least(key, self.value(key), 1)
        for key in ("jitter", "decay", "corrupt.labels"):
            _fraction(key, self.value(key))
        for stream in STREAMS:
            _seed(f"seeds.{stream}", self.seed_of(stream))
        if self.determinism == "canonical" and self.threads != 1:
            raise UsageError(
                f"threads={self.threads} under determinism=canonical: it is defined with one thread",
                "add --set threads=1",
            )
        Nudge.parse(self.nudge)
        _at_least("drop", self.drop, 1)
        if not self.drop_fractions:
            raise UsageError(
                f"drops={self.drops!r}, expected fractions of the training between 0 and 1, ascending",
                "e.g. --set drops=0.5,0.75",
            )
        compute_modes.check(
            determinism=self.determinism,
            device=self.device,
            batch_size=self.batch_size,
            processes=self.processes,
            statistics=self.statistics,
            precision=self.precision,
            compile=self.compile,
            deconv_kernel=self.deconv_kernel,
        )
        combinations.check(self.arch, self.method, self.dataset, self.size, self.crop)
        self._check_images()

    def _check_images(self) -> None:
        """What is asked of images and dropout must have something to act on."""
        facts, design = DATASETS[self.dataset], design_of(self.arch, self.dataset)
        if self.dropout is not None:
            _fraction("dropout", self.dropout)
            if design is not None and design.dropout is None:
                raise UsageError(f"dropout={self.dropout}: {self.arch} has no dropout layer", "leave dropout out")
        if self.jitter and not (self.augment and facts.channels == 3):
            raise UsageError(f"jitter={self.jitter}: it is part of augmentation, of colour images", "leave jitter out")
        if self.corrupt.pixels != "none" and self.augment:
            raise UsageError(
                f"corrupt.pixels={self.corrupt.pixels} with augment=true: crops and flips would move the pixels again",
                "add --set augment=false",
            )
        for key, asked in (("corrupt.pixels", self.corrupt.pixels != "none"), ("whiten", self.whiten)):
            if asked and facts.design == "imagenet":
                raise UsageError(f"{key}={self.value(key)!r}: {self.dataset} is read file by file, as it is")
        if self.validation:
            self._check_validation(facts.design)
        if self.corrupt.test_pixels and self.corrupt.pixels == "none":
            raise UsageError("corrupt.test_pixels=True: corrupt.pixels is 'none'", "set corrupt.pixels too")

    def _check_validation(self, design: str) -> None:
        if not 0 < self.validation < 1:
            raise UsageError(f"validation={self.validation!r}, expected a fraction of the training images, below 1")
        if design == "imagenet":
            raise UsageError(f"validation={self.validation!r}: {self.dataset} is read file by file, as it is")
        if self.test_images is not None:
            raise UsageError(
                f"test_images={self.test_images} with validation={self.validation!r}: no test image is used then",
                "leave test_images out",
            )

    @property
    def name(self) -> str:
        """``ARCH_METHOD_EPOCHS[_DATASET]``: the folder name, not the whole experiment."""
        return name_of(self.arch, self.method, self.epochs, self.dataset)

    @property
    def drop_fractions(self) -> tuple[float, ...]:
        """``drops`` as numbers; none at all where they are not ascending and inside 0..1."""
        try:
            found = tuple(float(text) for text in self.drops.split(","))
        except ValueError:
            return ()
        return found if all(a < b for a, b in pairwise((0.0, *found, 1.0))) else ()

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the network gets."""
        return combinations.image_size(self.dataset, self.size, self.crop)

    @classmethod
    def of(cls, arch: str, method: str, epochs: int, dataset: str = DEFAULT_DATASET, **settings: Any) -> Experiment:
        """The experiment with the recipe of its data set, then that of its network, then ``settings``.

        ``settings`` are top-level keys with values of their type. Raises UsageError as the class does.
        """
        return cls(arch, method, epochs, dataset, **{**_recipe(arch, dataset), **settings})

    def defaults(self) -> dict[str, Any]:
        """The document of this name with no setting changed; whether it would be a valid experiment is not asked."""
        plain = Experiment("lenet", "bn", 0).to_json()  # any valid one, for every default
        named = {"arch": self.arch, "method": self.method, "epochs": self.epochs, "dataset": self.dataset}
        return {**plain, **named, **_recipe(self.arch, self.dataset)}

    @classmethod
    def from_name(cls, name: str, settings: Mapping[str, str] | None = None) -> Experiment:
        """The experiment of that name, with settings applied. Raises UsageError with the nearest right names."""
        arch, method, epochs, dataset = parts_of(name)
        settings = dict(settings or {})
        if settings.get("determinism") == "canonical":
            settings.setdefault("threads", "1")  # the level is defined with one thread
        # the sizes of images count before anything is made: no size, no network for them
        early = {key: _parse(key, settings[key], _TYPES[key]) for key in ("size", "crop") if key in settings}
        return cls.of(arch, method, epochs, dataset, **early).with_settings(settings)

    def with_settings(self, settings: Mapping[str, str]) -> Experiment:
        """This experiment with ``key=value`` settings, each value read by the type of its key.

        Raises UsageError for an unknown key (the nearest are offered) or a value of the wrong type.
        """
        document = self.to_json()
        if settings.get("determinism") == "canonical":
            settings = {"deconv_kernel": "reference", **settings}  # the level is defined for it
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
        """The experiment that ``to_json`` wrote, now or before settings were added
        (``ndrepro.protocol.experiment.schema_migrations``).

        Raises UsageError for a missing, unknown or mistyped key.
        """
        flat = completed(document)
        for key, kind in (("seeds", Seeds), ("deconv", Deconvolution), ("corrupt", Corruption)):
            if not isinstance(flat.get(key), Mapping):
                raise UsageError(f"experiment: '{key}' is {flat.get(key)!r}, expected an object")
            flat[key] = _from_mapping(kind, flat[key], f"{key}.")
        return typing.cast(Experiment, _from_mapping(cls, flat, ""))


def _recipe(arch: str, dataset: str) -> dict[str, Any]:
    """Settings that come with the names; a wrong name has none, and is refused elsewhere, in words."""
    if dataset not in DATASETS:
        return {}
    design = design_of(arch, dataset)
    return {**DATASETS[dataset].recipe.settings(), **(design.recipe.settings() if design else {})}


def _one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{key}={value!r} is not known", f"{hint}it is one of {', '.join(allowed)}")


def _at_least(key: str, value: Any, lowest: int) -> None:
    if not (value >= lowest and math.isfinite(value)):
        raise UsageError(f"{key}={value!r}, expected a finite number, at least {lowest}", _leave_out(key))


def _leave_out(key: str) -> str:
    return f"give such a value, or leave {key} out for its default"


def _fraction(key: str, value: Any) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{key}={value!r}, expected a number from 0 to 1", _leave_out(key))


def _seed(key: str, value: int) -> None:
    if not 0 <= value <= LARGEST_INTEGER:
        raise UsageError(f"{key}={value!r}, expected a whole number from 0 to 2^53", f"e.g. --set {key}=1")


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
        raise UsageError(f"{key}={text!r}: expected {_kind_name(kinds)}", _leave_out(key)) from None


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
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise UsageError(f"{key}={value!r}, expected a whole number up to 2^53", _leave_out(key))


_TYPES = _field_types(Experiment)
