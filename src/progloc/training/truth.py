"""The option *truth* (method.md §14): attention that is trained to go where the effects are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from progloc.accounts.sources import AnswerValues, SourcedText, attention_on_sources
from progloc.attention.isolation import READER
from progloc.isolating import isolate
from progloc.measures.passes import evaluating
from progloc.roles import numbered

FEWEST = 3
"""Sources that a correlation needs."""


def truth_gap(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Return 1 − Pearson's r of the answer's attention on each source and its exact effect, in [0, 2], differentiable.

    Attention is the mean over all layers and heads and the answer's tokens; the effect of a source is what log p of
    these tokens falls by without it, strictly isolated, and counts as a constant. The answer is what follows the
    reader's first block, the question, or where nothing does, what follows its first token. Of the batch, the text with
    the most sources is taken; a batch without one of three sources, or whose effects do not vary, gives 0.

    Args:
        model: a localised model; its mode stays as it is.
        batch: `input_ids` and `source_ids` (B, T), from `with_readers`; `attention_mask` where there is padding, and
            `block_ids` where questions are to be told from answers.
    """
    nothing = torch.zeros((), device=model.device)
    text = _longest(batch)
    sources = 0 if text is None else int(text.roles.max()) + 1
    if text is None or sources < FEWEST:
        return nothing
    with evaluating(model):
        values = AnswerValues(model, text)
        everyone = torch.ones(1, sources, dtype=torch.bool)
        with_all = values(everyone)
        effects = torch.tensor((with_all - values(~torch.eye(sources, dtype=torch.bool))).tolist())
    masses = _masses(model, text)
    x, y = masses - masses.mean(), (effects - effects.mean()).to(masses)
    if not bool(y.any()):
        return nothing
    return 1 - nn.functional.cosine_similarity(x, y, dim=0)


def _longest(batch: Mapping[str, Tensor]) -> SourcedText | None:
    """Return the text of a batch with the most sources, numbered from 0; None where no text has a reader of three."""
    mask, blocks = batch.get("attention_mask"), batch.get("block_ids")
    texts = []
    for row, (ids, roles) in enumerate(zip(batch["input_ids"].cpu(), batch["source_ids"].cpu(), strict=True)):
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask[row].cpu() != 0
        ids, roles = ids[real], roles[real]
        start = int((roles == READER).int().argmax())
        if start == 0 or len(ids) - start < 2:
            continue
        answer = start + 1
        if blocks is not None:
            own = blocks[row].cpu()[real]
            goes_on = (own[start:-1] != own[start + 1 :]).reshape(len(own) - start - 1, -1).any(-1)
            answer += int(goes_on.int().argmax())  # 0 where the first block is the last
        texts.append(SourcedText(ids, numbered(roles), answer))
    return max(texts, key=lambda text: int(text.roles.max()), default=None)


def _masses(model: Any, text: SourcedText) -> Tensor:
    """Return the answer's mean attention on each source, (n,) in [0, 1], differentiable."""
    was_training = model.training
    model.eval()  # as for the effects; and so checkpointing, whose first pass has no graph for a probe, is off
    try:
        with isolate(model, text.roles):
            ids = text.ids[None].to(model.device)
            return attention_on_sources(
                model, text,
                lambda request: model(ids, use_cache=False, logits_to_keep=1, attention_request=request),
            )  # fmt: skip
    finally:
        model.train(was_training)
