"""What a call of a model asks of its attention, and what one layer makes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from progloc.attention.dial import Dial, lowered
from progloc.attention.isolation import Isolation, stays
from progloc.attention.masses import CHANNELS
from progloc.attention.segments import segments
from progloc.attention.sink import seen_sinks, sinks
from progloc.attention.visibility import mask_of
from progloc.attention.windows import windowed_mask


@dataclass(frozen=True, eq=False)
class AttentionRequest:
    """What a call asks of attention: the keyword `attention_request`, which travels through a model to every layer.

    A caller says what is to be measured, if not all; block ids have a keyword of their own, `block_ids`. The rest
    is added on the way in (`progloc.calls`). No wrapper moves the tensors in it: a layer takes them to its own device.
    """

    channels: Sequence[str] = ()
    """Further channels of the log masses, from `EXTRA_CHANNELS`."""
    layers: Collection[int] | None = None
    """The layers whose log masses are asked for, by number; None: all."""
    temperature: float = 1.0
    """What scores are divided by, > 0."""
    probe: Callable[[LayerAttention], Tensor | None] | None = None
    """Looks at every layer's attention first, or takes its place with an output (B, H, T, D')."""
    block_ids: Tensor | None = None
    """(B, K) or (B, K, G) integers, of all tokens so far; without them there are no log masses and no dial."""
    documents: Tensor | None = None
    """(B, K) integers, which tell the sink of tokens that do not see it; None: it is the first key that they see."""
    granularity: Sequence[int] = ()
    """Which of G granularities each layer has, L numbers."""
    windows: Sequence[int] = ()
    """Within how many tokens each layer attends, L numbers, 0 for all; empty: in no layer there is a window."""
    dials: Sequence[Dial] = ()
    """How each layer is dialled, L of them; empty: none is."""
    isolation: Isolation | None = None
    """How sources are isolated from each other; None: they are not."""

    def isolation_of(self, module: nn.Module, device: torch.device) -> Isolation | None:
        """Return how a layer isolates, on its device; None where it does not."""
        if self.isolation is None or self.isolation.outside[int(module.layer_idx)] == 1:  # type: ignore[arg-type]
            return None
        return self.isolation.to(device)

    def blocks_of(self, module: nn.Module, device: torch.device) -> Tensor | None:
        """Return a layer's own block ids, (B, K) on its device, of those that may be (B, K, G)."""
        ids = self.block_ids
        if ids is not None and ids.ndim == 3 and self.granularity:
            ids = ids[..., self.granularity[int(module.layer_idx)]]  # type: ignore[arg-type]
        return None if ids is None else ids.to(device)


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """One layer's attention: what it is computed from, and what is asked of it."""

    request: AttentionRequest
    module: nn.Module
    """The layer, with its `layer_idx`."""
    query: Tensor
    """(B, H, T, D), of the last T of K tokens."""
    key: Tensor
    """(B, H_kv, K, D), H a multiple of H_kv."""
    value: Tensor
    """(B, H_kv, K, D'), nearly always D' = D."""
    seen: Tensor | None
    """As `visibility` gives it; (B, 1, T, K) is a pattern of the model's own."""
    block_ids: Tensor | None
    """(B or 1, K), the layer's own."""
    scaling: float
    """What q·k is multiplied by."""
    dropout: float
    """On the weights."""
    is_causal: bool | None
    """What the model says of it, if anything."""
    isolation: Isolation | None = None
    """How the layer isolates sources; None: not at all."""

    @property
    def index(self) -> int:
        """The layer's number."""
        return int(self.module.layer_idx)  # type: ignore[arg-type]

    @property
    def scale(self) -> float:
        """What q·k is multiplied by in all: the scaling over the temperature."""
        return self.scaling / self.request.temperature

    @property
    def dial(self) -> Dial:
        """How the layer is dialled."""
        return self.request.dials[self.index] if self.request.dials else Dial()

    @property
    def kept_odds(self) -> tuple[float, ...]:
        """What the odds of keys are multiplied by, rule by rule, of those that change any: the dial and isolation."""
        odds = () if self.isolation is None else (self.isolation.outside[self.index],)
        return (*odds, self.dial.outside) if self.dial.turned else odds

    @property
    def window(self) -> int:
        """Within how many tokens it attends; 0 where that is all of them: there are no more, or it has none."""
        window = self.request.windows[self.index] if self.request.windows else 0
        return window if self.key.shape[2] > 2 * window else 0

    @property
    def measured(self) -> bool:
        """Whether its log masses are asked for."""
        return self.block_ids is not None and (self.request.layers is None or self.index in self.request.layers)

    @property
    def mask(self) -> Tensor:
        """Which keys a query may look at, (B or 1, 1, T, K) boolean."""
        whole = mask_of(self.seen, self.query.shape[2], self.key.shape[2], self.query.device)
        return windowed_mask(whole, self.window) if self.window else whole

    def lower(self, scores: Tensor, asking: Tensor | slice, keys: int, is_sink: Tensor | bool) -> Tensor:
        """Return scores, in nats, as dial and isolation have them; like `is_sink` they broadcast to (B, H, n, keys).

        The n queries are the tokens `asking`, the keys the first ones, of which `is_sink` marks each query's own.
        """
        if self.block_ids is not None and self.dial.turned:
            blocks = self.block_ids[:, None, None, :keys]
            scores = self.dial.lower(scores, blocks[..., asking].mT, blocks, is_sink)
        if self.isolation is not None:
            roles = self.isolation.roles[:, None, None, :keys]
            scores = lowered(scores, stays(roles[..., asking].mT, roles), self.isolation.outside[self.index])
        return scores

    def sinks(self, mask: Tensor) -> Tensor:
        """Return the key that is each query's sink, (B or 1, T), whether it sees it or not; the mask is the layer's."""
        if self.request.documents is None:
            return seen_sinks(mask)
        documents = self.request.documents.to(mask.device)
        return sinks(segments(documents), mask.device)[:, -self.query.shape[2] :]

    @property
    def no_masses(self) -> Tensor | None:
        """What stands for log masses nobody asked for: zeros (B, H, T, C) that take no memory; None without blocks."""
        width = len(CHANNELS) + len(self.request.channels)
        return None if self.block_ids is None else self.query.new_zeros(()).expand(*self.query.shape[:3], width)
