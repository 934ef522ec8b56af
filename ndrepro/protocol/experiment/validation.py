"""What no run could mean: refused before anything starts, each with a cure, from the settings and facts alone.

1. the network has a form for the data set (``catalogue.DESIGNS``)
2. that form has the method
3. the images can be brought to the size asked for: ``size`` pads them with black or averages squares of pixels,
   ``crop`` cuts out the middle (or, with augmentation, anywhere)
4. what the network then gets is neither too small nor too large for it
5. what is asked of images and of dropout has something to act on

What only the machine can tell (no such GPU, no compiler) is checked by ``ndrepro.training.compute.precision``; what
images a network of the user's own takes shows when it is built.
"""

from __future__ import annotations

import re

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.bit_flip import Nudge
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DESIGNS, NetworkVariant, design_of
from ndrepro.protocol.experiment.combinations import fits
from ndrepro.protocol.experiment.declaration import SETTINGS, ExperimentSettings
from ndrepro.protocol.experiment.own import LONGEST_NETWORK, OWN_DATASET, OWN_METHODS, OwnImages, is_own_network
from ndrepro.protocol.experiment.setting import expect_choice

_DIGEST = re.compile(r"[0-9a-f]{64}")
# the canonical level is one order of float32 operations, written out: all that it allows
_CANONICAL = {"processes": (1,), "precision": ("auto", "fp32"), "compile": (False,)}


def check(experiment: ExperimentSettings) -> None:
    """Raises UsageError, with the key, the value and what was expected, for settings that no run could mean."""
    if not is_own_network(experiment.arch):
        expect_choice("arch", experiment.arch, ARCHITECTURES)
    for key, setting in SETTINGS.items():
        setting.check(experiment.value(key))
    Nudge.parse(experiment.nudge)
    if not experiment.drop_fractions:
        raise UsageError(
            f"drops={experiment.drops!r}, expected fractions of the training between 0 and 1, ascending",
            "e.g. --set drops=0.5,0.75",
        )
    _check_modes(experiment)
    _check_own(experiment)
    if not experiment.is_described:
        return
    if is_own_network(experiment.arch):
        _check_sizes(experiment)  # 3
    else:
        _check_network(experiment)
    _check_data_settings(experiment)  # 5
    if experiment.validation:
        _check_validation(experiment)


def _check_modes(experiment: ExperimentSettings) -> None:
    processes, precision = experiment.processes, experiment.precision
    if experiment.determinism == "canonical":
        _check_canonical(experiment)
    if processes > experiment.batch_size:
        raise UsageError(
            f"processes={processes}, batch_size={experiment.batch_size}: a process would have no image of a batch",
            "choose fewer processes or a larger batch",
        )
    if precision == "tf32" and experiment.device == "cpu":
        raise UsageError(
            "precision=tf32 with device=cpu: TF32 is a mode of NVIDIA GPUs", "choose precision=fp32, or device=cuda"
        )
    if experiment.compile and processes > 1 and experiment.statistics == "global":
        raise UsageError(
            f"compile=true with processes={processes} and statistics=global: statistics are exchanged in between",
            "add --set statistics=process, or leave compile out",
        )


def _check_canonical(experiment: ExperimentSettings) -> None:
    if experiment.threads != 1:
        raise UsageError(
            f"threads={experiment.threads} under determinism=canonical: it is defined with one thread",
            "add --set threads=1",
        )
    for key, allowed in _CANONICAL.items():
        if (value := experiment.value(key)) not in allowed:
            raise UsageError(
                f"{key}={str(value).lower()} under determinism=canonical: it is defined for one process, in float32, "
                "not compiled",
                f"leave {key} out, or choose --determinism deterministic",
            )
    if experiment.deconv_kernel != "reference":
        raise UsageError(
            f"deconv_kernel={experiment.deconv_kernel} under determinism=canonical: it is defined for the reference "
            "kernel",
            "add --set deconv_kernel=reference",
        )


def _check_own(experiment: ExperimentSettings) -> None:
    arch, source = experiment.arch, experiment.network_source
    if experiment.dataset != OWN_DATASET and experiment.own != OwnImages():
        raise UsageError(
            f"own.… for {experiment.dataset}: these settings describe the data set {OWN_DATASET}", "leave them out"
        )
    if not is_own_network(arch):
        if source is not None:
            raise UsageError(f"network_source={source}: {arch} is a network of this project", "leave it out")
        return
    if len(arch) > LONGEST_NETWORK:
        raise UsageError(f"{arch}: {len(arch)} letters, expected at most {LONGEST_NETWORK}", "give it a shorter name")
    if experiment.method not in OWN_METHODS:
        raise UsageError(
            f"{experiment.method} for {arch}: it is defined for networks of this project",
            f"methods of a network of your own are {', '.join(OWN_METHODS)}",
        )
    if experiment.determinism == "canonical":
        raise UsageError(
            f"determinism=canonical for {arch}: it is defined for networks of this project",
            "choose --determinism deterministic",
        )
    if source is not None and not _DIGEST.fullmatch(source):
        raise UsageError(f"network_source={source!r}: expected 64 hexadecimal digits", "leave it out: it is filled in")


def _check_network(experiment: ExperimentSettings) -> None:
    arch, method, dataset = experiment.arch, experiment.method, experiment.dataset
    design = design_of(arch, dataset)
    if design is None:  # 1
        takes = ", ".join(DESIGNS[experiment.facts.design])
        raise UsageError(f"{arch} on {dataset}: there is no such network for it", f"{dataset} takes {takes}")
    if method not in design.methods:  # 2
        raise UsageError(
            f"{method} for {arch}: {_why_not(method)}", f"methods of {arch} are {', '.join(design.methods)}"
        )
    _check_sizes(experiment)  # 3
    side = experiment.image_size
    if not fits(design, side):  # 4
        raise UsageError(
            f"{arch} takes images of {_range(design)}, and {dataset} gives it {side}x{side}",
            _cure(design, dataset, experiment.facts.size, experiment.crop),
        )
    if experiment.dropout is not None and design.dropout is None:  # 5
        raise UsageError(f"dropout={experiment.dropout}: {arch} has no dropout layer", "leave dropout out")


def _reads_photographs(experiment: ExperimentSettings) -> bool:
    """Whether images are cut from photographs of any size, file by file."""
    return experiment.facts.design == "imagenet"


def _check_sizes(experiment: ExperimentSettings) -> None:
    dataset, own, size, crop = experiment.dataset, experiment.facts.size, experiment.size, experiment.crop
    if size is not None and size < own and own % size and not _reads_photographs(experiment):
        divisors = [str(own // part) for part in range(2, own // 4 + 1) if own % part == 0]
        raise UsageError(
            f"size={size}: images of {dataset} are {own}x{own}, which are averaged over whole squares only",
            f"smaller sizes are {', '.join(divisors)}; larger ones are padded with black",
        )
    if crop is not None and _reads_photographs(experiment):
        raise UsageError(f"crop={crop}: images of {dataset} are cropped to their size as they are read", "set size")
    if crop is not None and crop > (size or own):
        raise UsageError(f"crop={crop}: images are {size or own}x{size or own}", f"crop at most {size or own}")


def _check_data_settings(experiment: ExperimentSettings) -> None:
    pixels, jitter = experiment.corrupt.pixels, experiment.jitter
    if jitter and not (experiment.augment and experiment.facts.channels == 3):
        raise UsageError(f"jitter={jitter}: it is part of augmentation, of colour images", "leave jitter out")
    if pixels != "none" and experiment.augment:
        raise UsageError(
            f"corrupt.pixels={pixels} with augment=true: crops and flips would move the pixels again",
            "add --set augment=false",
        )
    whole = {"corrupt.pixels": pixels != "none", "whiten": experiment.whiten, "validation": experiment.validation}
    for key, asked in whole.items():
        if asked and _reads_photographs(experiment):
            raise UsageError(f"{key}={experiment.value(key)!r}: {experiment.dataset} is read file by file, as it is")
    if experiment.corrupt.test_pixels and pixels == "none":
        raise UsageError("corrupt.test_pixels=True: corrupt.pixels is 'none'", "set corrupt.pixels too")


def _check_validation(experiment: ExperimentSettings) -> None:
    asked = f"validation={experiment.validation!r}"
    if not 0 < experiment.validation < 1:
        raise UsageError(f"{asked}, expected a fraction of the training images, below 1")
    if experiment.test_images is not None:
        raise UsageError(
            f"test_images={experiment.test_images} with {asked}: no test image is used then", "leave test_images out"
        )


def _range(design: NetworkVariant) -> str:
    if design.largest is None:
        return f"{design.smallest}x{design.smallest} or more"
    return f"{design.smallest}x{design.smallest} to {design.largest}x{design.largest}"


def _why_not(method: str) -> str:
    if method == "bn":
        return "it has no batch norm"
    return "it is meant for small_inception" if method == "bn_downsample" else "it has no such form"


def _cure(design: NetworkVariant, dataset: str, own: int, crop: int | None) -> str:
    """The size nearest to the images' own that the network takes and that they can be brought to, if there is one."""
    if crop is not None:
        return f"leave crop out, or crop to {_range(design)}"
    sides = [own // part for part in range(1, own + 1) if own % part == 0 and fits(design, own // part)]
    sides += [design.smallest] if design.smallest > own else []
    others = [arch for arch in ARCHITECTURES if (other := design_of(arch, dataset)) and fits(other, own)]
    choose = f"choose a network that takes {own}x{own}, such as {', '.join(others[:3])}" if others else ""
    return " or ".join(filter(None, [f"add --set size={max(sides)}" if sides else "", choose]))
