"""Log masses from log-sum-exps: the fast path behind the name `progloc`, in the time and memory of plain attention.

What `reference_attention` computes from a matrix, with the matrix never made (method.md §2, §4). The sink is the first
token of a token's document. Where what is off the sink is asked for, attention runs over the other keys alone and the
sink is merged in afterwards, so that nothing is ever found by subtracting masses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from progloc.attention.dial import Dial
from progloc.attention.margins import MARGIN_CHANNELS, chunked_margins
from progloc.attention.masses import CHANNELS, entropy_terms
from progloc.attention.ops import as_autocast, merge, segment_attention, sink_scores
from progloc.attention.segments import Segments, first_tokens, keys_seen, segments
from progloc.attention.sink import of_sinks, sinks

NEVER = float("-inf")


class _Attention:
    """One layer's attention over whole documents, for one value after another.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D).
        documents: (B, T) integers, or None where every sequence is one document.
        block_ids: (B, T) integers.
        scaling: what q·k is multiplied by.
        sink_apart: whether attention over the keys without the sink is asked for.
        dial: how it is dialled; where it is, the sink is to be apart.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        documents: Tensor | None,
        block_ids: Tensor,
        *,
        scaling: float,
        sink_apart: bool,
        dial: Dial,
    ) -> None:
        self.query, self.key, self.scaling, self.sink_apart = query, key, scaling, sink_apart
        self.dial, self.labels = dial, [block_ids] if documents is None else [documents, block_ids]
        position = torch.arange(query.shape[2], device=query.device)[None]
        if sink_apart and query.shape[2] == 1 and documents is None:  # there is no other key to slice off
            documents = position.expand(query.shape[0], -1)
        self.documents = None if documents is None else segments(documents)
        self.sink = sinks(self.documents, query.device)
        """(1, 1) or (B, T): each token's sink."""
        self.is_sink = position == self.sink
        self.sink_score = sink_scores(query, of_sinks(key, self.sink), scaling)
        """s_i,sink, (B, H, T)."""
        if sink_apart and documents is not None:
            self.documents = segments(documents, self.is_sink)
        sink_block = block_ids.gather(-1, self.sink.expand_as(block_ids))
        self.sink_in_block = block_ids == sink_block
        """(B, T)."""
        if dial.turned:
            self.sink_score = dial.lower(self.sink_score, block_ids[:, None], sink_block[:, None], True)

    def over_all(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output (B, H, T, D), and the log-sum-exps over all keys and over those that are not the sink.

        Both are (B, H, T). A sink's own row has itself in both; unless the sink was to be apart, they are the same.
        """
        if not self.sink_apart:
            output, lse = segment_attention(self.query, self.key, value, self.documents, self.scaling)
            return output, lse, lse
        others = self.over_others(value)
        at_sink = self.sink_score.masked_fill(self.is_sink[:, None], NEVER)  # its own row holds it already
        output, lse = merge(others, (self._by_query_head(of_sinks(value, self.sink)), at_sink))
        return output.to(value.dtype), lse, others[1]

    def over_others(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return output and log-sum-exp over the keys that are not the sink, as the dial has them."""
        output, lse = self._undialled(value)
        if not self.dial.turned:
            return output, lse
        of_block, lse_block = self.within(self.labels[-1], value)
        lse, lse_block = self.dial.split(lse, lse_block)
        return merge((output, lse), (of_block, lse_block))

    def _undialled(self, value: Tensor) -> tuple[Tensor, Tensor]:
        if self.documents is not None:
            return segment_attention(self.query, self.key, value, self.documents, self.scaling)
        query, key, rest = (x[:, :, 1:] for x in (self.query, self.key, value))
        output, lse = segment_attention(query, key, rest, None, self.scaling)
        first = self._by_query_head(value[:, :, :1])
        return torch.cat([first, output], 2), torch.cat([self.sink_score[:, :, :1], lse], 2)

    def within(self, region: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return output and log-sum-exp over a token's own region, labels (B, T), without the sink if that is apart.

        The output is empty without a value. Scores are the model's own: the dial changes none within a block.
        """
        found = segments(*self.labels[:-1], region, *([self.is_sink] if self.sink_apart else []))
        return segment_attention(self.query, self.key, value, found, self.scaling)

    def lse_around(self, region: Tensor, lse_block: Tensor) -> Tensor:
        """Return the log-sum-exp over a region that holds a token's block, of which `within` gave ``lse_block``."""
        lse = self.within(region, None)[1]
        return torch.logaddexp(*self.dial.split(lse, lse_block)) if self.dial.turned else lse

    def entropy_of_others(self) -> Tensor:
        """Return H° = LSE° − Σ_j A°_ij s_ij, (B, H, T) ≥ 0: the entropy of attention over what is not the sink.

        The mean score is q_i with what attention gives for the keys as values (method.md §2); dialled, a score is lower
        by −log w outside the block.
        """
        output, lse = self.over_others(self.key)
        mean = (self.query * output).sum(-1) * self.scaling
        if 0 < self.dial.outside < 1:  # else nothing is lowered, or nothing has any mass there
            inside = self.within(self.labels[-1], None)[1]
            mean = mean - self.dial.log_outside * torch.expm1((inside - lse).clamp(max=0.0))
        return (lse - mean).clamp(min=0.0)

    def _by_query_head(self, x: Tensor) -> Tensor:
        """(B, H_kv, …) → (B, H, …)."""
        return x.repeat_interleave(self.query.shape[1] // x.shape[1], 1)


def _ranks(blocks: Segments) -> Tensor:
    """Return the place of every token's block among those of its sequence, by their first tokens, (B, T)."""
    first = first_tokens(blocks)
    is_first = first == torch.arange(first.shape[-1], device=first.device)
    return (is_first.cumsum(-1) - 1).gather(-1, first)


def fast_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    documents: Tensor | None,
    block_ids: Tensor,
    *,
    scaling: float,
    temperature: float = 1.0,
    channels: Sequence[str] = (),
    outside: float = 1.0,
    keep_sink: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return attention's output and its log masses, as `reference_attention` does, in memory linear in T.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv.
        value: as `key`.
        documents: (B, T) integers; a token sees the earlier ones of its own document. Padding is a document as well.
            None: every sequence is one.
        block_ids: (B, T) or (1, T) integers; a block ends where its document does.
        scaling: what q·k is multiplied by.
        temperature: what scores are divided by.
        channels: further channels, from `EXTRA_CHANNELS`.
        outside: w, what the odds of attention outside the block are multiplied by, in [0, 1]: the dial (method.md §9).
        keep_sink: the dial leaves the sink as it is, whichever block it is in.

    Returns:
        The output (B, H, T, D), and (B, H, T, 2 + len(channels)) in nats, both differentiable.
    """
    query, key, value = as_autocast(query, key, value)
    block_ids = block_ids.expand(query.shape[0], -1)
    documents = None if documents is None else documents.expand(query.shape[0], -1)
    scaling = scaling / temperature
    dial = Dial(outside, keep_sink)
    apart = dial.turned or any(name.endswith(("_no_sink", "_off_sink", "entropy")) for name in channels)
    settings: dict[str, Any] = {"scaling": scaling, "sink_apart": apart, "dial": dial}
    attention = _Attention(query, key, documents, block_ids, **settings)
    output, lse, lse_others = attention.over_all(value)
    lse_block = attention.within(block_ids, None)[1]

    def add(name: str, lse_region: Tensor, with_sink: Tensor) -> None:
        """Note the shares of a region, given its log-sum-exp and whose region holds their sink, (B, T)."""
        if attention.sink_apart:
            shares[f"{name}_no_sink"] = lse_region - lse_others
            at_sink = attention.sink_score.masked_fill(~(with_sink & ~attention.is_sink)[:, None], NEVER)
            lse_region = torch.logaddexp(lse_region, at_sink)
        shares[name] = lse_region - lse

    shares = {"log_sink": attention.sink_score - lse}
    add("log_mass", lse_block, attention.sink_in_block)
    if any("with_previous" in name for name in channels):
        rank = _ranks(segments(*attention.labels))
        # two by two, blocks make pairs in two ways, and in one of them a token's block is the second of its pair
        earlier, later = (attention.lse_around(pair, lse_block) for pair in (rank // 2, (rank + 1) // 2))
        lse_pair = torch.where((rank % 2 == 1)[:, None], earlier, later)
        add("log_mass_with_previous", lse_pair, rank - rank.gather(-1, attention.sink.expand_as(rank)) <= 1)
    shares["log_off_sink"] = lse_others - lse
    found = {name: share.clamp(max=0.0) for name, share in shares.items()}  # rounding can leave one a hair above 0
    if any(name.startswith("entropy") for name in channels):
        if query.dtype in (torch.float16, torch.bfloat16):  # a small difference of large numbers
            attention = _Attention(query.float(), key.float(), documents, block_ids, **settings)
        found["entropy_no_sink"] = attention.entropy_of_others()
        on, off = found["log_sink"], found["log_off_sink"]
        found["entropy"] = entropy_terms(on) + entropy_terms(off) + off.exp() * found["entropy_no_sink"]
    found["log_off_sink"] = found["log_off_sink"].masked_fill(attention.is_sink[:, None], NEVER)
    if any(name.endswith("keys") for name in channels):
        numbers = keys_seen(torch.zeros_like(block_ids) if documents is None else documents, block_ids)
        found |= {name: number.to(lse).expand_as(lse) for name, number in numbers._asdict().items()}
    if margins := [name for name in channels if name in MARGIN_CHANNELS]:
        found |= chunked_margins(query, key, documents, block_ids, attention.is_sink, names=margins, scaling=scaling)
    return output, torch.stack([found[name] for name in (*CHANNELS, *channels)], -1)
