"""`audit`: find what a model's answer to a prompt rested on."""

from __future__ import annotations

__all__ = ["audit", "late_layers"]

import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers import AutoTokenizer

from progloc.accounts.examining import estimate_cost, examine
from progloc.accounts.schema import Audit, Cost, Examination
from progloc.accounts.text import prompt_ids, read_text, write_answer
from progloc.attention.plugin import IMPLEMENTATION
from progloc.dialling import dial as dialled
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.generation import check_context
from progloc.hub import pretrained
from progloc.measures.passes import evaluating, locality_of

LATE = 0.5
"""The λ from which a layer counts as late: local enough for its attention to be shown."""


def late_layers(lambdas: Sequence[float]) -> tuple[int, ...]:
    """Return the layers with λ(ℓ) ≥ 0.5, or else the last layer."""
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
    """Show what an answer rested on, and test whether that picture can be believed.

    In the late layers, the attention of the tokens that write the answer is summed over each block of the prompt. Then
    blocks of the prompt are taken away, and the picture is compared with how much less likely the answer becomes.

    Args:
        model: from `localize` or `load`.
        prompt: the text to answer.
        continuation: the answer, joined to the prompt as it is; by default the model writes one, greedily.
        tokenizer: the model's; by default the one given to `localize`, else that of the model's folder.
        base: another localised model with the same tokenizer, such as the one before localising. It is examined on the
            same text, in the same layers, undialled.
        writer: the model that writes the answer where none is given, undialled; by default `model`, dialled.
        dial: how the model is dialled: δ in [0, 1], or one number per layer (`progloc.dial`).
        layers: the layers to trace, from 0; by default those with λ ≥ 0.5, or the last one.
        max_new_tokens: the most tokens that the model writes.
        most_blocks: the most blocks of the prompt that are taken away, ≥ 2.
        random_sets: how many random sets of blocks are taken away, for comparison; with fewer than 199 no ranking is
            supported.
        seed: of all random draws.
        announce: called with the cost, once the answer is written and before the tests start.
        progress: called with the number of forward passes just done, `Cost.passes` in all, and with 0 at each token
            that the model writes; an exception in it ends the audit.

    Raises:
        ProglocError: the model was not localised, the prompt or answer is empty, or a number is out of range.
    """
    locality = locality_of(model)
    _check(model, base, prompt, continuation, max_new_tokens, most_blocks, random_sets)
    traced = late_layers(locality.lambdas) if layers is None else tuple(sorted(set(layers)))
    if not traced or not all(0 <= layer < len(locality.lambdas) for layer in traced):
        raise ProglocError(f"layers {list(layers or ())}; expected some of 0 to {len(locality.lambdas) - 1}")
    tokenizer = tokenizer or locality.tokenizer or _tokenizer_of(model)
    advance = progress or (lambda _: None)
    started = time.monotonic()
    with evaluating(model), dialled(model, dial, tokenizer=tokenizer) as setting:
        ids, answer_start = prompt_ids(tokenizer, prompt, continuation)
        check_context(model, len(ids))
        if continuation is None:
            writer_model = model if writer is None else writer
            with evaluating(writer_model):
                ids = [*ids, *write_answer(writer_model, tokenizer, ids, max_new_tokens, lambda: advance(0))]
        text = read_text(model, tokenizer, ids, answer_start, traced[-1])
        cost = estimate_cost(text, most_blocks, random_sets)
        if base is not None:
            cost = Cost(2 * cost.passes, 2 * cost.tokens)
        if announce is not None:
            announce(cost)

        def examine_model(which: Any) -> Examination:
            return examine(
                _name_of(which), which, text, traced,
                most_blocks=most_blocks, sets=random_sets, seed=seed, progress=advance,
            )  # fmt: skip

        examined = examine_model(model)
    examined_base = None
    if base is not None:
        with evaluating(base):
            examined_base = examine_model(base)
    return Audit(
        examined=examined,
        base=examined_base,
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
    model: Any,
    base: Any,
    prompt: str,
    continuation: str | None,
    max_new_tokens: int,
    most_blocks: int,
    random_sets: int,
) -> None:
    if not prompt.strip():
        raise ProglocError("the prompt is empty; expected some text that is answered")
    if continuation is not None and not continuation:
        raise ProglocError("the continuation is empty; expected some text, or none for the model to write it")
    for name, value, least in (
        ("max_new_tokens", max_new_tokens, 1), ("most_blocks", most_blocks, 2), ("random_sets", random_sets, 0),
    ):  # fmt: skip
        if value < least:
            raise ProglocError(f"{name}={value}; expected a whole number ≥ {least}")
    for checked in (model, base):
        implementation = IMPLEMENTATION if checked is None else checked.config._attn_implementation
        if implementation != IMPLEMENTATION:
            raise ProglocError(
                f"a model with attn_implementation='{implementation}'; expected '{IMPLEMENTATION}', as localize sets"
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
