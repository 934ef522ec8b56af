"""Own results that can hardly be right: what is looked for in verified runs before anything is concluded from them.

1. **not-finite**            an accuracy or loss that is no finite number
2. **above-best-known**      test accuracy above the best of the data set in published/best_known.csv, with its source
3. **train-as-test**         training and test results are the same numbers
4. **above-training**        test accuracy far above training accuracy: of a short training with augmentation it may be
5. **guessing**              test accuracy no better than the share of one class
6. **same-seed-again**       runs that asked for the same, seeds and environments: they are no independent attempts
7. **seed-without-effect**   other seeds, and the same results to the last bit, or the same trail
8. **other-network**         layers that the method's name excludes, another number of parameters than the released
                             code's network of that name, or than others of its name here
9. **without-spread**        an experiment with one seed only

1, 2, 3, 7 and 8 cannot be; the others are to be looked at. Results are those of ``ndrepro.analysis.results.results``,
hence of verified manifests; layers and the trail's digest are read from the same manifests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.analysis.results.result_row import ResultRow, manifest_of
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.experiment.experiment import STREAMS
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_record import TrainingRecord

Item = TypeVar("Item")
CANNOT_BE, LOOK = "cannot be", "look"
FAR_ABOVE_POINTS = 20.0
GUESSING_MARGIN = 1.05


@dataclass(frozen=True)
class Doubt:
    """What can hardly be right: which check, how grave (cannot be, look), of which runs, in words."""

    check: str
    gravity: str
    runs: tuple[str, ...]
    text: str


def doubts(scores: Sequence[ResultRow]) -> tuple[Doubt, ...]:
    """Everything that is found in some verified, completed runs; what cannot be comes first."""
    found = [doubt for check in CHECKS for doubt in check(scores)]
    return tuple(sorted(found, key=lambda doubt: doubt.gravity != CANNOT_BE))


def _not_finite(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for row in scores:
        if not row.finite:
            accuracies = f"accuracies {row.train_accuracy_percent} and {row.test_accuracy_percent}"
            values = f"losses {row.train_loss} and {row.test_loss}, {accuracies}"
            yield Doubt("not-finite", CANNOT_BE, (row.run_id,), f"{row.name}, seed {row.seed}: {values}")


def _above_best_known(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    best = {line["dataset"]: line for line in published_tables()["best_known"].rows()}
    for row in scores:
        known = best.get(row.dataset)
        if known and row.test_accuracy_percent > known["best_known_accuracy_pct"]:
            limit = f"{known['best_known_accuracy_pct']:.2f} % ({known['reference']})"
            text = f"{row.name}, seed {row.seed}: test {row.test_accuracy_percent:.2f} %, the best known is {limit}"
            yield Doubt("above-best-known", CANNOT_BE, (row.run_id,), text)


def _train_as_test(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for row in scores:
        if row.finite and (row.train_accuracy_percent, row.train_loss) == (row.test_accuracy_percent, row.test_loss):
            text = f"{row.name}, seed {row.seed}: training and test have the same accuracy and loss to the last bit"
            yield Doubt("train-as-test", CANNOT_BE, (row.run_id,), text)


def _above_training(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for row in scores:
        if row.finite and row.test_accuracy_percent > row.train_accuracy_percent + FAR_ABOVE_POINTS:
            train, test = row.train_accuracy_percent, row.test_accuracy_percent
            text = f"{row.name}, seed {row.seed}: test {test:.2f} %, train {train:.2f} %"
            yield Doubt("above-training", LOOK, (row.run_id,), text)


def _guessing(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for row in scores:
        classes = DATASETS[row.dataset].num_classes if row.dataset in DATASETS else 0
        if classes and row.finite and row.test_accuracy_percent <= GUESSING_MARGIN * 100 / classes:
            test = row.test_accuracy_percent
            text = f"{row.name}, seed {row.seed}: test {test:.2f} %, guessing gives {100 / classes:.2f} %"
            yield Doubt("guessing", LOOK, (row.run_id,), text)


def _same_seed_again(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for rows in _together(scores, lambda row: row.identity):
        if len(rows) > 1:
            text = (
                f"{rows[0].name}, seed {rows[0].seed}: {len(rows)} runs asked for the same; they count as one attempt"
            )
            yield Doubt("same-seed-again", LOOK, _ids(rows), text)


def _seed_without_effect(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for rows in _together(
        scores, lambda row: (*row.experiment, *row.execution_environment[1:])
    ):  # whatever the environment is called
        for same in _together((row for row in rows if row.finite), _results):
            seeds = {tuple(row.seed_of(stream) for stream in STREAMS) for row in same}
            if len(seeds) > 1:
                text = f"{same[0].name}: {len(seeds)} different seeds gave the same results to the last bit"
                yield Doubt("seed-without-effect", CANNOT_BE, _ids(same), text)
        trails = ((row, _trail(row)) for row in rows)
        for pairs in _together(((row, trail) for row, trail in trails if trail), lambda pair: pair[1]):
            seeds = {tuple(row.seed_of(stream) for stream in STREAMS) for row, _ in pairs}
            if len(seeds) > 1 and len({_results(row) for row, _ in pairs}) > 1:
                text = f"{pairs[0][0].name}: {len(seeds)} different seeds have the same trail"
                yield Doubt("seed-without-effect", CANNOT_BE, _ids([row for row, _ in pairs]), text)


def _other_network(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for rows in _together(scores, lambda row: (row.arch, row.method, row.dataset, str(row.settings))):
        counts = {row.parameters for row in rows if row.parameters is not None}
        if len(counts) > 1:
            text_of_counts = ", ".join(f"{count:,}" for count in sorted(counts))
            text = f"{rows[0].arch} {rows[0].method} on {rows[0].dataset}: {text_of_counts} parameters under one name"
            yield Doubt("other-network", CANNOT_BE, _ids(rows), text)
    built = {line["architecture"] + line["method"]: line for line in published_tables()["networks"].rows()}
    for row in scores:
        known = built.get(row.arch + row.method)
        # counted for ten classes of colour images, which is CIFAR-10
        if known and row.dataset == "cifar10" and row.parameters not in (None, known["trainable_parameters"]):
            text = (
                f"{row.name}: {row.parameters:,} parameters, the released code's has {known['trainable_parameters']:,}"
            )
            yield Doubt("other-network", CANNOT_BE, (row.run_id,), text)
        if problem := _census_problem(row.method, _census(row)):
            yield Doubt("other-network", _census_gravity(row.method), (row.run_id,), f"{row.name}: {problem}")


def _census_problem(method: str, census: Mapping[str, Any]) -> str:
    """What a network has that its method excludes, or lacks; "" where all is well or nothing is known."""
    norms, plain, whitened = (census.get(f"{kind}_layers") for kind in ("batchnorm2d", "conv2d", "deconv2d"))
    if method in ("nd", "nd_full") and norms:
        return f"called {method}, and has {norms} batch norms ({whitened} deconvolutions, {plain} plain convolutions)"
    if method == "nd_full" and plain:
        return f"called nd_full, and has {plain} plain convolutions"
    if method in ("bn", "none", "bn_downsample") and whitened:
        return f"called {method}, and has {whitened} deconvolutions"
    if method == "none" and norms:
        return f"called none, and has {norms} batch norms"
    return ""


def _census_gravity(method: str) -> str:
    # the released code leaves batch norms in two of its networks with deconvolution; they are called nd all the same
    return LOOK if method == "nd" else CANNOT_BE


def _without_spread(scores: Sequence[ResultRow]) -> Iterator[Doubt]:
    for rows in _together(scores, lambda row: (*row.experiment, row.environment)):
        if len({tuple(row.seed_of(stream) for stream in STREAMS) for row in rows}) == 1:
            yield Doubt("without-spread", LOOK, _ids(rows), f"{rows[0].name}: one seed, hence no spread")


Check = Callable[[Sequence[ResultRow]], Iterator[Doubt]]
CHECKS: tuple[Check, ...] = (
    _not_finite,
    _above_best_known,
    _train_as_test,
    _above_training,
    _guessing,
    _same_seed_again,
    _seed_without_effect,
    _other_network,
    _without_spread,
)


def _results(row: ResultRow) -> tuple[float, ...]:
    return row.train_accuracy_percent, row.test_accuracy_percent, row.train_loss, row.test_loss


def _ids(rows: Iterable[ResultRow]) -> tuple[str, ...]:
    return tuple(row.run_id for row in rows)


def _together(items: Iterable[Item], key: Callable[[Item], Hashable]) -> Iterator[list[Item]]:
    """Items that have the same key, in the order of their first."""
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    yield from groups.values()


def _census(row: ResultRow) -> Mapping[str, Any]:
    manifest = manifest_of(row)
    return TrainingRecord.of(manifest).census if manifest else {}


def _trail(row: ResultRow) -> str | None:
    manifest = manifest_of(row)
    trail = manifest.artifact(RunFolder(row.folder).trail.name) if manifest else None
    return trail.sha256 if trail else None
