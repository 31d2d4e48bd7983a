"""One model at several settings of the dial, measured on the same sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from progloc.cross_entropy import IGNORED
from progloc.data import collate
from progloc.data.collate import Item
from progloc.dialling import dial
from progloc.files import JsonObject
from progloc.measures.measuring import measure
from progloc.measures.passes import evaluating, locality_of
from progloc.measures.report import Report

DELTAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
BATCH_SIZE = 4
"""Sequences at a time; their logits are held twice."""

Setting = tuple[float | Sequence[float], bool]
"""δ, and whether the sink is kept."""
Progress = Callable[[int], None]
"""Called with the number of sequences just done."""


def _ignore(_: int) -> None:
    pass


@dataclass(frozen=True)
class Agreement:
    """How close the next-token distributions of a dialled model are to its own at δ = 0, over predicted tokens."""

    kl_nats: float
    """Mean KL(p_0 ‖ p_δ)."""
    same_top: float
    """The share of tokens whose most likely successor is the same."""


@dataclass(frozen=True)
class Point:
    """A model at one setting of the dial."""

    delta: float
    keep_sink: bool
    report: Report = field(repr=False)
    agreement: Agreement

    def to_dict(self) -> JsonObject:
        """Return plain numbers, as JSON has them."""
        setting = {"delta": self.delta, "keep_sink": self.keep_sink}
        return {**setting, **dataclasses.asdict(self.agreement), **self.report.to_dict()}


@dataclass(frozen=True)
class Curve:
    """A model over the dial: first with the sink treated as its configuration says, then the other way."""

    name: str
    points: tuple[Point, ...]

    @property
    def keep_sink(self) -> bool:
        """Whether the model's configuration keeps the sink."""
        return self.points[0].keep_sink

    def part(self, keep_sink: bool | None = None) -> list[Point]:
        """Return the points with the sink kept or not, by δ; by default as the model's configuration says."""
        wanted = self.keep_sink if keep_sink is None else keep_sink
        return [point for point in self.points if point.keep_sink == wanted]


def agreements(
    model: PreTrainedModel, dataset: Sequence[Item], settings: Sequence[Setting], progress: Progress = _ignore
) -> list[Agreement]:
    """Return how close a model stays to itself at δ = 0, for each setting of the dial.

    Args:
        model: a localised model.
        dataset: items as for `measure`.
        settings: (δ, keep_sink).
        progress: called after each setting of each batch.
    """
    sums, same, tokens = [0.0] * len(settings), [0] * len(settings), 0
    with evaluating(model):
        for first in range(0, len(dataset), BATCH_SIZE):
            items = [dataset[index] for index in range(first, min(first + BATCH_SIZE, len(dataset)))]
            batch = {name: value.to(model.device) for name, value in collate(items).items()}
            predicted = batch.pop("labels")[:, 1:] != IGNORED
            tokens += int(predicted.sum())
            undialled = _log_probabilities(model, batch, predicted)
            for index, (delta, keep_sink) in enumerate(settings):
                with dial(model, delta, keep_sink=keep_sink):
                    dialled = _log_probabilities(model, batch, predicted)
                sums[index] += float(torch.nn.functional.kl_div(dialled, undialled, log_target=True, reduction="sum"))
                same[index] += int((dialled.argmax(-1) == undialled.argmax(-1)).sum())
                progress(len(items))
    return [Agreement(total / tokens, count / tokens) for total, count in zip(sums, same, strict=True)]


def _log_probabilities(model: PreTrainedModel, batch: dict[str, Tensor], predicted: Tensor) -> Tensor:
    """Return log p of the next token at every predicted one, (N, V)."""
    logits: Tensor = model(**batch, use_cache=False).logits[:, :-1][predicted]
    return logits.float().log_softmax(-1)


def dial_curve(
    name: str,
    model: PreTrainedModel,
    dataset: Sequence[Item],
    deltas: Sequence[float] = DELTAS,
    progress: Progress = _ignore,
) -> Curve:
    """Measure a model at every δ, with its sink kept and not.

    Args:
        name: the model's name in tables.
        model: a localised model.
        dataset: items as for `measure`.
        deltas: numbers in [0, 1].
        progress: called with 2 · 2 · len(deltas) · len(dataset) sequences in all.
    """
    sink_aware = locality_of(model).config.sink_aware
    settings: list[tuple[float, bool]] = [(delta, keep) for keep in (sink_aware, not sink_aware) for delta in deltas]
    points = []
    for setting, agreement in zip(settings, agreements(model, dataset, settings, progress), strict=True):
        delta, keep_sink = setting
        with dial(model, delta, keep_sink=keep_sink):
            report = measure(model, dataset, batch_size=BATCH_SIZE)
        points.append(Point(delta, keep_sink, report, agreement))
        progress(len(dataset))
    return Curve(name, tuple(points))


def layer_effects(model: PreTrainedModel, dataset: Sequence[Item], progress: Progress = _ignore) -> list[Agreement]:
    """Return, by layer, how close a model stays to itself where that layer alone is made strictly local (δ = 1).

    The sink is treated as the model's configuration says. For the arguments see `agreements`.
    """
    locality = locality_of(model)
    layers = len(locality.lambdas)
    settings: list[Setting] = [
        ([float(layer == local) for layer in range(layers)], locality.config.sink_aware) for local in range(layers)
    ]
    return agreements(model, dataset, settings, progress)
