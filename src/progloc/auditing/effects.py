"""What it costs an answer to lose parts of its prompt: deletion, and knockout of attention.

Nothing is computed twice. All starts from the past of the one pass that was traced: a text with blocks deleted is read
from where it parts from one read before, and knockouts in late layers share the layers before these.
"""

from __future__ import annotations

__all__ = ["KNOCKOUTS_AT_ONCE", "Reading", "deletions", "knocked_out", "read"]

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from progloc.auditing.probes import Knockout, Trace, TracedAttention
from progloc.auditing.text import AuditedText
from progloc.dialling import dialled
from progloc.model import attention_modules

KNOCKOUTS_AT_ONCE = 8
"""Rows of a batch; each holds the prompt's past once more, in the layers from the first cut one on."""
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


def deletions(
    model: Any,
    text: AuditedText,
    past: Any,
    sets: Sequence[Sequence[int]],
    progress: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return log p(answer) in nats for each set of blocks, deleted from the prompt as if it had never held them.

    The texts are read in an order in which each has the longest beginning in common with the one before it, whose past
    it goes on from.

    Args:
        model: the model, dialled as it was when it read the text.
        text: the text.
        past: of `read`.
        sets: what goes. The first token of the text always stays: it is where attention rests when it rests nowhere.
        progress: called with a number of forward passes done.
    """
    gone = [text.in_prompt(blocks) for blocks in sets]
    found = [0.0] * len(sets)
    before = torch.zeros(text.answer_start, dtype=torch.bool)
    for number in sorted(range(len(sets)), key=lambda n: gone[n].tolist()):
        kept = ~gone[number]
        parts = (gone[number] != before).int()
        alike = int(parts.argmax()) if parts.any() else len(kept)
        # the prompt's last token is read in any case: it writes the answer's first
        same = min(int(kept[:alike].sum()), int(kept.sum()) - 1)
        stays = nn.functional.pad(kept, (0, len(text.answer_ids)), value=True)
        logits, past = _logits(
            model, text.ids[stays][None, same:], text.block_ids[stays][None], _first(past, same), len(text.answer_ids)
        )
        found[number] = float(_log_probs(logits, text).sum())
        before = gone[number]
        progress(1)
    return found


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
    before, rows = text.answer_start - 1, len(cuts)
    probe = Knockout(
        layers,
        torch.stack([text.in_prompt([block]) for block, _ in cuts]).to(model.device),
        torch.tensor([renormalise for _, renormalise in cuts], device=model.device),
    )
    parting = min(layers)
    with _parted(model, parting, rows):
        logits, _ = _logits(
            model, text.ids[None, before:], text.block_ids[None], _first(past, before, rows, parting),
            len(text.answer_ids), probe,
        )  # fmt: skip
    return _log_probs(logits, text).sum(-1).tolist()


@contextmanager
def _parted(model: Any, layer: int, rows: int) -> Iterator[None]:
    """Make so many rows of a batch of one where a layer's attention reads it: until then they are the same.

    What is added to attention's output, the residual, still has one row, which every row is added to.
    """

    def part(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (args[0].repeat(rows, 1, 1), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"].repeat(rows, 1, 1)}

    hook = attention_modules(model)[layer].register_forward_pre_hook(part, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


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
    writing = answer + 1
    starts = range(0, max(ids.shape[1] - writing, 1), READ_AT_ONCE)
    for start in starts:
        last = start == starts[-1]
        part = ids[:, start:] if last else ids[:, start : start + READ_AT_ONCE]
        seen += part.shape[1]
        outputs = model(
            input_ids=part.to(model.device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=writing if last else 1,
            **({"locality_probe": probe} if last else {}),
            **({"block_ids": block_ids[:, :seen].to(model.device)} if is_dialled else {}),
        )
    return outputs.logits[:, :-1], outputs.past_key_values


def _log_probs(logits: Tensor, text: AuditedText) -> Tensor:
    """Return log p of the answer's tokens, (B, n) in nats, from the logits that write them."""
    chosen = text.answer_ids.to(logits.device).expand(len(logits), -1)
    return logits.float().log_softmax(-1).gather(-1, chosen[..., None]).squeeze(-1).double().cpu()


def _first(past: Any, tokens: int, rows: int = 1, parting: int = 0) -> Any:
    """Return the past of a text's first tokens, which may be gone on from without changing it.

    Args:
        past: keys and values.
        tokens: how many.
        rows: of the layers from `parting` on; those before have one.
        parting: a layer.
    """
    found = DynamicCache()
    for number, layer in enumerate(past.layers if tokens else ()):
        count = rows if number >= parting else 1
        keys, values = (x[:, :, :tokens].expand(count, -1, -1, -1) for x in (layer.keys, layer.values))
        found.update(keys, values, number)
    return found
