"""What it costs an answer to lose parts of its prompt: removal, and knockout of attention.

What is removed is masked, so that texts without different parts are the rows of one batch. All of them start from the
past of the one pass that was traced: what stands before the first removed token is not read again, and knockouts in
late layers share the layers before these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from progloc.accounts.probes import Knockout, Trace, TracedAttention
from progloc.accounts.text import AuditedText
from progloc.attention.request import AttentionRequest
from progloc.dialling import dialled
from progloc.servable import attention_modules

KNOCKOUTS_AT_ONCE = 64 if torch.cuda.is_available() else 8
"""Rows of a batch; each holds the prompt's past once more, in the layers from the first cut one on."""
TOKENS_AT_ONCE = 65536 if torch.cuda.is_available() else 4096
"""Of the texts that are read as one batch; one longer than that is read alone. A GPU wants as many as a step has."""
WHOLE = ("ctrl", "gpt_bigcode", "longcat_flash")
"""Architectures whose layers accept no more rows than the model was given: their knockouts share no layers."""
READ_AT_ONCE = 1024
"""Tokens of a prompt: attention that follows a past has a mask of this many times the text."""


@dataclass(frozen=True)
class Reading:
    """One pass over the whole text."""

    log_probs: Tensor
    """(n,): log p of every token of the answer, nats."""
    past: Cache
    """The keys and values of all tokens, layer by layer."""
    traced: dict[int, TracedAttention]
    """By layer."""


def read(model: PreTrainedModel, text: AuditedText, layers: Sequence[int]) -> Reading:
    """Read a text once, and trace the answer in some layers."""
    trace = Trace(layers, text.division.to(model.device), text.own.to(model.device), len(text.answer_ids))
    writers = torch.arange(text.answer_start, len(text.ids))[None] - 1
    logits, past = _logits(model, text.ids[None], text.block_ids[None], DynamicCache(), writers, probe=trace)
    return Reading(log_probs_of(text.answer_ids, logits)[0], past, trace.traced)


def passes_of(text: AuditedText, sets: int) -> int:
    """Return how many forward passes `removals` takes for so many sets."""
    return -(-sets // max(1, TOKENS_AT_ONCE // len(text.ids)))


def removals(
    model: PreTrainedModel,
    text: AuditedText,
    past: Cache,
    sets: Sequence[Sequence[int]],
    *,
    closed: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return log p(answer) in nats for each set of blocks, removed from the prompt.

    Args:
        model: the model, dialled as it was when it read the text.
        text: the text.
        past: of `read`.
        sets: blocks. The first token of the text always stays: it is where attention rests when it rests nowhere.
        closed: what follows moves up, as if the prompt had never held them; otherwise every token keeps its position.
        progress: called with the number of forward passes just done, `passes_of` in all.
    """
    removed = torch.stack([text.in_prompt(blocks) for blocks in sets])  # (S, P)
    order = sorted(range(len(sets)), key=removed.tolist().__getitem__)  # those that begin alike, together
    rows = max(1, TOKENS_AT_ONCE // len(text.ids))
    results = torch.empty(len(sets), dtype=torch.float64)
    for start in range(0, len(sets), rows):
        batch = order[start : start + rows]
        results[batch] = _without(model, text, past, removed[batch], closed).sum(-1)
        progress(1)
    return results.tolist()


def _without(model: PreTrainedModel, text: AuditedText, past: Cache, removed: Tensor, closed: bool) -> Tensor:
    """Return log p of the answer's tokens, (B, n), without the tokens of the prompt that are removed, (B, P)."""
    answer = len(text.answer_ids)
    stays = nn.functional.pad(~removed, (0, answer), value=True)  # (B, T)
    tokens = torch.arange(len(text.ids)).expand_as(stays)  # (B, T'): those of every row
    positions = tokens
    if closed:  # what is removed lies before the text, as padding does; what all rows lose is not there at all
        tokens = stays.int().argsort(dim=-1, stable=True)[:, int(removed.sum(-1).min()) :]
        stays = stays.gather(1, tokens)
        positions = (stays.cumsum(-1) - 1).clamp(min=0)
    begins = stays.shape[1] - answer
    # the answer's first token is written by the last one of the prompt that is there
    last = torch.where(stays[:, :begins], torch.arange(begins), 0).amax(-1, keepdim=True)
    writers = torch.cat([last, torch.arange(begins, stays.shape[1] - 1).expand(len(last), -1)], 1)  # (B, n)
    same = 0 if closed else int(removed.any(0).int().argmax()) - 1 if removed.any() else begins - 1
    logits, _ = _logits(
        model, text.ids[tokens][:, same:], text.block_ids[tokens], beginning_of(past, same, len(removed)),
        writers - same, stays=stays, positions=positions[:, same:],
    )  # fmt: skip
    return log_probs_of(text.answer_ids, logits)


def knocked_out(
    model: PreTrainedModel,
    text: AuditedText,
    past: Cache,
    layers: Sequence[int],
    cuts: Sequence[tuple[int, bool]],
    progress: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return log p(answer) in nats, with attention from the answer's writers to a block of the prompt cut in layers.

    Args:
        model: the model, dialled as it was when it read the text.
        text: the text.
        past: of `read`.
        layers: where it is cut.
        cuts: for each result the block, and whether what is left of attention is renormalised.
        progress: called with the number of forward passes just done: `KNOCKOUTS_AT_ONCE` cuts are one.
    """
    before, unparted = text.answer_start - 1, model.config.model_type in WHOLE
    parting = 0 if unparted else min(layers)
    results: list[float] = []
    for start in range(0, len(cuts), KNOCKOUTS_AT_ONCE):
        blocks, renormalised = zip(*cuts[start : start + KNOCKOUTS_AT_ONCE], strict=True)
        probe = Knockout(
            layers,
            torch.stack([text.in_prompt([block]) for block in blocks]).to(model.device),
            torch.tensor(renormalised, device=model.device),
        )
        with nullcontext() if unparted else _parted(model, parting, len(blocks)):
            logits, _ = _logits(
                model, text.ids[None, before:].repeat(len(blocks) if unparted else 1, 1), text.block_ids[None],
                beginning_of(past, before, len(blocks), parting), torch.arange(len(text.answer_ids))[None], probe=probe,
            )  # fmt: skip
        results += log_probs_of(text.answer_ids, logits).sum(-1).tolist()
        progress(1)
    return results


@contextmanager
def _parted(model: PreTrainedModel, layer: int, rows: int) -> Iterator[None]:
    """Expand a batch of one to `rows` rows where a layer's attention reads it: until then they are the same.

    The residual, which attention's output is added to, keeps its one row, and is broadcast.
    """

    def part(
        _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        if args:
            return (args[0].repeat(rows, 1, 1), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"].repeat(rows, 1, 1)}

    hook = attention_modules(model)[layer].register_forward_pre_hook(part, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _logits(
    model: PreTrainedModel,
    ids: Tensor,
    block_ids: Tensor,
    past: Cache,
    writers: Tensor,
    *,
    stays: Tensor | None = None,
    positions: Tensor | None = None,
    probe: Trace | Knockout | None = None,
) -> tuple[Tensor, Cache]:
    """Return the logits that write the answer, (B, n, V), and the past after it.

    Args:
        model: the model.
        ids: (B, T'), the tokens to read; the answer is the last of them.
        block_ids: (B, T) or (B, T, G), of the past and of the tokens to read.
        past: keys and values of the tokens before.
        writers: (B or 1, n): which of the T' tokens write the answer.
        stays: (B, T) boolean: which tokens may be attended to; by default all.
        positions: (B, T'); by default one after the other.
        probe: sees the attention of the tokens that write the answer.
    """
    seen = block_ids.shape[1] - ids.shape[1]
    is_dialled = dialled(model) is not None
    wanted, which = writers.unique(return_inverse=True)  # logits of any other token are not made
    outputs: CausalLMOutputWithPast
    starts = range(0, max(int(wanted[0]), 1), READ_AT_ONCE)
    for start in starts:
        last = start == starts[-1]
        part = slice(start, None if last else start + READ_AT_ONCE)
        seen += ids[:, part].shape[1]
        optional = {
            "attention_mask": None if stays is None else stays[:, :seen],
            "position_ids": None if positions is None else positions[:, part],
            "block_ids": block_ids[:, :seen] if is_dialled else None,
        }
        outputs = model(
            input_ids=ids[:, part].to(model.device),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=(wanted - start).to(model.device) if last else 1,
            **{name: tensor.to(model.device) for name, tensor in optional.items() if tensor is not None},
            **({"attention_request": AttentionRequest(probe=probe)} if last else {}),
        )
    logits = outputs.logits  # (B, W, V)
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    return logits[rows, which.to(logits.device)], outputs.past_key_values


def log_probs_of(answer_ids: Tensor, logits: Tensor) -> Tensor:
    """Return log p of an answer's tokens (n,), (B, n) in nats, from the logits (B, n, V) that write them.

    Row by row: the log-probabilities of a whole batch's vocabulary would be its largest tensor by far.
    """
    ids = answer_ids.to(logits.device)[:, None]
    rows = [row.gather(-1, ids)[:, 0] - row.logsumexp(-1) for row in map(Tensor.float, logits)]
    return torch.stack(rows).double().cpu()


def beginning_of(past: Cache, tokens: int, rows: int = 1, parting: int = 0) -> Cache:
    """Return a copy of the past of a text's first tokens, to continue from.

    Args:
        past: keys and values.
        tokens: how many.
        rows: of the layers from `parting` on; those before have one.
        parting: a layer.
    """
    first = DynamicCache()
    for number, layer in enumerate(past.layers if tokens else ()):
        count = rows if number >= parting else 1
        keys, values = (x[:, :, :tokens].expand(count, -1, -1, -1) for x in (layer.keys, layer.values))
        first.update(keys, values, number)
    return first
