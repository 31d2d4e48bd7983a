"""What a model writes: ids from ids, and the text that they add to what was there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from progloc.blocks import TextFromIds
from progloc.errors import ProglocError

_NO_SETTING = re.compile(r"_|\w+_token_id|output_|return_dict|use_cache|max_length|transformers_version")


def context_length(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model was made for, from its configuration; None where that does not say."""
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)


def check_context(model: PreTrainedModel, tokens: int) -> None:
    """Raise ProglocError where so many tokens of prompt and answer are more than a model was made for."""
    context = context_length(model.config)
    if context is not None and tokens > context:
        raise ProglocError(
            f"{tokens} tokens of prompt and answer; the model has a context of {context}: shorten the prompt, or the "
            "answer (--max-new-tokens)"
        )


def own_settings(model: PreTrainedModel) -> dict[str, object]:
    """Return the settings of a model's `generation_config.json` that bear on what it writes, and are not the usual."""
    own = model.generation_config.to_diff_dict()
    return {name: value for name, value in own.items() if not _NO_SETTING.match(name)}


def write_on(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    most: int,
    *,
    greedy: bool = False,
    **settings: object,
) -> list[int]:
    """Return what a model goes on with from token ids, at most so many, up to the end of the text and without it.

    They end with a whole character, where they hold one.

    Args:
        model: a causal language model.
        tokenizer: its own, a fast one.
        ids: of the text so far, at least one.
        most: how many tokens.
        greedy: take the most likely token each time, whatever the model's own generation settings are; else those hold.
        settings: for `generate`, such as ``do_sample``; they win over the model's own.

    Raises:
        ProglocError: more tokens than the model's context, or generation settings that cannot be used.
    """
    check_context(model, len(ids) + most)
    own = model.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    padding = (own.pad_token_id, tokenizer.pad_token_id, *ends, 0)
    if not greedy and (own.num_return_sequences or 1) > 1:
        raise _unusable(f"asks for {own.num_return_sequences} texts, and one is written")
    prompt = torch.tensor([list(ids)], device=model.device)
    try:
        with _neutral(model) if greedy else nullcontext():
            written = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=most, return_dict_in_generate=False,
                pad_token_id=next(token for token in padding if token is not None), tokenizer=tokenizer, **settings,
            )[0].tolist()  # fmt: skip
    except ValueError as error:
        if greedy or isinstance(error, ProglocError):
            raise
        raise _unusable(str(error).splitlines()[0]) from error
    if written[: len(ids)] != list(ids):
        raise _unusable("has the prompt rewritten")
    new = written[len(ids) :]
    while new and new[-1] in ends:
        new.pop()
    complete = TextFromIds(tokenizer).whole([*ids, *new]) - len(ids)
    return new[:complete] if complete > 0 else new


def _unusable(reason: str) -> ProglocError:
    return ProglocError(f"the model's generation_config.json cannot be used here: {reason}; change it there")


@contextmanager
def _neutral(model: PreTrainedModel) -> Iterator[None]:
    """Leave of a model's own generation settings nothing but which tokens begin, end and pad a text.

    What is passed to `generate` alone would not do: it takes from the model's own whatever is not passed.
    """
    own = {part: part.generation_config for part in model.modules() if "generation_config" in vars(part)}
    for part, settings in own.items():
        roles = {name: getattr(settings, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        part.generation_config = GenerationConfig(**roles)
    try:
        yield
    finally:
        for part, settings in own.items():
            part.generation_config = settings
