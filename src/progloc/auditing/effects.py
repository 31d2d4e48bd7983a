"""What it costs an answer to lose parts of its prompt: deletion, and knockout of attention.

Everything starts from the past of the one pass that was traced: a text with a block deleted is read from that block on,
and a knockout in late layers is read for the answer alone.
"""

from __future__ import annotations

__all__ = ["KNOCKOUTS_AT_ONCE", "Reading", "deleted", "knocked_out", "read"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from progloc.auditing.probes import Knockout, Trace, TracedAttention
from progloc.auditing.text import AuditedText
from progloc.dialling import dialled

KNOCKOUTS_AT_ONCE = 8
"""Rows of a batch; each holds the prompt's past once more."""
READ_AT_ONCE = 1024
"""Tokens of a prompt: attention that follows a past has a mask of this many times the text."""


@dataclass(frozen=True)
class Reading:
    """One pass over the whole text."""

    log_probs: Tensor
    """(n,): log p of every token of the answer, nats."""
    past: Any
    """The keys and values of all tokens, layer by layer."""
    traced: dict[int, TracedAttention]
    """By layer."""


def read(model: Any, text: AuditedText, layers: Sequence[int]) -> Reading:
    """Read a text once, and trace the answer in some layers."""
    trace = Trace(layers, text.division.to(model.device), len(text.answer_ids))
    logits, past = _logits(model, text.ids[None], text.block_ids[None], DynamicCache(), len(text.answer_ids), trace)
    return Reading(_log_probs(logits, text)[0], past, trace.found)


def deleted(model: Any, text: AuditedText, past: Any, blocks: Sequence[int]) -> float:
    """Return log p(answer) in nats, with blocks deleted from the prompt as if it had never held them.

    Args:
        model: the model, dialled as it was when it read the text.
        text: the text.
        past: of `read`.
        blocks: what goes. The first token of the text stays: it is where attention rests when it rests nowhere.
    """
    gone = text.in_prompt(blocks)
    stays = torch.cat([~gone, torch.ones(len(text.answer_ids), dtype=torch.bool)])
    left = int((~gone).sum())
    same = min(
        int(gone.int().argmax()), left - 1
    )  # the prompt's last token has to be read: it writes the answer's first
    logits, _ = _logits(
        model, text.ids[stays][None, same:], text.block_ids[stays][None], _first(past, same, 1), len(text.answer_ids)
    )
    return float(_log_probs(logits, text).sum())


def knocked_out(
    model: Any, text: AuditedText, past: Any, layers: Sequence[int], cuts: Sequence[tuple[int, bool]]
) -> list[float]:
    """Return log p(answer) in nats, with attention from what writes the answer to a block of the prompt cut in layers.

    Args:
        model: the model, dialled as it was when it read the text.
        text: the text.
        past: of `read`.
        layers: where it is cut.
        cuts: for each result the block, and whether what is left of attention is renormalised; at most
            `KNOCKOUTS_AT_ONCE`.
    """
    before = text.answer_start - 1
    probe = Knockout(
        layers,
        torch.stack([text.in_prompt([block]) for block, _ in cuts]).to(model.device),
        torch.tensor([renormalise for _, renormalise in cuts], device=model.device),
    )
    rows = len(cuts)
    logits, _ = _logits(
        model,
        text.ids[None, before:].expand(rows, -1),
        text.block_ids[None].expand(rows, *text.block_ids.shape),
        _first(past, before, rows),
        len(text.answer_ids),
        probe,
    )
    return _log_probs(logits, text).sum(-1).tolist()


def _logits(
    model: Any, ids: Tensor, block_ids: Tensor, past: Any, answer: int, probe: Trace | Knockout | None = None
) -> tuple[Tensor, Any]:
    """Return the logits that write the answer, (B, n, V), and the past after it.

    Args:
        model: the model.
        ids: (B, T') what is read, the answer at its end.
        block_ids: (B, T) or (B, T, G), of what is past and what is read.
        past: keys and values of what is past.
        answer: n.
        probe: what the attention of those that write the answer is shown to.
    """
    seen = block_ids.shape[1] - ids.shape[1]
    is_dialled = dialled(model) is not None
    outputs: Any = None
    before, writing = ids[:, : -answer - 1], ids[:, -answer - 1 :]
    for part in (*(before.split(READ_AT_ONCE, 1) if before.numel() else ()), writing):
        writes = part is writing
        seen += part.shape[1]
        outputs = model(
            input_ids=part.to(model.device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=part.shape[1] if writes else 1,
            **({"locality_probe": probe} if writes else {}),
            **({"block_ids": block_ids[:, :seen].to(model.device)} if is_dialled else {}),
        )
    return outputs.logits[:, :-1], outputs.past_key_values


def _log_probs(logits: Tensor, text: AuditedText) -> Tensor:
    """Return log p of the answer's tokens, (B, n) in nats, from the logits that write them."""
    chosen = text.answer_ids.to(logits.device).expand(len(logits), -1)
    return logits.float().log_softmax(-1).gather(-1, chosen[..., None]).squeeze(-1).double().cpu()


def _first(past: Any, tokens: int, rows: int) -> Any:
    """Return the past of a text's first tokens, in so many rows, which may be gone on from without changing it."""
    found = DynamicCache()
    for number, layer in enumerate(past.layers if tokens else ()):
        keys, values = (x[:, :, :tokens].expand(rows, -1, -1, -1) for x in (layer.keys, layer.values))
        found.update(keys, values, number)
    return found
