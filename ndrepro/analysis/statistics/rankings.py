"""Who comes first, and how surely: rankings over seeds and data sets, and whether two scenarios agree on them.

After Bouthillier, Laurent and Vincent (Unreproducible Research is Reproducible, ICML 2019, figures 1 to 3): of every
model and data set one seed is drawn, the models are ranked, and this is done a thousand times. How often a model has
which rank shows what a single run of each would have let one conclude.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ndrepro.analysis.statistics.samples import TooLittle, samples

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    from ndrepro.analysis.statistics.samples import Floats

    Counts = numpy.typing.NDArray[numpy.int64]

SAMPLES = 1000
LEAST_DATASETS = 3  # that are drawn with replacement: of two, half of the samples would have one of them twice

Results = Mapping[str, Mapping[str, Iterable[float]]]  # data set -> model -> one value a seed


@dataclass(frozen=True)
class Rankings:
    """How often each model had each rank: ``counts[dataset]`` has shape (models, ranks), rank 1 (best) first.

    Equal values share the better rank. ``overall`` is the sum over data sets; ``mean_rank`` of each model over all
    samples and data sets; ``first`` the share of samples and data sets in which it was first.
    """

    models: tuple[str, ...]
    counts: Mapping[str, Counts]

    @property
    def overall(self) -> Counts:
        """Counts over all data sets, (models, ranks)."""
        import numpy as np

        found: Counts = np.sum(list(self.counts.values()), axis=0)
        return found

    @property
    def mean_rank(self) -> dict[str, float]:
        """Each model's mean rank, 1 is the best that can be."""
        import numpy as np

        total = self.overall
        ranks = np.arange(1, total.shape[1] + 1)
        return {model: float(row @ ranks / row.sum()) for model, row in zip(self.models, total, strict=True)}

    @property
    def first(self) -> dict[str, float]:
        """The share of rankings in which each model is first (or shares it)."""
        return {model: float(row[0] / row.sum()) for model, row in zip(self.models, self.overall, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """Counts, mean ranks, and how often each model is first."""
        return {
            "models": list(self.models),
            "counts": {dataset: table.tolist() for dataset, table in self.counts.items()},
            "samples": SAMPLES,
            "draw": "one",
            "mean_rank": self.mean_rank,
            "first": self.first,
        }


@dataclass(frozen=True)
class OverallAgreement:
    """``Agreement`` on every data set that two scenarios share, and the mean of tau over them with its interval.

    ``datasets_drawn`` says whether the bootstrap draws data sets too, besides seeds: from three of them on.
    """

    datasets: Mapping[str, Agreement]
    tau: float
    interval: tuple[float, float]
    datasets_drawn: bool


@dataclass(frozen=True)
class Agreement:
    """How two scenarios agree on an order: Kendall's tau-b and Spearman's rho of the models' means.

    ``interval`` is the percentile bootstrap interval of tau over seeds; ``swapped`` the pairs of models whose order
    is another in the second scenario.
    """

    tau: float
    rho: float
    interval: tuple[float, float]
    models: tuple[str, ...]
    swapped: tuple[tuple[str, str], ...]
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()


def rank_distribution(results: Results) -> Rankings:
    """Ranks, the highest value first, in SAMPLES draws of one seed of every model and data set.

    That is what a study with single runs would have seen. Raises TooLittle where a data set lacks a model, fewer than
    two seeds of one, or NaN.
    """
    import numpy as np
    from scipy.stats import rankdata

    tables = _complete(results)
    rng = np.random.default_rng(0)
    counts: dict[str, Counts] = {}
    models = next(iter(tables.values())).keys()
    for dataset, table in tables.items():
        drawn = np.stack([_drawn(values, 1, rng) for values in table.values()], axis=1)
        ranks = rankdata(-drawn, method="min", axis=1).astype(np.int64)
        counts[dataset] = np.stack([np.bincount(column, minlength=len(models) + 1)[1:] for column in ranks.T])
    return Rankings(tuple(models), counts)


def rank_agreement(first: Mapping[str, Iterable[float]], second: Mapping[str, Iterable[float]]) -> Agreement:
    """How far two scenarios (biased and tuned, two environments) put the same models in the same order.

    Models that only one of them has are named and left out. Raises TooLittle for fewer than two shared models.
    """
    import numpy as np
    from scipy.stats import kendalltau, spearmanr

    shared, sides = _shared(first, second)
    means = [np.array([values.mean() for values in side.values()]) for side in sides]
    ends = _ends(_drawn_taus(sides, np.random.default_rng(0)))
    swapped = [
        (shared[a], shared[b])
        for a in range(len(shared))
        for b in range(a + 1, len(shared))
        if np.sign(means[0][a] - means[0][b]) != np.sign(means[1][a] - means[1][b])
    ]
    # where all means of a side are equal there is no order to agree on
    ordered = all(np.ptp(side) > 0 for side in means)
    return Agreement(
        float(kendalltau(*means).statistic) if ordered else float("nan"),
        float(spearmanr(*means).statistic) if ordered else float("nan"),
        ends,
        tuple(shared),
        tuple(swapped),
        tuple(model for model in first if model not in second),
        tuple(model for model in second if model not in first),
    )


def rank_agreement_overall(first: Results, second: Results) -> OverallAgreement:
    """``rank_agreement`` on every shared data set, and the mean of tau over them.

    The interval of the mean is the percentile bootstrap's: seeds are drawn within every model and data set, and data
    sets as well from ``LEAST_DATASETS`` on, so that it is then one for other data sets too. Raises TooLittle where
    the scenarios share no data set, or fewer than two models on one.
    """
    import numpy as np

    names = [name for name in first if name in second]
    if not names:
        raise TooLittle("the scenarios share no data set")
    found = {name: rank_agreement(first[name], second[name]) for name in names}
    rng = np.random.default_rng(0)
    taus = np.stack([_drawn_taus(_shared(first[name], second[name])[1], rng) for name in names], axis=1)
    drawn = len(names) >= LEAST_DATASETS
    if drawn:
        taus = np.take_along_axis(taus, rng.integers(0, len(names), size=taus.shape), axis=1)
    mean = float(np.mean([agreement.tau for agreement in found.values()]))
    return OverallAgreement(found, mean, _ends(taus.mean(axis=1)), drawn)


def _shared(
    first: Mapping[str, Iterable[float]], second: Mapping[str, Iterable[float]]
) -> tuple[list[str], list[dict[str, Floats]]]:
    """The models that both have, and the values of each side."""
    shared = [model for model in first if model in second]
    if len(shared) < 2:
        raise TooLittle(f"the scenarios share {len(shared)} models, at least 2 are needed for an order")
    return shared, [samples({model: side[model] for model in shared}) for side in (first, second)]


def _drawn_taus(sides: list[dict[str, Floats]], rng: numpy.random.Generator) -> Floats:
    """Tau of bootstrap samples over the seeds of both sides, (SAMPLES,)."""
    import numpy as np

    return _tau(*(np.stack([_drawn(each, len(each), rng) for each in side.values()], axis=1) for side in sides))


def _ends(values: Floats) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _complete(results: Results) -> dict[str, dict[str, Floats]]:
    tables = {dataset: samples(models) for dataset, models in results.items()}
    if not tables:
        raise TooLittle("there are no data sets")
    models = list(dict.fromkeys(model for table in tables.values() for model in table))
    for dataset, table in tables.items():
        missing = [model for model in models if model not in table]
        if missing:
            raise TooLittle(f"{dataset} has no runs of {', '.join(missing)}", "rank models that have run everywhere")
    return {dataset: {model: table[model] for model in models} for dataset, table in tables.items()}


def _drawn(values: Floats, size: int, rng: numpy.random.Generator) -> Floats:
    """Means of SAMPLES samples of ``size`` values, drawn with replacement."""
    found: Floats = values[rng.integers(0, len(values), size=(SAMPLES, size))].mean(axis=1)
    return found


def _tau(first: Floats, second: Floats) -> Floats:
    """Kendall's tau-a of every row: draws of means hardly ever tie."""
    import numpy as np

    a, b = np.triu_indices(first.shape[1], 1)
    agree = np.sign(first[:, a] - first[:, b]) * np.sign(second[:, a] - second[:, b])
    found: Floats = agree.mean(axis=1)
    return found
