"""`audit`: find what a model's answer to a prompt rested on; and the same for models by folder or hub name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from progloc.accounts.examining import Tests, estimate_cost, examine
from progloc.accounts.schema import Audit, Cost
from progloc.accounts.sources import tokenizer_of
from progloc.accounts.text import prompt_ids, read_text, write_answer
from progloc.attention.plugin import IMPLEMENTATION
from progloc.dialling import dial as dialled
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.generation import check_context
from progloc.hub import name_of
from progloc.measures.passes import evaluating, locality_of
from progloc.model import LocalModel
from progloc.resolve import NamedModel, resolve

LATE = 0.5
"""The λ from which a layer counts as late: local enough for its attention to be shown."""
NO_BASE = "none"
"""As a base: the audited model is not compared with any other."""
EMPTY_PROMPT = "the prompt is empty; expected some text that is answered, as in --prompt 'A class is'"


def late_layers(lambdas: Sequence[float]) -> tuple[int, ...]:
    """Return the layers with λ(ℓ) ≥ 0.5, or else the last layer."""
    return tuple(layer for layer, strength in enumerate(lambdas) if strength >= LATE) or (len(lambdas) - 1,)


def audit(
    model: PreTrainedModel,
    prompt: str,
    continuation: str | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    base: PreTrainedModel | None = None,
    writer: PreTrainedModel | None = None,
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
    if not prompt.strip():
        raise ProglocError(EMPTY_PROMPT)
    if continuation == "":
        raise ProglocError("the continuation is empty; expected some text, or none for the model to write it")
    for name, value, least in (
        ("max_new_tokens", max_new_tokens, 1), ("most_blocks", most_blocks, 2), ("random_sets", random_sets, 0),
    ):  # fmt: skip
        if value < least:
            raise ProglocError(f"{name}={value}; expected a whole number ≥ {least}")
    _check_models(model, base)
    traced = late_layers(locality.lambdas) if layers is None else tuple(sorted(set(layers)))
    if not traced or not all(0 <= layer < len(locality.lambdas) for layer in traced):
        raise ProglocError(f"layers {list(layers or ())}; expected some of 0 to {len(locality.lambdas) - 1}")
    tokenizer = tokenizer_of(model, tokenizer)
    advance = progress or (lambda _: None)
    tests = Tests(most_blocks, random_sets, seed)
    started = time.monotonic()
    with evaluating(model), dialled(model, dial, tokenizer=tokenizer) as setting:
        ids, answer_start = prompt_ids(tokenizer, prompt, continuation)
        check_context(model, len(ids))
        if continuation is None:
            answering = model if writer is None else writer
            with evaluating(answering):
                ids = [*ids, *write_answer(answering, tokenizer, ids, max_new_tokens, lambda: advance(0))]
        text = read_text(model, tokenizer, ids, answer_start, traced[-1])
        cost = estimate_cost(text, tests)
        if base is not None:
            cost = Cost(2 * cost.passes, 2 * cost.tokens)
        if announce is not None:
            announce(cost)
        examined = examine(name_of(model), model, text, traced, tests, advance)
    examined_base = None
    if base is not None:
        with evaluating(base):
            examined_base = examine(name_of(base), base, text, traced, tests, advance)
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


def _check_models(model: PreTrainedModel, base: PreTrainedModel | None) -> None:
    """Raise ProglocError for models that cannot be audited, or not together."""
    for checked in (model, base):
        implementation = IMPLEMENTATION if checked is None else checked.config._attn_implementation
        if implementation != IMPLEMENTATION:
            raise ProglocError(
                f"a model with attn_implementation='{implementation}'; expected '{IMPLEMENTATION}', as localize sets"
            )
    layers, base_layers = (len(locality_of(audited).lambdas) for audited in (model, base or model))
    if base_layers != layers:
        raise ProglocError(
            f"a base of {base_layers} layers for a model of {layers}; expected the model before localising"
        )


def resolve_base(named: NamedModel, base: str | None, say: Callable[[str], None] = lambda _: None) -> NamedModel | None:
    """Return the model to compare an audited one with, on the same blocks; None for no comparison.

    Args:
        named: the audited model, from `resolve`.
        base: a run's folder, a Hugging Face folder, a hub name, or "none"; by default the model that `locality.json`
            records, where it is available.
        say: called with one line that says why the recorded model is left out.

    Raises:
        ProglocError: the given model is not available.
    """
    if base is not None:
        return None if base == NO_BASE else resolve(base, blocks=named.config.blocks)
    if named.base is None:
        return None
    try:
        return resolve(named.base, blocks=named.config.blocks)
    except ProglocError:
        say(f"alone: the model it was made from, {named.base}, cannot be had here; --base MODEL sets one beside it")
        return None


def open_models(
    named: NamedModel, base: NamedModel | None
) -> tuple[LocalModel, LocalModel | None, PreTrainedTokenizerBase]:
    """Return the audited model, its base (or None), and their tokenizer.

    Raises:
        ProglocError: a model is not available, or cannot be localised.
    """
    return named.load(), None if base is None else base.load(), named.load_tokenizer()


def audit_folder(
    model: str,
    prompt: str,
    continuation: str | None = None,
    *,
    base: str | None = None,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Audit:
    """Audit a model's answer; the parameters are those of `audit`, `resolve` and `resolve_base`."""
    if not prompt.strip():  # before a model is loaded
        raise ProglocError(EMPTY_PROMPT)
    named = resolve(model, schedule=schedule, blocks=blocks)
    loaded, loaded_base, tokenizer = open_models(named, resolve_base(named, base, say))
    return audit(loaded, prompt, continuation, tokenizer=tokenizer, base=loaded_base, **settings)
