"""Which network takes which images under which method: asked before a run starts, answered from facts alone.

1. the network has a form for the data set (``catalogue.DESIGNS``)
2. that form has the method
3. the images can be brought to the size asked for: ``size`` pads them with black or averages squares of pixels,
   ``crop`` cuts out the middle (or, with augmentation, anywhere)
4. what the network then gets is neither too small nor too large for it
5. what is asked of images and of dropout has something to act on
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.catalogue import (
    ARCHITECTURES,
    DATASETS,
    DESIGNS,
    METHODS,
    DatasetFacts,
    NetworkVariant,
    design_of,
)
from ndrepro.protocol.experiment.own import is_own_network

if TYPE_CHECKING:
    from ndrepro.protocol.experiment.experiment import Experiment


def image_size(facts: DatasetFacts, size: int | None, crop: int | None) -> int:
    """The side in pixels of the images that a network gets."""
    return crop or size or facts.size


def combinations() -> Iterator[tuple[str, str, str]]:
    """Every (architecture, method, data set) that makes an experiment, by names, without any setting."""
    for dataset, facts in DATASETS.items():
        for arch, design in DESIGNS[facts.design].items():
            side = image_size(facts, None, design.recipe.crop)
            if _fits(design, side):
                yield from ((arch, method, dataset) for method in METHODS if method in design.methods)


def check(experiment: Experiment) -> None:
    """Raises UsageError, with a cure, for a combination that no run could mean.

    What images a network of the user's own takes shows when it is built.
    """
    if is_own_network(experiment.arch):
        _check_sizes(experiment)  # 3
    else:
        _check_network(experiment)
    _check_data_settings(experiment)  # 5
    if experiment.validation:
        _check_validation(experiment)


def _check_network(experiment: Experiment) -> None:
    arch, method, dataset = experiment.arch, experiment.method, experiment.dataset
    design = design_of(arch, dataset)
    if design is None:  # 1
        takes = ", ".join(DESIGNS[experiment.facts.design])
        raise UsageError(f"{arch} on {dataset}: there is no such network for it", f"{dataset} takes {takes}")
    if method not in design.methods:  # 2
        raise UsageError(
            f"{method} for {arch}: {_why_not(arch, method)}", f"methods of {arch} are {', '.join(design.methods)}"
        )
    _check_sizes(experiment)  # 3
    side = experiment.image_size
    if not _fits(design, side):  # 4
        raise UsageError(
            f"{arch} takes images of {_range(design)}, and {dataset} gives it {side}x{side}",
            _cure(design, dataset, experiment.facts.size, experiment.crop),
        )
    if experiment.dropout is not None and design.dropout is None:  # 5
        raise UsageError(f"dropout={experiment.dropout}: {arch} has no dropout layer", "leave dropout out")


def _reads_photographs(experiment: Experiment) -> bool:
    """Whether images are cut from photographs of any size, file by file."""
    return experiment.facts.design == "imagenet"


def _check_sizes(experiment: Experiment) -> None:
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


def _check_data_settings(experiment: Experiment) -> None:
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


def _check_validation(experiment: Experiment) -> None:
    asked = f"validation={experiment.validation!r}"
    if not 0 < experiment.validation < 1:
        raise UsageError(f"{asked}, expected a fraction of the training images, below 1")
    if experiment.test_images is not None:
        raise UsageError(
            f"test_images={experiment.test_images} with {asked}: no test image is used then", "leave test_images out"
        )


def _fits(design: NetworkVariant, side: int) -> bool:
    return design.smallest <= side and (design.largest is None or side <= design.largest)


def _range(design: NetworkVariant) -> str:
    if design.largest is None:
        return f"{design.smallest}x{design.smallest} or more"
    return f"{design.smallest}x{design.smallest} to {design.largest}x{design.largest}"


def _why_not(arch: str, method: str) -> str:
    if method == "bn":
        return "it has no batch norm"
    return "it is meant for small_inception" if method == "bn_downsample" else "it has no such form"


def _cure(design: NetworkVariant, dataset: str, own: int, crop: int | None) -> str:
    """The size nearest to the images' own that the network takes and that they can be brought to, if there is one."""
    if crop is not None:
        return f"leave crop out, or crop to {_range(design)}"
    sides = [own // part for part in range(1, own + 1) if own % part == 0 and _fits(design, own // part)]
    sides += [design.smallest] if design.smallest > own else []
    others = [arch for arch in ARCHITECTURES if (other := design_of(arch, dataset)) and _fits(other, own)]
    choose = f"choose a network that takes {own}x{own}, such as {', '.join(others[:3])}" if others else ""
    return " or ".join(filter(None, [f"add --set size={max(sides)}" if sides else "", choose]))
