"""What a study's ratings come to: means, paired differences, and how far raters agree.

Raters and items are both samples: another rater would score otherwise, and another prompt would be scored otherwise.
So the difference of localised and base is tested twice, over items (each the mean of its raters) and over raters (each
the mean of their items), and counts as found only where both say so. A rating without its counterpart, of the same
rater, item and scale with the other system, enters no difference and no mean, but it enters the agreement.

Raters are shown no verdict, so their scores can be set beside it: do people trust the pictures that deserve it?
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from progloc.accounts.verdict import VERDICTS
from progloc.app.blinding import BASE, LOCALISED, SYSTEMS
from progloc.app.rubric import RUBRIC
from progloc.errors import ProglocError
from progloc.report.formats import ABSENT, interval, number, p_value, span
from progloc.report.statistics import Comparison, Estimate, holm, mean_interval, paired_difference
from progloc.report.table import Column, Table

Pairs = Mapping[tuple[str, int], Mapping[str, int]]
"""By rater and item, the score of each system."""


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

    @property
    def found(self) -> str | None:
        """The system that is rated higher, over items and over raters alike; None where that is not shown."""
        sides = {each.estimate.above(0.0) for each in (self.by_item, self.by_rater)}
        return LOCALISED if sides == {True} else BASE if sides == {False} else None


@dataclass(frozen=True)
class RatingResult:
    """All of a study."""

    ratings: int
    raters: int
    items: int
    scales: tuple[ScaleResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        scales = [{**dataclasses.asdict(each), "higher": each.found} for each in self.scales]
        return {"ratings": self.ratings, "raters": self.raters, "items": self.items, "scales": scales}


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
    given = list(ratings)
    by_unit = defaultdict(list)
    for _, unit, score in given:
        by_unit[unit].append(score)
    paired = [score for scores in by_unit.values() if len(scores) > 1 for score in scores]
    if len(set(paired)) < 2:
        return None
    return float(AnnotationTask(data=given, distance=interval_distance).alpha())


def rating_result(ratings: Sequence[Mapping[str, Any]]) -> RatingResult:
    """Return what the ratings come to.

    Args:
        ratings: each with rater, item, system, verdict, scale and score, as `Answers.ratings` gives them.

    Raises:
        ProglocError: a scale on which nobody has rated both pages of an item yet.
    """
    scales = [_scale_result(scale.name, [one for one in ratings if one["scale"] == scale.name]) for scale in RUBRIC]
    for over in ("by_item", "by_rater"):
        adjusted = holm([getattr(scale, over).p for scale in scales])
        scales = [
            dataclasses.replace(scale, **{over: dataclasses.replace(getattr(scale, over), p=p)})
            for scale, p in zip(scales, adjusted, strict=True)
        ]
    raters, items = ({one[key] for one in ratings} for key in ("rater", "item"))
    return RatingResult(len(ratings), len(raters), len(items), tuple(scales))


def _scale_result(scale: str, ratings: Sequence[Mapping[str, Any]]) -> ScaleResult:
    scores: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    for one in ratings:
        scores[one["rater"], one["item"]][one["system"]] = one["score"]
    pairs = {who: both for who, both in scores.items() if len(both) == len(SYSTEMS)}
    if not pairs:
        raise ProglocError(
            f"nobody has rated both pages of an item for {scale} yet; open /study of progloc serve MODEL --study FILE"
        )
    by_item = {system: _grouped(pairs, 1, system) for system in SYSTEMS}
    by_rater = {system: _grouped(pairs, 0, system) for system in SYSTEMS}
    units = [(one["rater"], f"{one['item']} {one['system']}", one["score"]) for one in ratings]
    return ScaleResult(
        scale,
        {system: mean_interval(values.values()) for system, values in by_item.items()},
        paired_difference(by_item[LOCALISED], by_item[BASE]),
        paired_difference(by_rater[LOCALISED], by_rater[BASE]),
        _by_verdict(ratings),
        krippendorff_alpha(units),
    )


def _by_verdict(ratings: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Return the mean score of the pictures of each verdict; a picture's score is the mean of its raters."""
    pictures: dict[str, dict[tuple[int, str], list[int]]] = {verdict: defaultdict(list) for verdict in VERDICTS}
    for one in ratings:
        pictures[one["verdict"]][one["item"], one["system"]].append(one["score"])
    return {
        verdict: mean_interval([float(np.mean(scores)) for scores in found.values()])
        for verdict, found in pictures.items()
        if found
    }


def _grouped(pairs: Pairs, key: int, system: str) -> dict[int, float]:
    """Return the mean score of a system for each rater (key 0) or item (key 1), numbered."""
    groups = sorted({who[key] for who in pairs}, key=str)
    return {
        number: float(np.mean([both[system] for who, both in pairs.items() if who[key] == group]))
        for number, group in enumerate(groups)
    }


def _mean_and_span(estimate: Estimate) -> tuple[str, str]:
    return number(estimate.mean, 2), span(estimate, 2)


def rating_tables(result: RatingResult) -> list[Table]:
    """Return the tables of a study: the scales, the differences with their tests, and scores beside verdicts."""
    means = Table(
        "Ratings",
        "Means from 1 to 5 with 95% intervals over items. α: Krippendorff's, 1 is full agreement, 0 is chance.",
        (Column("scale", text=True), Column("localised"), Column("95%"), Column("base"), Column("95%"), Column("α")),
        tuple(
            (
                each.scale,
                *(cell for system in SYSTEMS for cell in _mean_and_span(each.means[system])),
                number(each.alpha, 2),
            )
            for each in result.scales
        ),
    )
    differences = Table(
        "Localised − base, in points",
        "Rated higher: where the 95% interval over items and the one over raters both leave 0 out. "
        "p: paired t-tests, Holm's over the scales.",
        (
            Column("scale", text=True), Column("difference"), Column("over items"), Column("p of items"),
            Column("over raters"), Column("p of raters"), Column("rated higher", text=True),
        ),
        tuple(
            (
                each.scale, number(each.by_item.estimate.mean, 2), span(each.by_item.estimate, 2),
                p_value(each.by_item.p), span(each.by_rater.estimate, 2), p_value(each.by_rater.p),
                each.found or "not shown",
            )
            for each in result.scales
        ),
    )  # fmt: skip
    held = [verdict for verdict in VERDICTS if any(verdict in each.by_verdict for each in result.scales)]
    by_verdict = Table(
        "Scores by verdict",
        "The verdict of the audit, which raters were not shown. Means from 1 to 5 over pictures with 95% intervals, "
        "and how many pictures. Where people can tell by themselves, supported pictures score higher.",
        (Column("scale", text=True), *(Column(verdict) for verdict in held)),
        tuple(
            (each.scale, *(_of_pictures(each.by_verdict.get(verdict)) for verdict in held)) for each in result.scales
        ),
    )
    return [means, differences, by_verdict]


def _of_pictures(estimate: Estimate | None) -> str:
    return ABSENT if estimate is None else f"{interval(estimate, 2)} ({estimate.n})"
