"""What is timed: ways to take a training step or an evaluation pass, all with the same weights.

A training step is forward and backward, without an optimiser. A batch is packed: sequences of one length, no padding.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from progloc.attention.masses import log_masses
from progloc.attention.plugin import IMPLEMENTATION
from progloc.attention.request import AttentionRequest
from progloc.config import LocalityConfig
from progloc.fused_loss import FusedLoss
from progloc.measures.measuring import measure
from progloc.model import localize
from progloc.objective import Penalty, locality_penalty, penalty_by_head
from step_timing.partitions import FIXED, PARTITIONS, SENTENCE_LIKE

ALPHA = LocalityConfig().alpha
CLIP = 1e-6
"""What the paper clamps a mass to before its logarithm (method.md §2)."""


@dataclass(frozen=True)
class Shape:
    """A batch: B sequences of T tokens."""

    length: int
    batch: int

    @property
    def tokens(self) -> int:
        """B·T."""
        return self.length * self.batch

    def __str__(self) -> str:
        return f"{self.batch} × {self.length:,}"


@dataclass(frozen=True)
class Variant:
    """One way to take a step."""

    name: str
    attention: str
    """transformers' attn_implementation."""
    partition: str | None = None
    """The blocks penalised (or measured); None: neither."""
    fused: bool = False
    """The cross-entropy is computed without the logits."""
    compiled: bool = False
    sink_aware: bool = False
    """The penalty leaves the first token's mass out of the account."""
    trains: bool = True
    """A training step; otherwise an evaluation pass, without gradients."""

    @property
    def materialises(self) -> bool:
        """Whether B·H·T² attention weights are held for every layer."""
        return self.attention == "eager"


SDPA = Variant("sdpa", "sdpa")
"""Plain fine-tuning: what every training step is compared with."""
EAGER = Variant("eager + penalty", "eager", FIXED)
"""What one would write without progloc."""
LOCALIST = {name: Variant(f"progloc, {name}", IMPLEMENTATION, name) for name in PARTITIONS}
LOCALIST_SINK_AWARE = Variant("progloc, sink-aware", IMPLEMENTATION, SENTENCE_LIKE, sink_aware=True)
SDPA_FUSED = Variant("sdpa, fused loss", "sdpa", fused=True)
LOCALIST_FUSED = Variant("progloc, fused loss", IMPLEMENTATION, FIXED, fused=True)
SDPA_COMPILED, LOCALIST_COMPILED = (
    dataclasses.replace(variant, name=f"{variant.name}, compiled", compiled=True)
    for variant in (SDPA_FUSED, LOCALIST_FUSED)
)
FORWARD = Variant("forward, sdpa", "sdpa", trains=False)
FORWARD_FUSED = Variant("forward, sdpa, fused loss", "sdpa", fused=True, trains=False)
MEASURED = Variant("forward, every measure", IMPLEMENTATION, FIXED, trains=False)


def variants(compiled: bool = True, only: str = "") -> tuple[Variant, ...]:
    """Return what a benchmark times, in the order of its table.

    Args:
        compiled: compiled ones too.
        only: those in whose name this regular expression is found, and what they stand against.
    """
    after = (SDPA_COMPILED, LOCALIST_COMPILED) if compiled else ()
    localist = (*LOCALIST.values(), LOCALIST_SINK_AWARE)
    found = (SDPA, EAGER, *localist, SDPA_FUSED, LOCALIST_FUSED, *after, FORWARD, FORWARD_FUSED, MEASURED)
    chosen = [variant for variant in found if re.search(only, variant.name)]
    return tuple(variant for variant in found if variant in chosen or variant in map(plain, chosen))


def plain(variant: Variant) -> Variant:
    """Return the variant that differs from this one in having neither penalty nor measures."""
    kind = (variant.trains, variant.fused, variant.compiled)
    every = (SDPA, SDPA_FUSED, SDPA_COMPILED, FORWARD, FORWARD_FUSED)
    return next(other for other in every if (other.trains, other.fused, other.compiled) == kind)


def random_gpt2(*, layers: int, width: int, heads: int, vocabulary: int, positions: int) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights, float32, every dropout 0."""
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    shape = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": vocabulary, "n_positions": positions}
    model = GPT2LMHeadModel(GPT2Config(**shape, **off))
    model.loss_type = "ForCausalLM"  # GPT2LMHeadModel's own, which it otherwise warns of not finding
    return model


def _twin(base: GPT2LMHeadModel, attention: str) -> GPT2LMHeadModel:
    """Return a model with another attention and the very parameters of ``base``."""
    twin = copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})
    if attention == IMPLEMENTATION:
        localize(twin, LocalityConfig(schedule="localist", blocks=FIXED))
    else:
        twin.set_attn_implementation(attention)
    return twin


def eager_penalty(attentions: Sequence[Tensor], block_ids: Tensor) -> Tensor:
    """Return Σ_ℓ mean(−log m), as one writes it with the attention weights at hand.

    Args:
        attentions: one (B, H, T, T) a layer, from eager attention.
        block_ids: (B, T).
    """
    same = block_ids[:, None, :, None] == block_ids[:, None, None, :]  # (B, 1, T, T); the future has no weight
    masses = [(weights * same).sum(-1, dtype=torch.float32) for weights in attentions]  # L × (B, H, T)
    return torch.stack([-mass.clamp(min=CLIP).log().mean() for mass in masses]).sum()


def localist_loss(model: Any, ids: Tensor, penalty: Penalty | None = None, **asked: Any) -> Tensor:
    """Return CE + α·Σλp as `LocalistTrainer` computes it.

    Args:
        model: from `localize`.
        ids: (B, T).
        penalty: what a token pays; the paper's by default.
        asked: further keywords of the model's call, such as ``block_ids`` (B, T).
    """
    penalty = penalty or Penalty()
    asked = {"output_attentions": True, "attention_request": AttentionRequest(penalty.channels), **asked}
    outputs = model(input_ids=ids, labels=ids, use_cache=False, **asked)
    by_head = penalty_by_head(log_masses(outputs), penalty=penalty)
    loss: Tensor = outputs.loss + ALPHA * locality_penalty(by_head, torch.tensor(model.locality.lambdas))
    return loss


def _eager_loss(model: Any, ids: Tensor, block_ids: Tensor) -> Tensor:
    outputs = model(input_ids=ids, labels=ids, use_cache=False, output_attentions=True)
    loss: Tensor = outputs.loss + ALPHA * eager_penalty(outputs.attentions, block_ids)
    return loss


def _step(variant: Variant, model: Any, ids: Tensor, block_ids: Tensor | None) -> Callable[[], None]:
    """Return the function that is timed: it reads a batch and leaves gradients, or nothing, behind."""
    fused = FusedLoss(model) if variant.fused else nullcontext()
    mixed = torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda")

    def loss() -> Tensor:
        if block_ids is None:
            return model(input_ids=ids, labels=ids, use_cache=False).loss
        if variant.materialises:
            return _eager_loss(model, ids, block_ids)
        return localist_loss(model, ids, Penalty(sink_aware=variant.sink_aware), block_ids=block_ids)

    def train() -> None:
        with mixed, fused:
            value = loss()
        value.backward()

    @torch.inference_mode()
    def read() -> None:
        with mixed, fused:
            loss()

    def evaluate() -> None:
        assert block_ids is not None
        rows = [{"input_ids": row, "block_ids": blocks} for row, blocks in zip(ids, block_ids, strict=True)]
        with mixed:
            measure(model, rows, batch_size=len(rows))

    if variant.trains:
        return train
    return read if block_ids is None else evaluate


def steps(
    base: GPT2LMHeadModel, wanted: Sequence[Variant], shape: Shape, seed: int = 0
) -> dict[Variant, Callable[[], None]]:
    """Return a function for each variant that takes one step on a batch of ``shape``.

    All share the parameters of ``base``, on its device: gradients are left there. On CUDA a step runs under bfloat16
    autocast, as ``TrainingArguments(bf16=True)`` does, and in float32 elsewhere.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, base.config.vocab_size, (shape.batch, shape.length), generator=generator)
    blocks = {name: draw(shape.batch, shape.length, generator) for name, draw in PARTITIONS.items()}
    twins = {attention: _twin(base, attention) for attention in {variant.attention for variant in wanted}}
    found = {}
    for variant in wanted:
        twin = twins[variant.attention]
        found[variant] = _step(
            variant,
            torch.compile(twin) if variant.compiled else twin,
            ids.to(base.device),
            None if variant.partition is None else blocks[variant.partition].to(base.device),
        )
    return found
