"""The settings of an experiment as they are declared: type, default, meaning, unit, allowed values, other names.

``Experiment`` is these settings, checked (``ndrepro.protocol.experiment.validation``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

from ndrepro.protocol.experiment import combinations, compute_modes
from ndrepro.protocol.experiment.bit_flip import NO_NUDGE
from ndrepro.protocol.experiment.catalogue import DATASETS, METHODS, DatasetFacts
from ndrepro.protocol.experiment.determinism import CPU_ISAS, LEVELS
from ndrepro.protocol.experiment.names import DEFAULT_DATASET, name_of
from ndrepro.protocol.experiment.own import OWN_DATASET, OwnImages
from ndrepro.protocol.experiment.sections import Corruption, Deconvolution, Seeds
from ndrepro.protocol.experiment.setting import LARGEST_INTEGER, Meaning, settings_of

STREAMS = ("init", "order", "augment", "dropout", "corrupt", "split")
SCHEDULES = ("cosine", "step", "constant", "exponential")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class ExperimentSettings:
    """The settings of one training run, unchecked; each one's meaning is in its declaration.

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


SETTINGS = settings_of(ExperimentSettings)
