"""The container images of a study, kept beside its runs on request."""

from __future__ import annotations

from pathlib import Path

from ndrepro.execution.containers import image_archive
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.studies.plan import StudyPlan
from ndrepro.protocol.errors import UsageError


def keep_images(plan: StudyPlan, options: RunOptions) -> tuple[Path, ...]:
    """Keep every image that a run of the plan is made in, once; their paths.

    Raises UsageError where no run is in an image, EngineError or StorageError where one cannot be kept.
    """
    if not plan.images:
        raise UsageError(
            f"--archive-image: no run of {plan.study.name} is in a container image", "name one with --in and --image"
        )
    return tuple(image_archive.keep(image, options.runs.images, options.home) for image in plan.images)
