"""Which network takes which images under which method, answered from facts alone."""

from __future__ import annotations

from collections.abc import Iterator

from ndrepro.protocol.experiment.catalogue import DATASETS, DESIGNS, METHODS, DatasetFacts, NetworkVariant


def image_size(facts: DatasetFacts, size: int | None, crop: int | None) -> int:
    """The side in pixels of the images that a network gets."""
    return crop or size or facts.size


def combinations() -> Iterator[tuple[str, str, str]]:
    """Every (architecture, method, data set) that makes an experiment, by names, without any setting."""
    for dataset, facts in DATASETS.items():
        for arch, design in DESIGNS[facts.design].items():
            side = image_size(facts, None, design.recipe.crop)
            if fits(design, side):
                yield from ((arch, method, dataset) for method in METHODS if method in design.methods)


def fits(design: NetworkVariant, side: int) -> bool:
    """Whether a network takes images of so many pixels a side."""
    return design.smallest <= side and (design.largest is None or side <= design.largest)
