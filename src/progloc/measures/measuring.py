"""The one pass that measures: streaming, it never holds more than a batch's attention."""

from __future__ import annotations

__all__ = ["measure"]

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from progloc.attention import CHANNELS, MEASURED_CHANNELS, log_masses
from progloc.attention.segments import PADDING, documents_in
from progloc.cross_entropy import IGNORED
from progloc.data.collate import collate, predicted
from progloc.errors import ProglocError
from progloc.fused_loss import SummedLoss
from progloc.measures.definitions import measures
from progloc.measures.report import Figures, LayerFigures, Report
from progloc.measures.rows import Rows, flags, uniform_rows
from progloc.objective import locality_penalty, penalty_by_head


class _Sums:
    """Running numerators and weights of every measure: streaming, (L, H) numbers each, whatever the length."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, layers: Sequence[Rows]) -> None:
        for name in measures:
            ratios = [measures[name](rows) for rows in layers]
            pairs = torch.stack(
                [
                    torch.stack([part.expand_as(rows.log_mass).double().sum((0, 2)) for part in ratio])
                    for ratio, rows in zip(ratios, layers, strict=True)
                ]
            )  # (L, 2, H)
            self.sums[name] = self.sums[name] + pairs if name in self.sums else pairs

    def values(self) -> dict[str, Tensor]:
        """Return each measure's value per layer and head, (L, H); NaN where its weight is 0: nothing to measure."""
        return {name: (pair[:, 0] / pair[:, 1]).cpu() for name, pair in self.sums.items()}


def _means(values: Mapping[str, Tensor], prefix: str = "") -> dict[str, float]:
    return {prefix + name: float(value.mean()) for name, value in values.items()}


def measure(
    model: Any,
    dataset: Any,
    *,
    batch_size: int = 8,
    collator: Callable[[list[Any]], Mapping[str, Any]] = collate,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Measure a localised model on a dataset, in one pass that holds no more than a batch's attention, and no logits.

    Args:
        model: a model from `localize` or `load`. It is left in the mode (train or eval) it was in.
        dataset: a list or map-style dataset of items with `input_ids` (T,) and, unless the partitioner needs only
            positions, `block_ids` (T,).
        batch_size: sequences at a time.
        collator: makes a batch; labels are the input ids where it makes none.
        progress: called with the number of sequences done after each batch.

    Returns:
        Perplexity over predicted tokens, and every registered measure over real tokens per model, layer and head.
        A layer's figure is the mean over its heads, the model's the mean over its layers (SPEC §3).

    Raises:
        ProglocError: the model was not localised, or there is nothing to measure.
    """
    locality = getattr(model, "locality", None)
    if locality is None:
        raise ProglocError(
            "this model has no locality; run progloc.localize(model, LocalityConfig(…)) or progloc.load first"
        )
    penalty = locality.config.penalty
    channels = (*MEASURED_CHANNELS, *(name for name in penalty.channels if name not in MEASURED_CHANNELS))
    read = len(CHANNELS) + len(MEASURED_CHANNELS)
    attention, uniform, run = _Sums(), _Sums(), SummedLoss(model)
    loss_sum, tokens, done = 0.0, 0, 0
    paid: Any = 0.0  # (L, H), what the model's own penalty came to, over all real tokens
    real_tokens = 0
    was_training = model.training
    model.eval()
    # a generator of its own: measuring between epochs must not move the training's random numbers
    batches: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collator,
        generator=torch.Generator(),
    )
    try:
        with torch.inference_mode():
            for batch in batches:
                batch = {name: value.to(model.device) for name, value in batch.items()}
                mask = batch.get("attention_mask")
                documents = (
                    documents_in(torch.ones_like(batch["input_ids"]), batch.get("position_ids"))
                    if mask is None
                    else documents_in(mask)
                )
                labels = predicted(batch.pop("labels", batch["input_ids"]), documents)
                block_ids = batch.pop("block_ids", None)
                if block_ids is None:
                    block_ids = locality.block_ids(documents)
                outputs, loss = run(
                    labels,
                    **batch,
                    block_ids=block_ids,
                    output_attentions=True,
                    locality_channels=channels,
                    use_cache=False,
                )
                loss_sum += loss.item()
                tokens += int(labels[:, 1:].ne(IGNORED).sum())
                layers, real = [layer.float() for layer in log_masses(outputs)], documents != PADDING
                several = block_ids.ndim == 3
                divisions = block_ids.unbind(-1) if several else (block_ids,)  # G × (B, T)
                own = locality.granularity if several else (0,) * len(layers)
                marks = [[mark.to(torch.float32) for mark in flags(documents, ids)] for ids in divisions]
                chance = [uniform_rows(documents, ids) for ids in divisions]
                by_head = penalty_by_head(layers, real, penalty=penalty, channels=channels, tokens=1.0)
                paid += by_head.double().cpu()
                real_tokens += int(real.sum())
                attention.add(
                    [Rows(*layer[..., :read].unbind(-1), *marks[g]) for layer, g in zip(layers, own, strict=True)]
                )
                uniform.add([chance[g] for g in own])
                done += len(documents)
                if progress is not None:
                    progress(done)
    finally:
        model.train(was_training)
    if tokens == 0:
        raise ProglocError(
            "nothing to measure: the dataset has no predicted token; give sequences of at least two tokens"
        )

    values, by_chance = attention.values(), uniform.values()
    depth, heads = paid.shape
    weighted = float(locality_penalty(paid / real_tokens, locality.weights, locality.config.reduction))
    cross_entropy = loss_sum / tokens
    return Report(
        perplexity=math.exp(min(cross_entropy, 700.0)),  # a diverged model's would overflow
        cross_entropy=cross_entropy,
        tokens=tokens,
        weighted_penalty_nats=weighted,
        objective=cross_entropy + locality.config.alpha * weighted,
        paid_nats=tuple((paid / real_tokens).mean(-1).tolist()),
        model=Figures(_means(values)),
        chance=Figures(_means(by_chance, "chance_")),
        layers=tuple(
            LayerFigures(
                {
                    **_means({name: value[layer] for name, value in values.items()}),
                    **_means({name: value[layer] for name, value in by_chance.items()}, "chance_"),
                },
                [Figures({name: float(value[layer, head]) for name, value in values.items()}) for head in range(heads)],
            )
            for layer in range(depth)
        ),
    )
