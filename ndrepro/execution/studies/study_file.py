"""Finds studies and reads their files: ``studies/NAME.toml`` by name, any other TOML file by its path.

A file is checked whole when it is read, down to every run and every environment that it names; what is wrong is a
UsageError with the file, the key and the cure, long before anything is trained.
"""

from __future__ import annotations

from pathlib import Path

from ndrepro.execution.environments import matrix
from ndrepro.execution.studies.search_results import read_values
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.image_reference import MAIN, is_image
from ndrepro.protocol.project_folders import project_folder
from ndrepro.protocol.study.study import Study
from ndrepro.protocol.study.study_schema import from_document
from provenance.errors import NotFoundError
from provenance.toml_file import read_toml


def studies_folder() -> Path:
    """The folder of the studies that are known by name."""
    return project_folder("studies")


def study_files(folder: Path | None = None) -> tuple[Path, ...]:
    """The files of the studies that are known by name."""
    return tuple(sorted((folder or studies_folder()).glob("*.toml")))


def find_study(name_or_file: str, folder: Path | None = None) -> Path:
    """The file of a study. Raises UsageError with the nearest names for an unknown one, NotFoundError for a path."""
    known = {path.stem: path for path in study_files(folder)}
    if name_or_file in known:
        return known[name_or_file]
    path = Path(name_or_file)
    if path.suffix == ".toml" or "/" in name_or_file:
        if path.is_file():
            return path
        raise NotFoundError(
            f"{path}: no such study file", "check the path; `ndrepro study list` has the studies by name"
        )
    raise UsageError(f"no study '{name_or_file}'", f"{suggestion(name_or_file, known)} (a file's name ends with .toml)")


def load_study(path: Path) -> Study:
    """Read and check a study file.

    Raises UsageError for whatever is wrong with it, NotFoundError or StorageError for no file.
    """
    document = read_toml(path, "see studies/smoke.toml for how one is written")
    study = from_document(path.stem, document, str(path), found=lambda search: read_values(path, search))
    _check_environments(study, path)
    return study


def _check_environments(study: Study, path: Path) -> None:
    """Every environment that a run names is a cell of the version matrix, or an image, which is looked for later."""
    cells = {cell.name for cell in matrix.list_cells()} | {MAIN}
    for run in study.runs():
        if is_image(run.environment):
            continue
        if run.environment not in cells:
            cells |= {cell.name for cell in matrix.added_cells()}
        if run.environment not in cells:
            raise UsageError(
                f"{path}: grids.{run.grid}: environment='{run.environment}' is not in the version matrix",
                suggestion(run.environment, sorted(cells)),
            )
