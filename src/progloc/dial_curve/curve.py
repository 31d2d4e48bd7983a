"""One model at several places of the dial, measured on the same sequences."""

from __future__ import annotations

__all__ = ["DELTAS", "Agreement", "Curve", "Point", "agreements", "dial_curve", "layer_effects"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from progloc.cross_entropy import IGNORED
from progloc.data import collate
from progloc.dialling import dial
from progloc.measures.measuring import measure
from progloc.measures.report import Report

DELTAS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)

Setting = tuple[float | Sequence[float], bool]
"""δ, and whether the sink is kept."""
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Agreement:
    """How near the next-token distributions of a dialled model are to its own at δ = 0, over predicted tokens."""

    kl_nats: float
    """Mean KL(p_0 ‖ p_δ)."""
    same_top: float
    """The share of tokens whose most likely successor is the same."""


@dataclass(frozen=True)
class Point:
    """A model at one place of the dial."""

    delta: float
    keep_sink: bool
    report: Report = field(repr=False)
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, as JSON has them."""
        about = {"delta": self.delta, "keep_sink": self.keep_sink}
        near = {"kl_nats": self.agreement.kl_nats, "same_top": self.agreement.same_top}
        return {**about, **near, **self.report.to_dict()}


@dataclass(frozen=True)
class Curve:
    """A model over the dial: with its sink as the model's own default first, then the other way."""

    name: str
    points: tuple[Point, ...]

    @property
    def keep_sink(self) -> bool:
        """Whether the model's own way is to keep the sink."""
        return self.points[0].keep_sink

    def part(self, keep_sink: bool | None = None) -> list[Point]:
        """Return the points with the sink kept or not, by δ; by default the model's own way."""
        wanted = self.keep_sink if keep_sink is None else keep_sink
        return [point for point in self.points if point.keep_sink == wanted]


def agreements(
    model: Any,
    dataset: Sequence[Any],
    settings: Sequence[Setting],
    *,
    batch_size: int = 4,
    progress: Progress | None = None,
) -> list[Agreement]:
    """Return how near a model is to itself at δ = 0, at each setting of the dial.

    Args:
        model: a localised model.
        dataset: items as for `measure`.
        settings: (δ, keep_sink).
        batch_size: sequences at a time; their logits are held twice.
        progress: called with the number of sequences done after each setting of each batch.
    """
    sums, same, tokens = [0.0] * len(settings), [0] * len(settings), 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for first in range(0, len(dataset), batch_size):
                items = [dataset[index] for index in range(first, min(first + batch_size, len(dataset)))]
                batch = {name: value.to(model.device) for name, value in collate(items).items()}
                predicted = batch.pop("labels")[:, 1:] != IGNORED
                tokens += int(predicted.sum())
                own = _log_probabilities(model, batch, predicted)
                for place, (delta, keep_sink) in enumerate(settings):
                    with dial(model, delta, keep_sink=keep_sink):
                        turned = _log_probabilities(model, batch, predicted)
                    sums[place] += float(torch.nn.functional.kl_div(turned, own, log_target=True, reduction="sum"))
                    same[place] += int((turned.argmax(-1) == own.argmax(-1)).sum())
                    if progress is not None:
                        progress(len(items))
    finally:
        model.train(was_training)
    return [Agreement(total / tokens, count / tokens) for total, count in zip(sums, same, strict=True)]


def _log_probabilities(model: Any, batch: dict[str, Tensor], predicted: Tensor) -> Tensor:
    """Return log p of the next token at every predicted one, (N, V)."""
    logits = model(**batch, use_cache=False).logits[:, :-1][predicted]
    return logits.float().log_softmax(-1)


def dial_curve(
    name: str,
    model: Any,
    dataset: Sequence[Any],
    deltas: Sequence[float] = DELTAS,
    *,
    batch_size: int = 4,
    progress: Progress | None = None,
) -> Curve:
    """Measure a model at every δ, with its sink kept and not.

    Args:
        name: what the model is called.
        model: a localised model.
        dataset: items as for `measure`.
        deltas: numbers in [0, 1].
        batch_size: sequences at a time.
        progress: called with the number of sequences done; in all 2 · 2 · len(deltas) · len(dataset).
    """
    own = model.locality.config.sink_aware
    settings: list[tuple[float, bool]] = [(delta, keep) for keep in (own, not own) for delta in deltas]
    near = agreements(model, dataset, settings, batch_size=batch_size, progress=progress)
    points = []
    for (delta, keep_sink), agreement in zip(settings, near, strict=True):
        with dial(model, delta, keep_sink=keep_sink):
            report = measure(model, dataset, batch_size=batch_size)
        points.append(Point(delta, keep_sink, report, agreement))
        if progress is not None:
            progress(len(dataset))
    return Curve(name, tuple(points))


def layer_effects(
    model: Any, dataset: Sequence[Any], *, batch_size: int = 4, progress: Progress | None = None
) -> list[Agreement]:
    """Return how near a model stays to itself where one layer alone is made strictly local (δ = 1), by layer.

    The sink is treated as the model's penalty had it. For the arguments see `agreements`.
    """
    layers = len(model.locality.lambdas)
    one_layer = [[float(layer == other) for other in range(layers)] for layer in range(layers)]
    keep_sink = model.locality.config.sink_aware
    settings: list[Setting] = [(deltas, keep_sink) for deltas in one_layer]
    return agreements(model, dataset, settings, batch_size=batch_size, progress=progress)
