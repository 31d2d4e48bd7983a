"""The definition, materialised: every other attention path is tested against this one.

Symbols are method.md §1's: s are scores, A their softmax, B(i) the block of token i, m_i its in-block mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from progloc.attention.margins import margin
from progloc.attention.masses import CHANNELS, entropy_terms

NEVER = float("-inf")


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    block_ids: Tensor | None = None,
    *,
    scaling: float,
    temperature: float = 1.0,
    dropout: float = 0.0,
    channels: Sequence[str] = (),
    outside: float = 1.0,
    keep_sink: bool = False,
    sinks: Tensor | None = None,
    roles: Tensor | None = None,
    forbidden_odds: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """Return attention's output and, where blocks are given, its log masses, from scores in at least float32.

    Args:
        query: (B, H, T, D).
        key: (B, H, K, D), K ≥ T; with block ids, the queries are the last T positions.
        value: (B, H, K, D).
        allowed: (B, 1, T, K) boolean; True where a query may look.
        block_ids: (B, K) integers.
        scaling: what q·k is multiplied by.
        temperature: what scores are divided by (1 except in training's first stage).
        dropout: on the weights, after the masses are taken.
        channels: further channels, from `EXTRA_CHANNELS`.
        outside: w, what the odds of attention outside the block are multiplied by, in [0, 1]: the dial (method.md §9).
        keep_sink: the dial leaves the sink as it is, whichever block it is in.
        sinks: (B or 1, T), the key that is each query's sink, whether it sees it or not; None: the first that it sees.
        roles: (B or 1, K) integers, for isolation (method.md §14): ≥ 0 a source, −1 shared, −2 a reader.
        forbidden_odds: w, what the odds of keys that isolation forbids are multiplied by, in [0, 1].

    Returns:
        The output (B, H, T, D), and (B, H, T, 2 + len(channels)) in nats, or None without block ids.
    """
    T, K = query.shape[2], key.shape[2]
    itself = torch.eye(T, K, dtype=torch.bool, device=query.device).roll(K - T, dims=1)  # (T, K)
    if block_ids is None:  # K may be a static cache's capacity, so where a query's own key is cannot be known
        allowed = allowed | ~allowed.any(-1, keepdim=True)  # a padding row sees everything; nobody reads its output
    else:
        real = (allowed & itself).any(-1, keepdim=True)  # (B, 1, T, 1)
        allowed = (allowed & real) | itself  # a padding row sees itself alone, so that nothing below is ever log 0
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.to(wide) @ key.to(wide).transpose(-1, -2)) * scaling  # s, (B, H, T, K)
        if temperature != 1.0:
            scores = scores / temperature
        scores = scores.masked_fill(~allowed, NEVER)
        undialled = scores
        if roles is not None:
            asks, holds = roles[:, None, -T:, None], roles[:, None, None, :]
            forbidden = (asks != -2) & (holds != -1) & (asks != holds)
            scores = torch.where(forbidden, scores + (math.log(forbidden_odds) if forbidden_odds else NEVER), scores)
        if block_ids is not None:
            in_block = allowed & (block_ids[:, None, -T:, None] == block_ids[:, None, None, :])  # B(i), (B, 1, T, K)
            if sinks is None:
                sinks = allowed[:, 0].int().argmax(-1)
            first = sinks.expand(len(query), -1)[:, None, :, None]  # (B, 1, T, 1)
            sink = torch.zeros_like(allowed).scatter(-1, first, True)
            if outside < 1:
                bias = math.log(outside) if outside else NEVER
                scores = torch.where(in_block | sink if keep_sink else in_block, scores, scores + bias)
        weights = scores.softmax(-1)  # A
        dropped = torch.nn.functional.dropout(weights, dropout, training=dropout > 0)
        output = dropped.to(value.dtype) @ value
        if block_ids is None:
            return output, None

        def lse(keys: Tensor) -> Tensor:  # log-sum-exp over some of the keys, (B, H, T)
            return scores.masked_fill(~keys, NEVER).logsumexp(-1)

        def log_share(keys: Tensor, whole: Tensor) -> Tensor:  # rounding can leave a logarithm a hair above 0
            return (lse(keys) - whole).clamp(max=0.0)

        def entropy(of: Tensor, whole: Tensor) -> Tensor:
            return entropy_terms(of - whole[..., None]).sum(-1).clamp(min=0.0)

        lse_all = scores.logsumexp(-1)
        regions = {"log_mass": in_block}
        if any("with_previous" in name for name in channels):
            rank = _ranks(in_block)
            ahead = rank[:, None, :, None] - rank[:, None, None, :]
            regions["log_mass_with_previous"] = allowed & ((ahead == 0) | (ahead == 1))
        at_sink = scores.gather(-1, first.expand(-1, scores.shape[1], -1, -1)).squeeze(-1)
        found = {name: log_share(region, lse_all) for name, region in regions.items()}  # method.md §2
        found["log_sink"] = (at_sink - lse_all).clamp(max=0.0)
        if any(name.endswith(("_no_sink", "_off_sink")) for name in channels):  # never by subtraction (method.md §3)
            others = allowed & (~sink | itself)  # the sink's own row keeps itself, so that log m° = 0 there
            lse_others = lse(others)
            found["log_off_sink"] = log_share(others, lse_all).masked_fill((sink & itself).any(-1), NEVER)
            found["entropy_no_sink"] = entropy(scores.masked_fill(~others, NEVER), lse_others)
            found |= {f"{name}_no_sink": log_share(region & others, lse_others) for name, region in regions.items()}
            found["margin_no_sink"] = margin(undialled, in_block & others, others & ~in_block)
        if "margin" in channels:
            found["margin"] = margin(undialled, in_block, allowed & ~in_block)
        if "entropy" in channels:
            found["entropy"] = entropy(scores, lse_all)
        for name, keys in (("keys", allowed), ("block_keys", in_block), ("sink_keys", allowed & sink)):
            found[name] = keys.sum(-1).to(lse_all).expand_as(lse_all)
        return output, torch.stack([found[name] for name in (*CHANNELS, *channels)], -1)


def _ranks(in_block: Tensor) -> Tensor:
    """Return the place of every token's block among those of its sequence, by their first tokens, (B, T).

    Args:
        in_block: (B, 1, T, T) boolean, B(i).
    """
    first = in_block[:, 0].int().argmax(-1)  # (B, T): the first token of each token's block
    is_first = first == torch.arange(first.shape[-1], device=first.device)
    return (is_first.cumsum(-1) - 1).gather(-1, first)
