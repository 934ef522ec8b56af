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

import math
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment import validation
from ndrepro.protocol.experiment.catalogue import DATASETS, design_of
from ndrepro.protocol.experiment.declaration import SETTINGS as SETTINGS
from ndrepro.protocol.experiment.declaration import STREAMS as STREAMS
from ndrepro.protocol.experiment.declaration import ExperimentSettings
from ndrepro.protocol.experiment.names import DEFAULT_DATASET, parts_of
from ndrepro.protocol.experiment.own import OwnImages
from ndrepro.protocol.experiment.schema_migrations import completed
from ndrepro.protocol.experiment.sections import Corruption, Deconvolution, Seeds
from ndrepro.protocol.experiment.setting import unknown_setting

# what `make run` trains when nothing is named: minutes on two cores, no download
DEFAULT_EXPERIMENT = "lenet_nd_5_digits"


@dataclass(frozen=True)
class Experiment(ExperimentSettings):
    """Everything that can move the result of one training run. Raises UsageError for settings that no run could mean,
    with the key, the value and what was expected."""

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        validation.check(self)

    @classmethod
    def of(cls, arch: str, method: str, epochs: int, dataset: str = DEFAULT_DATASET, **settings: Any) -> Experiment:
        """The experiment with the recipe of its data set, then that of its network, then ``settings``.

        ``settings`` are top-level keys with values of their type. Raises UsageError as the class does.
        """
        return cls(arch, method, epochs, dataset, **{**_recipe(arch, dataset), **settings})

    def rate_at(self, step: int, total_steps: int) -> float:
        """The learning rate of the step after ``step`` steps: cosine from the start value to 0 over the whole run
        (Loshchilov and Hutter 2017, eq. 5, without restarts), constant, multiplied by ``decay`` after every epoch, or
        divided by ``drop`` at every one of ``drops``, fractions of the whole run (He et al. 2016, section 4.2: by 10 at
        32,000 and 48,000 of 64,000 iterations). A function of the step: a resumed run needs no scheduler's state.
        """
        if self.schedule == "step":
            passed = sum(step >= fraction * total_steps for fraction in self.drop_fractions)
            return self.learning_rate / self.drop**passed
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "exponential":
            return self.learning_rate * self.decay ** (step * self.epochs // total_steps)
        return 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * step / total_steps))

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
        early = {key: SETTINGS[key].parse(settings[key]) for key in ("size", "crop") if key in settings}
        return cls.of(arch, method, epochs, dataset, **early).with_settings(settings)

    def with_settings(self, settings: Mapping[str, str]) -> Experiment:
        """This experiment with ``key=value`` settings, each value read by the type of its key.

        Raises UsageError for an unknown key (the nearest are offered) or a value of the wrong type.
        """
        changed: dict[str, Any] = {}
        if settings.get("determinism") == "canonical":
            settings = {"deconv_kernel": "reference", **settings}  # the level is defined for it
        for key, text in settings.items():
            section, _, leaf = key.rpartition(".")
            if key not in SETTINGS:
                raise unknown_setting(key, SETTINGS)
            value = SETTINGS[key].parse(text)
            if section:
                changed[section] = replace(changed.get(section, getattr(self, section)), **{leaf: value})
            else:
                changed[leaf] = value
        return replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """Every setting, defaults included."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Experiment:
        """The experiment that ``to_json`` wrote, now or before settings were added
        (``ndrepro.protocol.experiment.schema_migrations``).

        Raises UsageError for a missing, unknown or mistyped key.
        """
        flat = completed(document)
        for key, kind in _SECTIONS.items():
            if not isinstance(flat.get(key), Mapping):
                raise UsageError(f"experiment: '{key}' is {flat.get(key)!r}, expected an object")
            flat[key] = _from_mapping(kind, flat[key], f"{key}.")
        return typing.cast(Experiment, _from_mapping(cls, flat, ""))


def _recipe(arch: str, dataset: str) -> dict[str, Any]:
    """Settings that come with the names; a wrong name has none, and is refused elsewhere, in words."""
    own_recipe = DATASETS[dataset].recipe.settings() if dataset in DATASETS else {}
    design = design_of(arch, dataset)
    return {**own_recipe, **(design.recipe.settings() if design else {})}


def _from_mapping(kind: type, document: Mapping[str, Any], prefix: str) -> Any:
    known = {item.name for item in fields(kind)}
    if set(document) != known:
        wrong = sorted(set(document) ^ known)
        raise UsageError(f"experiment: missing or unknown {', '.join(prefix + key for key in wrong)}")
    for key, value in document.items():
        if prefix + key in SETTINGS:  # a section is none
            SETTINGS[prefix + key].check_type(value)
    return kind(**document)


_SECTIONS = {"seeds": Seeds, "deconv": Deconvolution, "corrupt": Corruption, "own": OwnImages}
