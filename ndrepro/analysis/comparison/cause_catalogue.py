"""What each recorded difference can do to the numbers, and when: the knowledge behind
``ndrepro.analysis.comparison.causes``.

A run's numbers come about in a fixed order, and the trail records each stage. Record 0 is the state before the first
step: first weights, drawn by numpy's frozen generator, the same on every device and version. In step n the batch is
taken, the forward pass gives the loss and the running statistics, the backward pass the gradients, and the update the
weights of record n. So a difference has a first record where it can show, often a last one by which it must, and
shows in the loss of that step or only behind it:

    stage        records    in that step's loss    size at first
    weights      0          -                      any
    batch        1          yes                    far above rounding
    data         1 to e     yes                    far above rounding (e: steps of the first epoch)
    forward      1          yes                    any
    update       1          no                     any
    schedule     2 on       no                     any (step 1 has no momentum and the start's learning rate)
    noise        1 on       yes                    far above rounding
    arithmetic   1 on       either                 of rounding's size
    evaluation   never      -                      -
    anything     0 on       either                 any
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS


@dataclass(frozen=True)
class Onset:
    """When a difference shows, see above. ``None``: no last record; the loss may differ or not; any size."""

    earliest: int
    latest: int | None
    in_loss: bool | None
    rounding: bool | None


NEVER = 2**63
STAGES = {
    "weights": Onset(0, 0, None, None),
    "batch": Onset(1, 1, True, False),
    "data": Onset(1, None, True, False),
    "forward": Onset(1, 1, True, None),
    "update": Onset(1, 1, False, None),
    "schedule": Onset(2, None, False, None),
    "noise": Onset(1, None, True, False),
    "arithmetic": Onset(1, None, None, True),
    "evaluation": Onset(NEVER, None, None, None),
    "anything": Onset(0, None, None, None),
}


@dataclass(frozen=True)
class Effect:
    """A kind of difference.

    Attributes:
        title: what it is called, in words that follow "likely cause:".
        sources: (group, pattern of names) in ``provenance.comparison.manifest_diff``.
        stage: a name of STAGES.
        weight: how often it is the cause where nothing else is known, 0 to 100; a judgement, used to order only.
        why: how it moves numbers.
        gpu_only: it acts on a GPU alone.
    """

    title: str
    sources: tuple[tuple[str, str], ...]
    stage: str
    weight: int
    why: str
    gpu_only: bool = False

    def covers(self, group: str, name: str) -> bool:
        """Whether a change belongs here."""
        return any(group == its and re.fullmatch(pattern, name) for its, pattern in self.sources)


_LIMITS = "|".join(INSTRUCTION_LIMITS)
_KERNELS = "ATEN_|BLIS_|CUBLAS|CUDA_|CUDNN_|DNNL_|GOMP_|GOTO_|HIP_|KMP_|MIOPEN_|MKL_|NCCL_|NVIDIA_TF32|OMP_|ONEDNN_"
_MORE_KERNELS = "OPENBLAS_|PYTORCH_|TBB_|TORCH|TRITON_|VECLIB_"

# in the order in which a change is looked up: the first that covers it explains it
EFFECTS = (
    Effect(
        "a library file edited by hand",
        (("packages", "edited file .+"),),
        "anything",
        99,
        "it computes something else under the version and the RECORD of what was installed",
    ),
    Effect(
        "loaded code that belongs to no distribution",
        (("packages", "loaded (?:module|library|startup|preload) .+"),),
        "anything",
        98,
        "it can change every other module of the process, and no version or RECORD says what it does",
    ),
    Effect(
        "a package imported from another folder",
        (("packages", "disagreements.*"),),
        "anything",
        70,
        "what is imported is not what is installed",
    ),
    Effect(
        "another network",
        (("experiment", "arch|method|network_source"),),
        "anything",
        100,
        "it computes something else",
    ),
    Effect(
        "another command line",
        (("experiment", r"command's .*"),),
        "anything",
        50,
        "the program was asked for something else",
    ),
    Effect(
        "another loading of data",
        (("experiment", "data loaders.*"),),
        "batch",
        60,
        "other batches, or batches in another order",
    ),
    Effect("another optimizer", (("experiment", "optimizers.*"),), "update", 85, "it enters with the first update"),
    Effect("another seed of the first weights", (("seeds", "init"),), "weights", 95, "they are drawn from it"),
    Effect("a flipped bit in the first weights", (("experiment", "nudge"),), "weights", 95, "one weight is another"),
    Effect(
        "another seed of the order of the images",
        (("seeds", "order|split"),),
        "batch",
        92,
        "the first batch holds other images",
    ),
    Effect(
        "another seed of the augmentation",
        (("seeds", "augment"),),
        "batch",
        92,
        "the images of the first batch are cropped and flipped otherwise",
    ),
    Effect("another seed of the corruption of labels", (("seeds", "corrupt"),), "noise", 60, "it draws other labels"),
    Effect("another seed of dropout", (("seeds", "dropout"),), "noise", 50, "other units are dropped, where any are"),
    Effect(
        "other batches",
        (("experiment", "batch_size|augment|train_images|validation|size|crop|whiten|jitter"),),
        "batch",
        90,
        "the first batch holds other images",
    ),
    Effect("another data set", (("experiment", "dataset"),), "data", 95, "it is trained on other images"),
    Effect(
        "another learning rate or weight decay",
        (("experiment", "learning_rate|weight_decay"),),
        "update",
        90,
        "it enters with the first update, behind the first loss",
    ),
    Effect(
        "another momentum of the running statistics",
        (("experiment", r"deconv\.momentum"),),
        "update",
        85,
        "it enters the buffers, and in training not the loss",
    ),
    Effect(
        "another momentum or schedule",
        (("experiment", "momentum|schedule|epochs|decay|drops?"),),
        "schedule",
        85,
        "the first step has no momentum and the start's learning rate; both enter with the second update",
    ),
    Effect(
        "another setting of the deconvolution",
        (("experiment", r"deconv\..+"),),
        "forward",
        90,
        "it enters the first forward pass",
    ),
    Effect(
        "other images to test on",
        (("experiment", r"test_images|corrupt\.test_pixels"),),
        "evaluation",
        90,
        "only the results see them",
    ),
    Effect(
        "other corruption or dropout",
        (("experiment", r"corrupt\..+|dropout"),),
        "noise",
        88,
        "other labels, pixels or units take part",
    ),
    Effect(
        "random generators in other states",
        (("seeds", "state of .+"),),
        "anything",
        40,
        "all that the program draws from them differs; one that is never seeded has another state in each run",
    ),
    Effect("another seed", (("seeds", "(?!seed$).+"),), "anything", 80, "all that is drawn from it differs"),
    Effect(
        "another precision, or a compiler",
        (("experiment", "precision|compile"),),
        "arithmetic",
        85,
        "bfloat16 has eight bits of mantissa and TF32 eleven; a compiler fuses operations and rounds less often",
    ),
    Effect(
        "another kernel of the deconvolution layers",
        (("experiment", "deconv_kernel"),),
        "arithmetic",
        84,
        "the same polynomial of the covariance is evaluated in another order",
    ),
    Effect(
        "statistics over other images",
        (("experiment", "statistics"),),
        "forward",
        85,
        "layers see the whole batch, or one process's share of it",
    ),
    Effect(
        "another number of processes",
        (("experiment", "processes"),),
        "arithmetic",
        82,
        "sums over the batch are taken share by share",
    ),
    Effect(
        "another device",
        (("gpus", "device"),),
        "arithmetic",
        80,
        "CPU and GPU add in other orders and use other kernels",
    ),
    Effect(
        "another release or build of torch",
        (("packages", "torch|pytorch|libtorch"), ("libraries", ".+")),
        "arithmetic",
        75,
        "kernels and the orders of sums change between releases",
    ),
    Effect(
        "another number of threads",
        (("threads", "(?!interop_).+"),),
        "arithmetic",
        72,
        "sums are split among the threads, and floating-point addition is not associative",
    ),
    Effect(
        "another limit of the instruction sets",
        (("experiment", "cpu_isa"), ("variables", f"(?:{_LIMITS})(?: at .+)?")),
        "arithmetic",
        73,
        "numerical libraries choose their kernels by the instruction sets that they may use",
    ),
    Effect(
        "other vector instructions",
        (("flags", "cpu_capability.*"),),
        "arithmetic",
        71,
        "torch chooses its own kernels by them",
    ),
    Effect(
        "other flags of determinism or precision",
        (("flags", ".+"),),
        "arithmetic",
        70,
        "they choose the kernels, and with some of them sums have no fixed order",
    ),
    Effect(
        "another GPU",
        (("gpus", r".*(?:name|multiprocessors|compute_capability|cuda_cores|memory_bytes|mig).*"),),
        "arithmetic",
        65,
        "kernels are chosen by model, and sums split by its number of multiprocessors",
        gpu_only=True,
    ),
    Effect(
        "other variables of numerical libraries",
        (("variables", f"(?:{_KERNELS}|{_MORE_KERNELS}).*"),),
        "arithmetic",
        60,
        "they choose kernels and the orders of sums",
    ),
    Effect(
        "another processor",
        (("machine", r"cpu\..+|kernel\.architecture"),),
        "arithmetic",
        58,
        "libraries choose their kernels by its instruction sets",
    ),
    Effect(
        "other GPU libraries or driver",
        (
            ("packages", "nvidia-.+|triton|cuda-.+|cudatoolkit|libcu.+|.*cudnn.*"),
            ("gpus", "driver|cuda_driver|nvml|.*vbios"),
        ),
        "arithmetic",
        45,
        "they hold the kernels",
        gpu_only=True,
    ),
    Effect(
        "another MKL or BLAS",
        (("packages", "mkl.*|intel-.+|onednn.*|libblas|liblapack|openblas|libopenblas"),),
        "arithmetic",
        45,
        "it holds the kernels of matrix products and convolutions",
    ),
    Effect(
        "other readers of images",
        (("packages", "pillow|torchvision|scikit-learn"), ("data", "reader")),
        "data",
        25,
        "decoders of JPEG give other pixels from the same files",
    ),
    Effect("another container", (("container", ".+"),), "arithmetic", 25, "it brings its own libraries"),
    Effect(
        "another numpy or C library",
        (("packages", "numpy"), ("machine", "libc")),
        "arithmetic",
        20,
        "first weights and order come from a frozen generator; means and conversions may round otherwise",
    ),
    Effect(
        "another interpreter, or other variables",
        (("interpreter", ".+"), ("variables", ".+"), ("threads", "interop_.+")),
        "arithmetic",
        8,
        "rarely: by the order of sets, by what is loaded first",
    ),
    Effect(
        "other packages", (("packages", "(?!ndrepro$).+"),), "arithmetic", 5, "rarely: they take no part in training"
    ),
)
# what moves no number, or is said by another change
_WITHOUT_EFFECT = (
    ("experiment", r"name|environment|segment|checkpoint_\w+|network's .+"),
    ("seeds", "seed"),
    ("gpus", r"device asked for|.*(?:power_limit|persistence|compute_mode|ecc).*"),
    ("packages", "ndrepro|shadowed.*|unreadable.*|leftovers.*"),
    ("machine", r"(?!cpu\.|kernel\.architecture|libc).+"),
    ("variables", "OMP_WAIT_POLICY"),  # how idle threads wait
)


def effect_of(group: str, name: str) -> Effect | None:
    """What a change can do; None for what moves no number. A setting that is not known here can do anything."""
    if group == "packages" and not name.startswith(("edited file ", "loaded ")):
        # "conda mkl: version", "torch: origin": each a difference of that package
        name = name.removeprefix("conda ").partition(": ")[0]
    if any(group == its and re.fullmatch(pattern, name) for its, pattern in _WITHOUT_EFFECT):
        return None
    known = next((effect for effect in EFFECTS if effect.covers(group, name)), None)
    if known is None and group == "experiment":
        return Effect("another setting", (("experiment", ".+"),), "anything", 55, "it was asked for otherwise")
    return known
