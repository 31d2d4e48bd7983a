"""`audit`: from a model and a prompt to what its answer rested on."""

from __future__ import annotations

__all__ = ["audit", "late_layers"]

import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers import AutoTokenizer

from progloc.accounts.examining import examine, planned
from progloc.accounts.schema import Audit, Cost
from progloc.accounts.text import prompt_ids, read_text, written_answer
from progloc.attention.plugin import IMPLEMENTATION
from progloc.dialling import dial as turned
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.generation import check_context
from progloc.hub import pretrained
from progloc.measures.passes import evaluating, locality_of

LATE = 0.5
"""The λ from which on a layer is late: local enough to be read."""


def late_layers(lambdas: Sequence[float]) -> tuple[int, ...]:
    """Return the layers with λ(ℓ) ≥ 0.5; where none has, the last one."""
    return tuple(layer for layer, strength in enumerate(lambdas) if strength >= LATE) or (len(lambdas) - 1,)


def audit(
    model: Any,
    prompt: str,
    continuation: str | None = None,
    *,
    tokenizer: Any = None,
    base: Any = None,
    writer: Any = None,
    dial: float | Sequence[float] = 0.0,
    layers: Sequence[int] | None = None,
    max_new_tokens: int = 64,
    most_blocks: int = 24,
    random_sets: int = 199,
    seed: int = 0,
    announce: Callable[[Cost], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Audit:
    """Show what an answer rested on, and test whether that may be believed.

    The attention of the tokens that write the answer is shared out over the blocks of the text, in the late layers;
    then blocks of the prompt are taken away, and the picture is compared with what that costs the answer.

    Args:
        model: from `localize` or `load`.
        prompt: the text that is answered.
        continuation: the answer, joined to the prompt as it is; by default the model writes one, greedily.
        tokenizer: the model's; by default the one given to `localize`, else that of the model's folder.
        base: another localised model with the same tokenizer, say the one before localising: it is examined on the
            same text, in the same layers, undialled.
        writer: what writes the answer where none is given, undialled; by default `model`, as it is dialled.
        dial: how the model is dialled, δ in [0, 1] or a number a layer (`progloc.dial`).
        layers: those looked at, from 0; by default those with λ ≥ 0.5, or the last one.
        max_new_tokens: how many tokens the model writes at most.
        most_blocks: how many sources, whole blocks of the prompt, are taken away at most, ≥ 2.
        random_sets: how many random sets of them are, for comparison; with fewer than 199 no ranking is supported.
        seed: of what is drawn.
        announce: called with the cost before the work starts, once the answer is written.
        progress: called with further forward passes done, `Cost.passes` in all, and with 0 at every token that the
            model writes; what it raises ends the audit.

    Raises:
        ProglocError: a model that was not localised, an empty prompt or answer, or a number out of range.
    """
    locality = locality_of(model)
    _check(model, base, prompt, continuation, max_new_tokens, most_blocks, random_sets)
    chosen = late_layers(locality.lambdas) if layers is None else tuple(sorted(set(layers)))
    if not chosen or not all(0 <= layer < len(locality.lambdas) for layer in chosen):
        raise ProglocError(f"layers {list(layers or ())}; expected some of 0 to {len(locality.lambdas) - 1}")
    tokenizer = tokenizer or locality.tokenizer or _tokenizer_of(model)
    advance = progress or (lambda _: None)
    started = time.monotonic()
    with evaluating(model), turned(model, dial, tokenizer=tokenizer) as setting:
        ids, answer_start = prompt_ids(tokenizer, prompt, continuation)
        check_context(model, len(ids))
        if continuation is None:
            by = model if writer is None else writer
            with evaluating(by):
                ids = [*ids, *written_answer(by, tokenizer, ids, max_new_tokens, lambda: advance(0))]
        text = read_text(model, tokenizer, ids, answer_start, chosen[-1])
        cost = planned(text, most_blocks, random_sets)
        if base is not None:
            cost = Cost(2 * cost.passes, 2 * cost.tokens)
        if announce is not None:
            announce(cost)

        def examined(name: str, which: Any) -> Any:
            return examine(
                name, which, text, chosen, most_blocks=most_blocks, sets=random_sets, seed=seed, progress=advance
            )

        found = examined(_name_of(model), model)
    beside = None
    if base is not None:
        with evaluating(base):
            beside = examined(_name_of(base), base)
    return Audit(
        examined=found,
        base=beside,
        prompt=text.prompt,
        answer=text.answer,
        given=continuation is not None or writer is not None,
        tokens=text.tokens,
        block_ids=tuple(text.division.tolist()),
        answer_start=answer_start,
        blocks=locality.config.blocks,
        causal=setting.partitioner.causal,
        schedule=locality.config.schedule,
        dial=dial if isinstance(dial, int | float) else tuple(dial),
        cost=cost,
        seconds=time.monotonic() - started,
        environment=describe_environment(),
    )


def _check(
    model: Any, base: Any, prompt: str, continuation: str | None, new: int, most_blocks: int, random_sets: int
) -> None:
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered")
    if continuation is not None and not continuation:
        raise ProglocError("the continuation is empty; expected some text, or none for the model to write it")
    for name, value, least in (
        ("max_new_tokens", new, 1), ("most_blocks", most_blocks, 2), ("random_sets", random_sets, 0),
    ):  # fmt: skip
        if value < least:
            raise ProglocError(f"{name}={value}; expected a whole number ≥ {least}")
    for each in (model, base):
        used = IMPLEMENTATION if each is None else each.config._attn_implementation
        if used != IMPLEMENTATION:
            raise ProglocError(
                f"a model with attn_implementation='{used}'; expected '{IMPLEMENTATION}', as localize sets"
            )
    if base is not None and len(locality_of(base).lambdas) != len(model.locality.lambdas):
        raise ProglocError(
            f"a base of {len(base.locality.lambdas)} layers for a model of {len(model.locality.lambdas)}; "
            "expected the model before localising"
        )


def _tokenizer_of(model: Any) -> Any:
    return pretrained(AutoTokenizer, _name_of(model), "give it: audit(model, prompt, tokenizer=tokenizer)")


def _name_of(model: Any) -> str:
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
