"""The one pass that measures: streaming, it never holds more than a batch's attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from progloc.attention.masses import CHANNELS, MEASURED_CHANNELS, log_masses
from progloc.attention.request import AttentionRequest
from progloc.attention.segments import PADDING, KeysSeen
from progloc.cross_entropy import IGNORED
from progloc.data.collate import Item, Items, collate, predicted
from progloc.errors import ProglocError
from progloc.fused_loss import SummedLoss
from progloc.measures.definitions import Ratio, measures
from progloc.measures.passes import Sums, batches, evaluating, locality_of
from progloc.measures.report import Figures, LayerFigures, Report
from progloc.measures.rows import Rows, flags, uniform_rows
from progloc.objective import locality_penalty, penalty_by_head


def _ratios(rows: Rows) -> dict[str, Ratio]:
    return {name: measures[name](rows) for name in measures}


def _means(values: Mapping[str, Tensor], prefix: str = "") -> dict[str, float]:
    return {prefix + name: float(value.mean()) for name, value in values.items()}


def _layer(values: Mapping[str, Tensor], chance: Mapping[str, Tensor], layer: int) -> LayerFigures:
    """Return a layer's figures and those of its heads, from (L, H) values by name."""
    by_head = {name: value[layer] for name, value in values.items()}
    heads = len(next(iter(by_head.values())))
    return LayerFigures(
        _means(by_head) | _means({name: value[layer] for name, value in chance.items()}, "chance_"),
        [Figures({name: float(value[head]) for name, value in by_head.items()}) for head in range(heads)],
    )


def measure(
    model: nn.Module,
    dataset: Items,
    *,
    batch_size: int = 8,
    collator: Callable[[list[Item]], Mapping[str, Tensor]] = collate,
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
        A layer's figure is the mean over its heads, the model's the mean over its layers (method.md §3).

    Raises:
        ProglocError: the model was not localised, or there is nothing to measure.
    """
    locality = locality_of(model)
    penalty = locality.config.penalty
    channels = tuple(dict.fromkeys((*MEASURED_CHANNELS, *penalty.channels)))
    read = len(CHANNELS) + len(MEASURED_CHANNELS)
    attention, uniform, call = Sums(), Sums(), SummedLoss(model)
    loss_sum, tokens, real_tokens, done = 0.0, 0, 0, 0
    penalties = torch.zeros(1, 1, dtype=torch.float64)  # (L, H), the model's own penalty, summed over all real tokens
    with evaluating(model):
        for batch in batches(model, dataset, batch_size, collator):
            labels = predicted(batch.labels, batch.documents)
            outputs, loss = call(
                labels,
                **batch.inputs,
                block_ids=batch.block_ids,
                output_attentions=True,
                attention_request=AttentionRequest(channels),
                use_cache=False,
            )
            loss_sum += loss.item()
            tokens += int(labels[:, 1:].ne(IGNORED).sum())
            layers, real = [layer.float() for layer in log_masses(outputs)], batch.documents != PADDING
            marks = [[mark.to(torch.float32) for mark in flags(batch.documents, ids)] for ids in batch.divisions]
            by_head = penalty_by_head(layers, real, penalty=penalty, channels=channels, tokens=1.0)
            penalties = penalties + by_head.double().cpu()
            real_tokens += int(real.sum())
            ratios, chance_ratios = [], []  # by layer
            for layer, g in zip(layers, batch.granularity, strict=True):
                *logs, keys, block_keys, sink_keys = layer[..., :read].unbind(-1)
                ratios.append(_ratios(Rows(*logs, *marks[g])))
                seen = KeysSeen(*(count[:, :1] for count in (keys, block_keys, sink_keys)))
                chance_ratios.append(_ratios(uniform_rows(seen, marks[g])))
            attention.add(ratios, by_head.shape[1])
            uniform.add(chance_ratios, 1)
            done += len(batch.documents)
            if progress is not None:
                progress(done)
    if tokens == 0:
        raise ProglocError(
            "nothing to measure: the dataset has no predicted token; give sequences of at least two tokens"
        )

    values, chance = attention.values(), uniform.values()
    by_head = penalties / real_tokens
    weighted = float(locality_penalty(by_head, locality.weights, locality.config.reduction))
    cross_entropy = loss_sum / tokens
    return Report(
        perplexity=math.exp(min(cross_entropy, 700.0)),  # a diverged model's would overflow
        cross_entropy=cross_entropy,
        tokens=tokens,
        weighted_penalty_nats=weighted,
        objective=cross_entropy + locality.config.alpha * weighted,
        paid_nats=tuple(by_head.mean(-1).tolist()),
        schedule=locality.schedule,
        blocks=locality.config.blocks,
        model=Figures(_means(values)),
        chance=Figures(_means(chance, "chance_")),
        layers=tuple(_layer(values, chance, layer) for layer in range(len(by_head))),
    )
