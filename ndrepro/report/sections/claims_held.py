"""What the studies claimed, what was run here that bears on it, and what of it holds: one line of the summary each.

A finding is made only where runs have the settings of the publication: its networks, data sets, lengths of training and
recipes (``_FINDINGS``); a smaller study of the same question says nothing about the claim. The verdict follows from the
verified runs by a rule that is written beside it. "Undecided" is one of the verdicts, and always gives its reason.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.analysis.results.results import ResultRow
from ndrepro.analysis.statistics.paired import BETTER as SHOWN
from ndrepro.analysis.statistics.paired import RECOMMENDED_PAIRS, Superiority, superiority
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.experiment.experiment import STREAMS
from ndrepro.report.elements.table import BETTER, WITHIN, WORSE
from ndrepro.report.sections.seed_groups import settings_text
from ndrepro.report.sections.settings import design
from ndrepro.text.plurals import plural, span

HOLDS, OPEN, FAILS = "holds here", "undecided", "does not hold here"
_STANDINGS = {HOLDS: BETTER, OPEN: WITHIN, FAILS: WORSE}
_SHORT_SECONDS = 5.0
_LEAST_PAIRS = 6  # the exact interval of fewer wins, all of them, reaches below one half
_RANKED = ("mnist", "svhn", "cifar10", "cifar100", "emnist_balanced", "tiny_imagenet")
_RANKED_EPOCHS = 120
# the network that the replication ran under the name of ResNet-18 on CIFAR
OWN_NAMES: Mapping[tuple[str, str], str] = {("resnet18", "cifar10"): "resnet18d", ("resnet18", "cifar100"): "resnet18d"}
_FITTED_PERCENT = 98.0  # what the EPFL reproduction of Zhang et al. took for a perfect fit


@dataclass(frozen=True)
class ClaimOutcome:
    """One claim: who made it, the runs that bear on it, the verdict (a word above) and its reason in numbers."""

    key: str
    claim: str
    source: str
    evidence: str
    verdict: str
    reason: str

    @property
    def status(self) -> str:
        """How its verdict is shown."""
        return _STANDINGS[self.verdict]


def findings_of(runs: Sequence[ResultRow]) -> tuple[ClaimOutcome, ...]:
    """Every claim on which these distinct runs bear."""
    found = (make([run for run in runs if published(run)]) for make, published in _FINDINGS)
    return tuple(finding for finding in found if finding is not None)


def pairs_of(runs: Iterable[ResultRow], value: Callable[[ResultRow], float | None]) -> dict[str, dict[Any, float]]:
    """``value`` of every run by method, keyed by all else: pairs with equal keys differ in their method alone."""
    sides: dict[str, dict[Any, float]] = defaultdict(dict)
    for run in runs:
        number = value(run)
        if number is not None:
            drawn = tuple(run.seed_of(stream) for stream in STREAMS)
            key = (run.arch, run.epochs, run.dataset, settings_text(run), run.execution_environment, drawn)
            sides[run.method][key] = number
    return sides


def _deconvolution_better(runs: Sequence[ResultRow]) -> ClaimOutcome | None:
    sides = pairs_of(runs, lambda run: run.test_accuracy_percent)
    shared = [key for key in sides["nd"] if key in sides["bn"]]
    if not shared:
        return None
    wins = sum(sides["nd"][key] > sides["bn"][key] for key in shared)
    ties = sum(sides["nd"][key] == sides["bn"][key] for key in shared)
    tied = f", {ties} equal" if ties else ""
    seeds = len({key[-1] for key in shared})
    evidence = (
        f"{plural(len(shared), 'pair')} with equal seed, settings and environment: {_scope(shared)}, "
        f"{plural(seeds, 'seed')}."
    )
    verdict, reason = OPEN, f"Deconvolution is higher in {wins} of {plural(len(shared), 'pair')}{tied}."
    by_dataset = Counter(key[2] for key in shared)
    if len(by_dataset) > 1:  # a pooled share can hide that data sets disagree
        won = Counter(key[2] for key in shared if sides["nd"][key] > sides["bn"][key])
        reason += (
            f" By data set: {', '.join(f'{name} {won[name]} of {by_dataset[name]}' for name in sorted(by_dataset))}."
        )
    try:
        blocks = {method: _blocks(sides[method], shared) for method in ("nd", "bn")}
        found = superiority(blocks["nd"].values(), [blocks["bn"][key] for key in blocks["nd"]])
    except TooLittle as error:
        reason += f" {error.message[:1].upper()}{error.message[1:]}."
    else:
        low, high = found.low, found.high
        verdict = HOLDS if found.verdict == SHOWN else FAILS if high < 0.5 else OPEN
        reason += (
            f" Share of pairs won (ties half): {found.share:.2f}, exact 95 % interval {low:.2f} to {high:.2f}, "
            f"n = {found.n}."
        )
        if len(blocks["nd"]) < len(shared):  # else one seed would count as often as it was run elsewhere
            note = f"{found.n} from {len(shared)}"
            reason += f" Pairs of one seed in several environments or settings are averaged first: {note}."
        alone = sum(key not in sides["bn"] for key in sides["nd"]) + sum(key not in sides["nd"] for key in sides["bn"])
        reason += f" {plural(alone, 'run')} without a partner left out." if alone else ""
        reason += _undecided(found, low) if verdict == OPEN else ""
        reason += " All pairs have the same seed: other seeds may differ." if seeds == 1 else ""
    return ClaimOutcome(
        "deconvolution_better",
        "Networks with deconvolution reach a higher test accuracy than with batch norm.",
        "Ye et al. 2020, Table 1; Obadage et al. 2025. Rule: at least 75 % of pairs won, interval above one half.",
        evidence,
        verdict,
        reason,
    )


def _blocks(side: Mapping[Any, float], keys: Iterable[Any]) -> dict[Any, float]:
    """Means over all environments and settings of one network, length, data set and seed, which are not independent."""
    found: dict[Any, list[float]] = defaultdict(list)
    for key in keys:
        arch, epochs, dataset, _, _, drawn = key
        found[arch, epochs, dataset, drawn].append(side[key])
    return {block: statistics.fmean(values) for block, values in found.items()}


def _undecided(found: Superiority, low: float) -> str:
    """Why the rule gives no verdict."""
    if found.n < _LEAST_PAIRS:
        return f" Too few pairs for the rule: even if all are won it takes {_LEAST_PAIRS}."
    if low > 0.5:
        return f" The interval is above one half, but less than {100 * found.threshold:g} % of pairs are won."
    few = found.n < RECOMMENDED_PAIRS
    more = f" {RECOMMENDED_PAIRS} independent pairs are recommended (Noether 1987)." if few else ""
    return f" The interval includes one half, so either method may win more often.{more}"


def _deconvolution_slower(runs: Sequence[ResultRow]) -> ClaimOutcome | None:
    sides = pairs_of(runs, lambda run: run.train_seconds or None)
    pairs = [(seconds, sides["bn"][key]) for key, seconds in sides["nd"].items() if key in sides["bn"]]
    if not pairs:
        return None
    ratios = [nd / bn for nd, bn in pairs]
    longer = sum(ratio > 1 for ratio in ratios)
    short = sum(min(pair) < _SHORT_SECONDS for pair in pairs)
    verdict = OPEN if short else HOLDS if longer == len(ratios) else FAILS
    note = f" {short} of the pairs trained for less than {_SHORT_SECONDS:g} s, too short to judge." if short else ""
    return ClaimOutcome(
        "deconvolution_slower",
        "Training takes longer with deconvolution than with batch norm, always (2 % to 358 % more).",
        "Obadage et al. 2025, section 5.3. Rule: longer in every pair.",
        f"Training times of {plural(len(ratios), 'pair')}, identical except for the method.",
        verdict,
        f"Longer in {longer} of {len(ratios)}; {min(ratios):.2f} to {max(ratios):.2f} times as long, "
        f"median {statistics.median(ratios):.2f}. Other work on the machine changes these times.{note}",
    )


def _seed_decides(runs: Sequence[ResultRow]) -> ClaimOutcome | None:
    """Bouthillier et al. 2019: who is best depends on the seed."""
    by_design: dict[Any, dict[int, dict[Any, float]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        if run.finite:
            by_design[(run.dataset, *design(run))][run.seed][(run.arch, run.method)] = run.test_accuracy_percent
    tables = {asked: whole for asked, seeds in by_design.items() if (whole := _complete(seeds))}
    if not tables:
        return None
    winners = {asked: [max(models, key=models.__getitem__) for models in seeds] for asked, seeds in tables.items()}
    changing = sum(len(set(found)) > 1 for found in winners.values())
    models = {model for seeds in tables.values() for model in seeds[0]}
    lines = []
    for asked, found in winners.items():
        best = statistics.mode(found)
        lines.append(f"{asked[0]}: {best[0]} {best[1]} is first under {found.count(best)} of {len(found)} seeds")
    some = "; ".join(lines[:4]) + ("; …" if len(lines) > 4 else "")
    return ClaimOutcome(
        "seed_decides",
        "Which network is best depends on the seed, so that one run of each supports no ranking.",
        "Bouthillier et al. 2019. Rule: another network is first under another seed, on every data set.",
        f"{plural(len(models), 'model')} (network and method), "
        f"{plural(len(tables), 'comparison')} of {span(map(len, tables.values()))} seeds each.",
        HOLDS if changing == len(tables) else FAILS if not changing else OPEN,
        f"The first network depends on the seed in {changing} of {plural(len(tables), 'comparison')}. {some}.",
    )


def _complete(seeds: Mapping[int, dict[Any, float]]) -> list[dict[Any, float]]:
    """The seeds under which every model was run; none where there are fewer than three models or two seeds."""
    models = {model for found in seeds.values() for model in found}
    whole = [seeds[seed] for seed in sorted(seeds) if set(seeds[seed]) == models]
    return whole if len(models) >= 3 and len(whole) >= 2 else []


def _random_labels(runs: Sequence[ResultRow]) -> ClaimOutcome | None:
    """Zhang et al. 2017: random labels are fitted."""
    random = [run for run in runs if run.settings.get("corrupt.labels") == 1]
    if not random:
        return None
    fitted = sum(run.train_accuracy_percent >= _FITTED_PERCENT for run in random)
    best = max(random, key=lambda run: run.train_accuracy_percent)
    tests = [run.test_accuracy_percent for run in random]
    return ClaimOutcome(
        "random_labels",
        "Networks fit labels that are drawn at random, and then classify test images no better than chance.",
        f"Zhang et al. 2017, Figure 1. Rule: every run ends at {_FITTED_PERCENT:g} % train accuracy or above.",
        f"{plural(len(random), 'run')} on labels drawn at random: "
        f"{', '.join(sorted({f'{run.arch} {run.method}, {run.epochs} epochs' for run in random}))}.",
        HOLDS if fitted == len(random) else OPEN,
        f"{fitted} of {len(random)} fitted; the best {best.train_accuracy_percent:.2f} % ({best.arch}). "
        f"Test accuracy {min(tests):.2f} to {max(tests):.2f} %."
        + ("" if fitted == len(random) else " Undecided, because more epochs may fit the others."),
    )


def _scope(keys: Iterable[tuple[Any, ...]]) -> str:
    found = list(keys)
    networks, datasets = len({key[0] for key in found}), sorted({key[2] for key in found})
    lengths = sorted({key[1] for key in found})
    epochs = f"{', '.join(map(str, lengths))} epoch{'' if lengths == [1] else 's'}"
    return f"{plural(networks, 'network')} on {', '.join(datasets)}, {epochs}"


def _as_in_table_1(run: ResultRow) -> bool:
    """Whether a run has a network, a data set, a length and the whole recipe of the deconvolution papers' tables."""
    return not run.settings and (run.arch, run.dataset, run.epochs) in _table_1()


@lru_cache(maxsize=1)
def _table_1() -> frozenset[tuple[str, str, int]]:
    """(network, data set, epochs) of every published accuracy, networks by the names that runs have here."""
    tables = published_tables()
    lines = [*tables["printed"].rows(), *({**line, "dataset": "imagenet"} for line in tables["imagenet"].rows())]
    return frozenset(
        (own_name(line["architecture"], line["dataset"]), line["dataset"], line["epochs"]) for line in lines
    )


def _as_in_bouthillier(run: ResultRow) -> bool:
    """Whether a run has a data set of Bouthillier et al. (2019), whole, and their length of training."""
    return run.dataset in _RANKED and run.epochs == _RANKED_EPOCHS and _whole(run)


def _as_in_zhang(run: ResultRow) -> bool:
    """Whether a run trains on a whole data set of Zhang et al. (2017)."""
    return run.dataset in ("cifar10", "imagenet") and _whole(run)


def _whole(run: ResultRow) -> bool:
    return "train_images" not in run.settings


def own_name(network: str, dataset: str) -> str:
    """What this project calls the network that the study ran under a name."""
    return OWN_NAMES.get((network, dataset), network)


# each claim, and the runs that have the settings of its publication
_FINDINGS: tuple[tuple[Callable[[Sequence[ResultRow]], ClaimOutcome | None], Callable[[ResultRow], bool]], ...] = (
    (_deconvolution_better, _as_in_table_1),
    (_deconvolution_slower, _as_in_table_1),
    (_seed_decides, _as_in_bouthillier),
    (_random_labels, _as_in_zhang),
)
