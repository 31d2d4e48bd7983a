"""What happens around a call of a localised model: its blocks and dial are handed to attention (method.md §8, §9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from progloc.attention.plugin import IMPLEMENTATION, PLAIN, REFERENCE
from progloc.attention.request import AttentionRequest
from progloc.attention.segments import documents_in
from progloc.dialling import dialled
from progloc.errors import ProglocError
from progloc.isolating import is_within_isolate, isolated

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


def complete_request(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, names: Sequence[str]
) -> tuple[Any, Any]:
    """Forward pre-hook: put all that attention is to know into one keyword, `attention_request`.

    These are block ids, by position where they are needed and not given, and the model's windows and dial.

    Args:
        model: the model called.
        args: what it is called with, as kwargs.
        kwargs: …
        names: of its forward's parameters, for those given by position.
    """
    request = kwargs.get("attention_request") or AttentionRequest()
    if request.block_ids is not None and request.documents is not None:  # by the model around this one
        return args, kwargs
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    changes = _changes(model, given, request)
    kwargs = {name: value for name, value in kwargs.items() if name not in ("block_ids", "source_ids")}
    if "documents" in changes and _packed(given) is not None:
        kwargs["use_cache"] = False  # only so transformers keeps the documents apart
    return args, {**kwargs, "attention_request": replace(request, **changes)} if changes else kwargs


def _changes(model: Any, given: dict[str, Any], request: AttentionRequest) -> dict[str, Any]:
    """Return what a request lacks, by name, for a call of a model with what is given by name."""
    changes: dict[str, Any] = {}
    if given.get("block_ids") is not None:
        changes["block_ids"] = given["block_ids"]
    if model.locality.partitioner.granularities > 1:
        changes["granularity"] = model.locality.granularity
    if any(model.locality.windows):
        changes["windows"] = model.locality.windows
    wanted = given.get("output_attentions")
    if wanted is None:
        wanted = model.config.output_attentions
    dial, isolation, source_ids = dialled(model), isolated(model), given.get("source_ids")
    if isolation is not None and request.isolation is None:  # else the model around this one has said it
        changes["isolation"] = isolation.of_call(*_tokens(given), source_ids)
    elif isolation is None and source_ids is not None and not is_within_isolate(model):
        raise ProglocError("source_ids without isolation; call the model within `with progloc.isolate(model): …`")
    if dial is not None:
        changes["dials"] = dial.by_layer
    if not wanted:
        if dial is None and isolation is None:
            return changes
        if request.layers is None:
            changes["layers"] = ()
    used = model.config.get_text_config(decoder=True)._attn_implementation
    if used == "eager" and dial is None and isolation is None:  # plain weights, as asked for; `log_masses` refuses them
        return changes
    # an attention function of the caller's own may give its own weights, but is told of no dial
    if used not in (IMPLEMENTATION, REFERENCE) and (dial is not None or isolation is not None or used in PLAIN):
        raise ProglocError(
            f"attn_implementation='{used}' was set after localising, and gives no log masses and takes no dial or "
            f"isolation; run model.set_attn_implementation('{IMPLEMENTATION}'), or progloc.delocalize(model) for the "
            "plain model"
        )
    if not wanted and dial is None:
        return changes
    if model.training and torch.is_grad_enabled():
        _refuse_reentrant(model)
    mask, cache = given.get("attention_mask"), given.get("past_key_values")
    if wanted and getattr(cache, "is_compileable", False):
        raise ProglocError(
            "log masses were asked for with a static cache, which does not say where the text ends; "
            "expected the dynamic cache, or no output_attentions"
        )
    told = "block_ids" in changes or request.block_ids is not None
    if mask is None:
        tokens, past = _tokens(given)
        mask = torch.ones(tokens.shape[0], past + tokens.shape[1], dtype=torch.long, device=tokens.device)
    elif not isinstance(mask, Tensor) or mask.ndim != 2:
        if told:
            return changes
        raise ProglocError(
            "the blocks of tokens with an attention mask that is not (B, T); expected one of 0 and 1 a token"
        )
    changes["documents"] = documents_in(mask, _packed(given))
    if not told:
        changes["block_ids"] = model.locality.block_ids(changes["documents"])
    return changes


def _tokens(given: dict[str, Any]) -> tuple[Tensor, int]:
    """Return the tokens of a call, as ids or embeddings, and how many are in its cache."""
    cache = given.get("past_key_values")
    tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
    return tokens, int(cache.get_seq_length()) if cache is not None else 0


def _packed(given: dict[str, Any]) -> Tensor | None:
    """Return the positions that tell packed documents apart, as transformers has it: with neither mask nor cache."""
    if any(given.get(name) is not None for name in ("attention_mask", "past_key_values")) or given.get("use_cache"):
        return None
    positions = given.get("position_ids")
    return positions if positions is not None and positions.ndim == 2 else None


def prepare_inputs_for_generation(model: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """As transformers has it, and the blocks of all tokens so far where the model is dialled."""
    inputs = type(model).prepare_inputs_for_generation(model, input_ids, *args, **kwargs)
    dial = dialled(model)
    if dial is not None:
        inputs["block_ids"] = dial.blocks(input_ids, kwargs.get("attention_mask")).to(input_ids.device)
    return dict(inputs)
