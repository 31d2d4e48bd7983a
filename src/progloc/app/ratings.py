"""What a study's ratings come to: means, paired differences, and how far raters agree.

Raters and items are both samples: another rater would score otherwise, and another prompt would be scored otherwise.
So the difference of localised and base is tested twice, over items (each the mean of its raters) and over raters (each
the mean of their items), and counts as shown only where both say so. A rating without its counterpart, of the same
rater, item and scale with the other system, enters no difference and no mean, but it enters the agreement.

Raters are shown no verdict, so their scores can be set beside it: do people trust the pictures that deserve it?
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from progloc.accounts.verdict import VERDICTS
from progloc.app.blinding import BASE, LOCALISED, SYSTEMS
from progloc.app.survey import COLUMNS, RUBRIC
from progloc.errors import ProglocError
from progloc.report.formats import ABSENT, interval, number, p_value, span
from progloc.report.statistics import Comparison, Estimate, holm, mean_interval, paired_difference
from progloc.report.table import Column, Table

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class ScaleResult:
    """One scale of the rubric."""

    scale: str
    means: Mapping[str, Estimate]
    """By system, 1 to 5, over items."""
    by_item: Comparison
    """Localised − base, in points, over items; the p is Holm's over the scales."""
    by_rater: Comparison
    """The same over raters."""
    by_verdict: Mapping[str, Estimate]
    """By the verdict on the picture, which raters were not shown, 1 to 5, over pictures; those without any left out."""
    alpha: float | None
    """Krippendorff's α with interval distance; None where it is not defined."""
    higher: str | None
    """The system that is rated higher, over items and over raters alike; None where that is not shown."""


@dataclass(frozen=True)
class RatingResult:
    """All of a study."""

    ratings: int
    raters: int
    items: int
    scales: tuple[ScaleResult, ...]


def krippendorff_alpha(ratings: Iterable[tuple[str, str, int]]) -> float | None:
    """Return how far raters agree: 1 wholly, 0 as by chance, below 0 less than that.

    Args:
        ratings: (rater, unit, score); raters may leave units out. Distance is that of an interval scale, squared.

    Returns:
        α; None where no unit has two ratings, or all that do have the same score: there is nothing to agree about.

    Raises:
        ProglocError: the library that calculates it is not installed.
    """
    try:
        from nltk.metrics.agreement import AnnotationTask
        from nltk.metrics.distance import interval_distance
    except ImportError as error:
        raise ProglocError("agreement needs nltk; run pip install 'progloc[app]'") from error
    from pandas import DataFrame

    table = DataFrame(ratings, columns=["rater", "unit", "score"])
    if table[table.duplicated("unit", keep=False)]["score"].nunique() < 2:
        return None
    return float(AnnotationTask(data=table.values.tolist(), distance=interval_distance).alpha())


def rating_result(ratings: Sequence[Mapping[str, Any]]) -> RatingResult:
    """Return what the ratings come to.

    Args:
        ratings: each with rater, item, system, verdict, scale and score, as `Answers.ratings` gives them.

    Raises:
        ProglocError: a scale on which nobody has rated both pages of an item yet.
    """
    from pandas import DataFrame

    table = DataFrame(ratings, columns=COLUMNS).astype({"item": str})
    scales = [_scale_result(scale.name, table[table["scale"] == scale.name]) for scale in RUBRIC]
    for unit in ("by_item", "by_rater"):
        adjusted = holm([getattr(scale, unit).p for scale in scales])
        scales = [
            dataclasses.replace(scale, **{unit: dataclasses.replace(getattr(scale, unit), p=p)})
            for scale, p in zip(scales, adjusted, strict=True)
        ]
    return RatingResult(len(table), table["rater"].nunique(), table["item"].nunique(), tuple(scales))


def _scale_result(scale: str, ratings: DataFrame) -> ScaleResult:
    pairs = ratings.pivot(index=["rater", "item"], columns="system", values="score").reindex(columns=SYSTEMS).dropna()
    if pairs.empty:
        raise ProglocError(
            f"nobody has rated both pages of an item for {scale} yet; open /study of progloc serve MODEL --study FILE"
        )
    by_item, by_rater = (
        paired_difference(*(pairs[system].groupby(unit).mean().to_dict() for system in SYSTEMS))
        for unit in ("item", "rater")
    )
    signs = {comparison.estimate.above(0.0) for comparison in (by_item, by_rater)}
    pictures = ratings.groupby(["verdict", "item", "system"])["score"].mean()
    units = ratings["item"] + " " + ratings["system"]
    return ScaleResult(
        scale,
        means={system: mean_interval(pairs[system].groupby("item").mean()) for system in SYSTEMS},
        by_item=by_item,
        by_rater=by_rater,
        by_verdict={verdict: mean_interval(pictures[verdict]) for verdict in VERDICTS if verdict in pictures},
        alpha=krippendorff_alpha(zip(ratings["rater"], units, ratings["score"], strict=True)),
        higher=LOCALISED if signs == {True} else BASE if signs == {False} else None,
    )


def _mean_and_span(estimate: Estimate) -> tuple[str, str]:
    return number(estimate.mean, 2), span(estimate, 2)


def rating_tables(result: RatingResult) -> list[Table]:
    """Return the tables of a study: the scales, the differences with their tests, and scores beside verdicts."""
    verdicts = [verdict for verdict in VERDICTS if any(verdict in scale.by_verdict for scale in result.scales)]
    means, differences, by_verdict = [], [], []
    for scale in result.scales:
        localised, base = (_mean_and_span(scale.means[system]) for system in SYSTEMS)
        means.append((scale.scale, *localised, *base, number(scale.alpha, 2)))
        difference, over_items = _mean_and_span(scale.by_item.estimate)
        tests = (over_items, p_value(scale.by_item.p), span(scale.by_rater.estimate, 2), p_value(scale.by_rater.p))
        differences.append((scale.scale, difference, *tests, scale.higher or "not shown"))
        pictures = [scale.by_verdict.get(verdict) for verdict in verdicts]
        by_verdict.append((scale.scale, *(f"{interval(mean, 2)} ({mean.n})" if mean else ABSENT for mean in pictures)))
    name = Column("scale", text=True)
    return [
        Table(
            "Ratings",
            "Means from 1 to 5 with 95% intervals over items. α: Krippendorff's, 1 is full agreement, 0 is chance.",
            (name, *map(Column, ("localised", "95%", "base", "95%", "α"))),
            tuple(means),
        ),
        Table(
            "Localised − base, in points",
            "Rated higher: where the 95% interval over items and the one over raters both leave 0 out. "
            "p: paired t-tests, Holm's over the scales.",
            (
                name, *map(Column, ("difference", "over items", "p of items", "over raters", "p of raters")),
                Column("rated higher", text=True),
            ),
            tuple(differences),
        ),
        Table(
            "Scores by verdict",
            "The verdict of the audit, which raters were not shown. Means from 1 to 5 over pictures with 95% "
            "intervals, and how many pictures. Where people can tell by themselves, supported pictures score higher.",
            (name, *map(Column, verdicts)),
            tuple(by_verdict),
        ),
    ]  # fmt: skip
