"""What happens around a call of a localised model: its blocks and dial are handed to attention (method.md §8, §9)."""

from __future__ import annotations

__all__ = ["REENTRANT", "fill_block_ids", "prepare_inputs_for_generation"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from progloc.attention.plugin import IMPLEMENTATION, PLAIN, REFERENCE
from progloc.attention.segments import documents_in
from progloc.dialling import dialled
from progloc.errors import ProglocError

REENTRANT = (
    "gradient checkpointing with use_reentrant=True drops the penalty's gradient; expected "
    "gradient_checkpointing_kwargs={'use_reentrant': False}, transformers' default"
)


def _refuse_reentrant(model: Any) -> None:
    """Raise where checkpointing would run layers without a graph, and the penalty's gradient be lost silently."""
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            checkpoint = getattr(module, "_gradient_checkpointing_func", None)
            if getattr(checkpoint, "keywords", {}).get("use_reentrant"):
                raise ProglocError(REENTRANT)
            return


def fill_block_ids(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, names: Sequence[str]
) -> tuple[Any, Any]:
    """Forward pre-hook: carry windows and dial, and, where blocks are needed and not given, those of positions.

    Args:
        model: the model called.
        args: what it is called with, as kwargs.
        kwargs: …
        names: of its forward's parameters, for those given by position.
    """
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if model.locality.partitioner.granularities > 1:
        kwargs = {"locality_granularity": model.locality.granularity, **kwargs}
    if any(model.locality.windows):
        kwargs = {"locality_windows": model.locality.windows, **kwargs}
    wanted = given.get("output_attentions")
    if wanted is None:
        wanted = model.config.output_attentions
    dial = dialled(model)
    if dial is not None:
        kwargs = {**dial.keywords(), **kwargs}
        if not wanted:
            kwargs = {"locality_layers": (), **kwargs}
    elif not wanted:
        return args, kwargs
    used = model.config.get_text_config(decoder=True)._attn_implementation
    if used == "eager" and dial is None:  # plain weights, as asked for; `log_masses` refuses them
        return args, kwargs
    # an attention function of the caller's own may give its own weights, but is told of no dial
    if used not in (IMPLEMENTATION, REFERENCE) and (dial is not None or used in PLAIN):
        raise ProglocError(
            f"attn_implementation='{used}' was set after localising, and gives no log masses and takes no dial; "
            f"run model.set_attn_implementation('{IMPLEMENTATION}'), or progloc.delocalize(model) for the plain model"
        )
    if model.training and torch.is_grad_enabled():
        _refuse_reentrant(model)
    mask, cache = given.get("attention_mask"), given.get("past_key_values")
    if wanted and getattr(cache, "is_compileable", False):
        raise ProglocError(
            "log masses were asked for with a static cache, which does not say where the text ends; "
            "expected the dynamic cache, or no output_attentions"
        )
    told = given.get("block_ids") is not None
    if told and "locality_documents" in kwargs:  # by the model around this one
        return args, kwargs
    tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
    packed = None
    if mask is None:
        positions = given.get("position_ids")
        if cache is None and not given.get("use_cache") and positions is not None and positions.ndim == 2:
            # transformers tells packed documents apart by positions, but only where it makes no cache
            packed, kwargs = positions, {**kwargs, "use_cache": False}
        seen = int(cache.get_seq_length()) if cache is not None else 0
        mask = torch.ones(tokens.shape[0], seen + tokens.shape[1], dtype=torch.long, device=tokens.device)
    elif not isinstance(mask, Tensor) or mask.ndim != 2:
        if told:
            return args, kwargs
        raise ProglocError(
            "the blocks of tokens with an attention mask that is not (B, T); expected one of 0 and 1 a token"
        )
    documents = documents_in(mask, packed)
    kwargs = {"locality_documents": documents, **kwargs}
    return args, kwargs if told else {**kwargs, "block_ids": model.locality.block_ids(documents)}


def prepare_inputs_for_generation(model: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """As transformers has it, and the blocks of all tokens so far where the model is dialled."""
    inputs = type(model).prepare_inputs_for_generation(model, input_ids, *args, **kwargs)
    dial = dialled(model)
    if dial is not None:
        inputs["block_ids"] = dial.blocks(input_ids, kwargs.get("attention_mask")).to(input_ids.device)
    return dict(inputs)
