"""Studies as plain documents, as a TOML file holds them, read strictly: the whole study is checked before any run.

    title = "one line"
    [settings]                        of every run: any setting of an experiment, or environment
    epochs = 20
    [[resources]]                     what the runs that `when` describes need; later ones override
    when = { arch = ["dpn92", "densenet121"] }
    gpu_memory_gib = 16
    memory_gib = 12                   under Slurm: of each machine; by default estimated
    minutes = 300
    nodes = 2                         under Slurm: machines that the run's processes are shared by
    [grids.main]
    title = "one line"
    settings = { dataset = "cifar10" }
    axes = { seed = [0, 1, 2], arch = ["vgg16", "dpn92"], method = ["bn", "nd"] }
    exclude = [{ arch = "dpn92", seed = [1, 2] }]
    include = [{ arch = "lenet", method = "none" }]
    [search]                          see ndrepro.protocol.study.search_space

A row's value may be one value or a list of them. Dotted keys (``deconv.block``) are written so or as tables. Where a
setting may be none, the word "none" says so. Whatever is wrong is a UsageError that names the file, the place in it,
the key and the nearest right words. Law: ``from_document(name, to_document(study)) == study``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from ndrepro.protocol.document_place import DocumentPlace
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.experiment.experiment import SETTINGS, Experiment
from ndrepro.protocol.experiment.sections import Seeds
from ndrepro.protocol.experiment.settings import leaves
from ndrepro.protocol.study.search_space import Search, Target, target_of
from ndrepro.protocol.study.study import ENVIRONMENT, Grid, Need, Resources, Study, StudyRun, Value, describes

_STUDY_KEYS = ("title", "settings", "resources", "grids", "search")
_GRID_KEYS = ("title", "settings", "axes", "exclude", "include")
_EXAMPLE = "see studies/smoke.toml for how one is written"
_MOST_EPOCHS = 99_999  # what a name can hold
_MOST_OF_ANYTHING = 1e9  # of minutes and GiB alike
_MOST_POINTS = 100_000  # every one is made and checked before any is run: a slip of the pen must not take a day
_RESOURCE_KEYS = tuple(item.name for item in fields(Resources))
_KEYS = (*SETTINGS, ENVIRONMENT)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def from_document(
    name: str,
    document: Mapping[str, Any],
    file: str = "",
    found: Callable[[Search], Mapping[Target, Mapping[str, float]]] = lambda search: {},
) -> Study:
    """The study in a document, all of its runs checked. Raises UsageError; ``file`` is what its messages name.

    ``found`` is asked for the values that the study's search has found, where it has one.
    """
    root = DocumentPlace(file or name, _EXAMPLE)
    tables = root.members(document, _STUDY_KEYS)
    grids = root.at("grids").table(tables.get("grids"))
    if not grids:
        raise root.error("grids: there are none", "add one: [grids.main] with axes = { … }")
    search = _search(root.at("search"), tables["search"]) if "search" in tables else None
    made = tuple(_grid(grid, root.at("grids").at(grid), table) for grid, table in grids.items())
    rows = [row for grid in made for row in (grid.axes, *grid.include) if row]
    points = sum(math.prod(len(values) for values in row.values()) for row in rows)
    if points > _MOST_POINTS:
        raise root.error(f"{points:,} points, at most {_MOST_POINTS:,}", "take values out, or make several studies")
    study = Study(
        name=name,
        title=root.at("title").text(tables.get("title")),
        grids=made,
        settings=_settings(root.at("settings"), tables.get("settings", {})),
        needs=tuple(_needs(root.at("resources"), tables.get("resources", []))),
        search=search,
        found={} if search is None else found(search),
    )
    if search is not None:
        _check_search(study, search, root.at("search"))
    _check_runs(study, root)
    return study


def to_document(study: Study) -> dict[str, Any]:
    """The plain document of a study, without what is empty."""
    return _without_empty(
        {
            "title": study.title,
            "settings": _spelled(study.settings),
            "resources": [_need_document(need) for need in study.needs],
            "grids": {grid.name: _grid_document(grid) for grid in study.grids},
            "search": {} if study.search is None else study.search.to_document(),
        }
    )


def _grid(name: str, place: DocumentPlace, document: Any) -> Grid:
    if not _NAME.fullmatch(name):
        raise place.error("a grid's name has letters, digits, _ and - only", "rename it")
    table = place.members(document, _GRID_KEYS)
    axes = _choice(place.at("axes"), table.get("axes"), lists_only=True)
    exclude = tuple(_choice(*row) for row in place.at("exclude").rows(table.get("exclude", [])))
    include = tuple(_choice(*row) for row in place.at("include").rows(table.get("include", [])))
    if not axes and not include:
        raise place.error("an empty grid: neither axes nor include", "give it axes, e.g. axes = { seed = [0, 1, 2] }")
    title, settings = place.at("title").text(table.get("title")), _settings(place.at("settings"), table.get("settings"))
    for key in axes:
        if key in settings:
            raise place.at("axes").error(f"'{key}' is an axis and one of the grid's settings", "take it out of one")
    return Grid(name, title, settings, axes, exclude, include)


def _settings(place: DocumentPlace, document: Any) -> dict[str, Value]:
    return {key: _typed(place, key, value) for key, value in leaves(place.table(document))}


def _choice(place: DocumentPlace, document: Any, lists_only: bool = False) -> dict[str, tuple[Value, ...]]:
    """Keys with their values; a single value is a list of one, unless ``lists_only``."""
    chosen: dict[str, tuple[Value, ...]] = {}
    for key, value in leaves(place.table(document)):
        if lists_only and not isinstance(value, list):
            raise place.error(f"{key}={value!r}, expected a list of values", f"write {key} = [{value!r}]")
        values = tuple(_typed(place, key, each) for each in (value if isinstance(value, list) else [value]))
        if not values:
            raise place.error(f"{key} is empty, so there is nothing to run", "give it values, or take it out")
        if twice := [each for each, count in Counter(map(repr, values)).items() if count > 1]:
            raise place.error(f"{key} has {twice[0]} twice, so its runs come twice", "give each value once")
        chosen[key] = values
    if not chosen and not lists_only:
        raise place.error("an empty row, which describes every run", "name at least one key")
    return chosen


def _needs(place: DocumentPlace, document: Any) -> Iterator[Need]:
    for row_place, row in place.rows(document):
        table = row_place.members(row, ("when", *_RESOURCE_KEYS))
        amounts = {key: table[key] for key in _RESOURCE_KEYS if key in table}
        for key, amount in amounts.items():
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 < amount < _MOST_OF_ANYTHING:
                raise row_place.error(f"{key}={amount!r}, expected a number above 0 and below {_MOST_OF_ANYTHING:g}")
            if key == "nodes" and not isinstance(amount, int):
                raise row_place.error(f"nodes={amount!r}, expected a whole number")
        if not amounts:
            raise row_place.error("says nothing that is needed", f"give {' or '.join(_RESOURCE_KEYS)}")
        when = _choice(row_place.at("when"), table["when"]) if "when" in table else {}
        nodes = amounts.pop("nodes", None)
        yield Need(Resources(**{key: float(amount) for key, amount in amounts.items()}, nodes=nodes), when)


def _typed(place: DocumentPlace, key: str, value: Any) -> Value:
    """The value as the experiment has it: "none" where that can be, whole numbers for numbers."""
    if key not in _KEYS:
        raise place.error(f"unknown key '{key}'", suggestion(key, _KEYS))
    known = {"arch": ARCHITECTURES, "method": METHODS, "dataset": DATASETS}.get(key)
    if known is not None and value not in known:
        raise place.error(f"{key}={value!r} is not known", suggestion(str(value), known))
    setting = SETTINGS["arch"] if key == ENVIRONMENT else SETTINGS[key]  # an environment is a word like that
    if value == "none" and type(None) in setting.kinds:
        return None
    if not setting.accepts(value):
        raise place.error(f"{key}={value!r}, expected {setting.type_name}{' in quotes' * (str in setting.kinds)}")
    if key == "epochs" and not 0 <= value <= _MOST_EPOCHS:
        raise place.error(f"epochs={value!r}, expected 0 to {_MOST_EPOCHS}")
    return float(value) if float in setting.kinds else value


def _search(place: DocumentPlace, document: Any) -> Search:
    try:
        return Search.from_document(place.table(document))
    except UsageError as error:
        raise place.error(error.message, error.cure) from None


def _check_search(study: Study, search: Search, place: DocumentPlace) -> None:
    """The grid is there, its runs are as long as the last rung, and nothing that is searched is also given."""
    names = [grid.name for grid in study.grids]
    if search.grid not in names:
        raise place.error(f"grid='{search.grid}': there is none", suggestion(search.grid, names))
    grid = study.grid(search.grid)
    for key in search.space:
        if key in grid.varied or key in grid.settings or key in study.settings:
            raise place.at("space").error(f"'{key}' is searched, and given to the grid too", "take it out of one")
    bases: dict[Target, Experiment] = {}
    for run in _runs_of(study, grid, DocumentPlace(place.file, place.example, ("grids", grid.name))):
        _check_base(place, search, run.experiment, bases)


def _check_base(place: DocumentPlace, search: Search, experiment: Experiment, bases: dict[Target, Experiment]) -> None:
    if experiment.epochs != search.rungs[-1]:
        raise place.error(
            f"rungs end with {search.rungs[-1]} epochs, and the grid has {experiment.name} with {experiment.epochs}",
            "end the rungs with the epochs of the grid's runs",
        )
    alike = replace(experiment, seed=0, seeds=Seeds())
    base = bases.setdefault(target_of(experiment), alike)
    if base != alike:
        raise place.error(
            f"runs of {experiment.name} differ in more than their seeds",
            "a grid with a search has one setting for each network and data set",
        )
    if base is not alike:  # its values were tried with the first of these runs
        return
    for edge in ("low", "high"):
        try:
            search.experiment(experiment, 0, {key: getattr(span, edge) for key, span in search.space.items()})
        except UsageError as error:
            raise place.error(error.message, error.cure) from None


def _check_runs(study: Study, root: DocumentPlace) -> None:
    """Every point makes an experiment, no run comes twice, and every row of a list describes something."""
    runs: dict[str, StudyRun] = {}
    idle = set(range(len(study.needs)))
    for grid in study.grids:
        place = root.at("grids").at(grid.name)
        _check_excluded(study, grid, place)
        for point, run in zip(grid.points(study.settings), _runs_of(study, grid, place), strict=True):
            twin = runs.setdefault(run.identity, run)
            if twin is not run:
                where = "twice" if twin.grid == grid.name else f"here and in grids.{twin.grid}"
                raise place.error(f"the run '{run.label}' comes {where}", "keep one of them")
            idle -= {number for number in idle if describes(study.needs[number].when, point, run.experiment)}
    for number in sorted(idle):
        raise root.error(f"resources[{number + 1}]: when describes no run", "correct it, or remove it")


def _check_excluded(study: Study, grid: Grid, place: DocumentPlace) -> None:
    everything = list(Grid(grid.name, settings=grid.settings, axes=grid.axes).points(study.settings))
    for number, row in enumerate(grid.exclude, 1):
        if not any(describes(row, point) for point in everything):
            raise place.error(f"exclude[{number}] describes no run of the axes", "correct it, or remove it")
    if not any(True for _ in grid.points(study.settings)):
        raise place.error("an empty grid: exclude takes out every run of it", "exclude less, or remove the grid")


def _runs_of(study: Study, grid: Grid, place: DocumentPlace) -> tuple[StudyRun, ...]:
    try:
        return study.runs_of(grid)
    except UsageError as error:
        raise _origin(study, grid, place, error.message).error(error.message, error.cure) from None


def _origin(study: Study, grid: Grid, place: DocumentPlace, message: str) -> DocumentPlace:
    """Where the key that a complaint begins with was given, as far as is known."""
    key = message.partition("=")[0]
    if key in grid.axes:
        return place.at("axes")
    if any(key in row for row in grid.include):
        return place.at("include")
    if key in grid.settings:
        return place.at("settings")
    return DocumentPlace(place.file, place.example, ("settings",)) if key in study.settings else place


def _grid_document(grid: Grid) -> dict[str, Any]:
    return _without_empty(
        {
            "title": grid.title,
            "settings": _spelled(grid.settings),
            "axes": _spelled(grid.axes),
            "exclude": [_spelled(row) for row in grid.exclude],
            "include": [_spelled(row) for row in grid.include],
        }
    )


def _need_document(need: Need) -> dict[str, Any]:
    amounts = {key: getattr(need.resources, key) for key in _RESOURCE_KEYS}
    given = {key: amount for key, amount in amounts.items() if amount is not None}
    return _without_empty({"when": _spelled(need.when), **given})


def _spelled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values as TOML has them: tuples as lists, ``None`` as the word."""
    return {key: _word(value) for key, value in settings.items()}


def _word(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_word(each) for each in value]
    return "none" if value is None else value


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in ("", {}, [])}
