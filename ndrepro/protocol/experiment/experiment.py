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

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Annotated, Any

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment import combinations, compute_modes
from ndrepro.protocol.experiment.bit_flip import NO_NUDGE, Nudge
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS, DatasetFacts, design_of
from ndrepro.protocol.experiment.determinism import CPU_ISAS, LEVELS
from ndrepro.protocol.experiment.names import DEFAULT_DATASET, name_of, parts_of
from ndrepro.protocol.experiment.own import OWN_DATASET, OwnImages, check_own, is_own_network
from ndrepro.protocol.experiment.schema_migrations import completed
from ndrepro.protocol.experiment.sections import Corruption, Deconvolution, Seeds
from ndrepro.protocol.experiment.setting import LARGEST_INTEGER, Meaning, expect_choice, settings_of, unknown_setting

STREAMS = ("init", "order", "augment", "dropout", "corrupt", "split")
SCHEDULES = ("cosine", "step", "constant", "exponential")
DEVICES = ("auto", "cpu", "cuda")
# what `make run` trains when nothing is named: minutes on two cores, no download
DEFAULT_EXPERIMENT = "lenet_nd_5_digits"


@dataclass(frozen=True)
class Experiment:
    """Everything that can move the result of one training run; each setting's meaning is in its declaration.

    ``size`` pads images with black or averages squares of pixels; ``crop`` cuts out the middle, or anywhere for
    training images that are augmented. The schedule "step" has the defaults of He et al. (2016, section 4.2).
    ``nudge`` is explained in ``ndrepro.protocol.experiment.bit_flip``; ``processes``, ``statistics``, ``precision``,
    ``compile`` and ``deconv_kernel`` in ``ndrepro.protocol.experiment.compute_modes``, ``cpu_isa`` in
    ``ndrepro.protocol.experiment.determinism``.
    """

    arch: Annotated[
        str, Meaning("Network.", form="a name of `ndrepro list --names`, or MODULE:CALLABLE", aliases=("model", "net"))
    ]
    method: Annotated[str, Meaning("What normalises.", choices=tuple(METHODS), aliases=("norm", "normalization"))]
    epochs: Annotated[
        int, Meaning("Passes over the training images.", "epochs", least=0, aliases=("n_epochs", "epoch"))
    ]
    dataset: Annotated[str, Meaning("Data set.", choices=(*DATASETS, OWN_DATASET), aliases=("data",))] = DEFAULT_DATASET
    seed: Annotated[
        int,
        Meaning("Seed of every random stream without one of its own.", least=0, most=LARGEST_INTEGER, aliases=("s",)),
    ] = 0
    seeds: Seeds = field(default_factory=Seeds)
    batch_size: Annotated[int, Meaning("Images of a step.", "images", least=1, aliases=("batch", "bs", "b"))] = 128
    learning_rate: Annotated[
        float, Meaning("Learning rate at the start of the schedule.", least=0, aliases=("lr", "rate", "eta", "base_lr"))
    ] = 0.1
    momentum: Annotated[float, Meaning("Momentum of stochastic gradient descent.", least=0, aliases=("beta", "mu"))] = (
        0.9
    )
    weight_decay: Annotated[
        float, Meaning("Weight decay of every parameter.", least=0, aliases=("wd", "l2", "decay_weight"))
    ] = 1e-3
    schedule: Annotated[
        str, Meaning("Learning rate over the run.", choices=SCHEDULES, aliases=("scheduler", "lr_schedule", "sched"))
    ] = "cosine"
    augment: Annotated[
        bool, Meaning("Random crops and flips, as the data set's recipe has them.", aliases=("augmentation", "aug"))
    ] = True
    train_images: Annotated[
        int | None, Meaning("Use the first so many training images; none uses all.", "images", least=1)
    ] = None
    test_images: Annotated[
        int | None, Meaning("Use the first so many test images; none uses all.", "images", least=1)
    ] = None
    deconv: Deconvolution = field(default_factory=Deconvolution)
    determinism: Annotated[
        str, Meaning("Which settings of the libraries are fixed, and so which bits.", choices=LEVELS)
    ] = "deterministic"
    threads: Annotated[
        int,
        Meaning(
            "CPU threads of each process; another number gives other bits.",
            "threads",
            least=1,
            most=4096,  # some operations of torch crash on a million
            aliases=("workers", "num_workers", "num_threads", "cpus"),
        ),
    ] = 2
    device: Annotated[
        str, Meaning("Where to train; auto is the GPU where there is one.", choices=DEVICES, aliases=("gpu", "cuda"))
    ] = "auto"
    checkpoint_epochs: Annotated[int, Meaning("Keep a checkpoint after every so many epochs.", "epochs", least=1)] = 10
    checkpoint_seconds: Annotated[
        float, Meaning("Write a checkpoint, not kept, at least so often: an interruption loses little.", "s", least=0)
    ] = 300.0
    size: Annotated[
        int | None,
        Meaning("Pad or shrink images to this side; none leaves them.", "pixels", least=1, aliases=("image_size",)),
    ] = None
    crop: Annotated[
        int | None, Meaning("Crop images to this side; none leaves them.", "pixels", least=1, aliases=("crop_size",))
    ] = None
    whiten: Annotated[
        bool, Meaning("Normalise each image by its own mean and deviation, not the data set's.", aliases=("normalize",))
    ] = False
    jitter: Annotated[
        float, Meaning("Contrast, saturation and brightness of augmented images are in 1 +- jitter.", least=0, most=1)
    ] = 0.0
    dropout: Annotated[
        float | None,
        Meaning(
            "What dropout layers drop; none is the network's own.", "fraction", least=0, most=1, aliases=("drop_rate",)
        ),
    ] = None
    decay: Annotated[
        float, Meaning("exponential multiplies the rate by it after every epoch.", least=0, most=1, aliases=("gamma",))
    ] = 0.95
    corrupt: Corruption = field(default_factory=Corruption)
    drop: Annotated[float, Meaning("step divides the rate by it at each of drops.", least=1)] = 10.0
    drops: Annotated[
        str,
        Meaning(
            "When step divides the rate.",
            "fraction of all steps",
            form="fractions between 0 and 1, ascending, separated by commas",
            aliases=("milestones", "steps"),
        ),
    ] = "0.5,0.75"
    processes: Annotated[
        int,
        Meaning("Processes that share each batch, one a GPU.", "processes", least=1, aliases=("gpus", "world_size")),
    ] = 1
    statistics: Annotated[
        str,
        Meaning(
            "What batch norm and deconvolution measure of several processes: the whole batch or each its own share.",
            choices=compute_modes.STATISTICS,
            aliases=("sync_bn",),
        ),
    ] = "global"
    precision: Annotated[
        str,
        Meaning(
            "Of convolutions and matrix products; auto is tf32 at the level free, else fp32.",
            choices=compute_modes.PRECISIONS,
            aliases=("amp", "dtype", "fp16"),
        ),
    ] = "auto"
    compile: Annotated[bool, Meaning("Compile the network with torch.compile.", aliases=("torch_compile",))] = False
    nudge: Annotated[
        str, Meaning("Flip one bit of one first weight, to measure sensitivity.", form="PARAMETER:ELEMENT:BIT, or none")
    ] = NO_NUDGE
    validation: Annotated[
        float,
        Meaning(
            "Part of the training images that is held out and tested on instead of the test images.",
            "fraction",
            form="a number from 0, below 1",
            aliases=("val_split", "validation_split"),
        ),
    ] = 0.0
    deconv_kernel: Annotated[
        str,
        Meaning("How deconvolution layers are computed.", choices=compute_modes.DECONV_KERNELS, aliases=("kernel",)),
    ] = "fast"
    cpu_isa: Annotated[
        str,
        Meaning(
            "Limit the processor's instruction sets that numerical libraries may use.",
            choices=tuple(CPU_ISAS),
            aliases=("isa", "instructions", "cpu_capability"),
        ),
    ] = "native"
    network_source: Annotated[
        str | None,
        Meaning("Digest of the source of a network of your own.", "SHA-256", form="filled in before a run starts"),
    ] = None
    own: OwnImages = field(default_factory=OwnImages)

    def __post_init__(self) -> None:
        """Refuse what no run could mean. Raises UsageError with the key, the value and what was expected."""
        if not is_own_network(self.arch):
            expect_choice("arch", self.arch, ARCHITECTURES)
        for key, setting in SETTINGS.items():
            setting.check(self.value(key))
        Nudge.parse(self.nudge)
        if not self.drop_fractions:
            raise UsageError(
                f"drops={self.drops!r}, expected fractions of the training between 0 and 1, ascending",
                "e.g. --set drops=0.5,0.75",
            )
        compute_modes.check(self)
        check_own(self)
        if self.is_described:
            combinations.check(self)

    @property
    def name(self) -> str:
        """``ARCH_METHOD_EPOCHS[_DATASET]``: the folder name, not the whole experiment."""
        return name_of(self.arch, self.method, self.epochs, self.dataset)

    @property
    def is_described(self) -> bool:
        """Whether its images are known: false of a data set of the user's own until its files were read."""
        return self.dataset != OWN_DATASET or self.own.known

    @property
    def facts(self) -> DatasetFacts:
        """What is known of its data set: the catalogue's entry, or what was read of the user's own."""
        return self.own.facts() if self.dataset == OWN_DATASET else DATASETS[self.dataset]

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
        return combinations.image_size(self.facts, self.size, self.crop)

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
SETTINGS = settings_of(Experiment)
