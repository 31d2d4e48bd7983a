"""Roles for isolation (method.md §14), from what a text is made of: blocks, spans or a chat's messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from progloc.attention.isolation import READER, SHARED
from progloc.blocks.encoding import check_fast
from progloc.errors import ProglocError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    Messages = Sequence[dict[str, Any]]

NOT_SOURCES = ("system", "developer")
"""Whose messages are no sources unless they are asked for."""


def roles_from_blocks(block_ids: Tensor, reader_start: int | Tensor | None = None, *, shared: int = 1) -> Tensor:
    """Return the role of every token where blocks are the sources, and what follows them reads.

    Args:
        block_ids: (B, T) or (T,) integers ≥ 0.
        reader_start: the first token that reads, one for all rows or (B,). None: the last block reads.
        shared: how many tokens from the first on are shared. Attention that has nowhere else to rest rests there.

    Returns:
        int64, as `block_ids`: the block of a token, READER from `reader_start` on, SHARED before the first source.

    Raises:
        ProglocError: block ids of several granularities, or a reader that starts outside the text.
    """
    if block_ids.ndim not in (1, 2):
        raise ProglocError(
            f"block ids of shape {tuple(block_ids.shape)}; expected (B, T) or (T,): pick one granularity, "
            "as in block_ids[..., 0]"
        )
    rows = block_ids.long().reshape(-1, block_ids.shape[-1])
    place = torch.arange(rows.shape[1], device=rows.device)
    if reader_start is None:
        starts = torch.where(rows == rows[:, -1:], place, rows.shape[1]).amin(-1)
    else:
        starts = torch.as_tensor(reader_start, device=rows.device).expand(len(rows))
        if bool((starts < 0).any()) or bool((starts > rows.shape[1]).any()):
            raise ProglocError(f"a reader that starts at {starts.tolist()}; expected 0 to {rows.shape[1]}")
    roles = rows.masked_fill(place < shared, SHARED).masked_fill(place >= starts[:, None], READER)
    return roles.reshape(block_ids.shape)


def numbered(roles: Tensor) -> Tensor:
    """Return roles (T,) with their n sources numbered 0 … n−1, in the order of their numbers."""
    _, numbers = roles[roles >= 0].unique(return_inverse=True)
    return roles.masked_scatter(roles >= 0, numbers)


def roles_from_spans(offsets: Any, spans: Sequence[tuple[int, int]], *, shared: int = 1) -> Tensor:
    """Return the role of every token where the sources are spans of a text.

    Tokens in span i are source i. What stands before the first source is shared. All else reads, between sources too:
    no source sees it, and it stays where a source is left out, so put a heading into the span of the source that it
    goes with. A token across an end of a span is the source's. Across two, it is that source's which has most of its
    characters; the later's if both have as many.

    Args:
        offsets: the characters of every token, (T, 2) integers, as a tokenizer gives them with
            ``return_offsets_mapping=True``. A token of none, such as <s>, has an empty span.
        spans: start and end of every source in the text, the end excluded, in any order.
        shared: how many tokens from the first on are shared, a source's or not. Attention that has nowhere else to
            rest rests there.

    Returns:
        (T,) int64.

    Raises:
        ProglocError: no spans, spans that are empty, overlap or go beyond the tokens, or a source without a token.
    """
    tokens = torch.as_tensor(offsets)
    if tokens.ndim != 2 or tokens.shape[1] != 2:
        raise ProglocError(
            f"offsets of shape {tuple(tokens.shape)}; expected (T, 2), those of one text: offset_mapping[0] of a batch"
        )
    if not spans:
        raise ProglocError("no spans; expected at least one source, as (start, end)")
    length, end_before = int(tokens.max()) if len(tokens) else 0, 0
    for start, end in sorted(spans):
        if not 0 <= start < end <= length:
            raise ProglocError(f"a source from {start} to {end}; expected 0 ≤ start < end ≤ {length}, the tokens' end")
        if start < end_before:
            raise ProglocError(f"a source from {start} overlaps one up to {end_before}; expected spans apart")
        end_before = end
    first, last = tokens.unbind(-1)  # (T,)
    first = torch.where(first == last, first - 1, first)  # white space cut off by a tokenizer goes with what is before
    starts, ends = torch.tensor(spans, device=tokens.device).unbind(-1)  # (n,)
    within = torch.minimum(last[:, None], ends) - torch.maximum(first[:, None], starts)  # (T, n) characters
    roles = (within.clamp(min=0) * (len(spans) + 1) + starts.argsort().argsort()).argmax(-1)
    of_source = (within > 0).any(-1)
    before = of_source.cumsum(0) == 0
    roles = roles.masked_fill(~of_source, READER).masked_fill(before, SHARED)
    roles[:shared] = SHARED
    for number, (start, end) in enumerate(spans):
        if not bool((roles == number).any()):
            raise ProglocError(f"a source from {start} to {end} has no token of its own; expected at least one")
    return roles


def roles_from_messages(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, sources: Sequence[int] | None = None, **settings: Any
) -> tuple[Tensor, Tensor]:
    """Return the tokens of a chat and their roles, by the tokenizer's own chat template.

    A source is one message with its markers. What stands before the first source is shared: <s>, system messages, and
    the system prompt that some templates put there by themselves. The last message and the prompt for the answer read,
    and so does every other message after the first source. The first token is always shared.

    Args:
        tokenizer: a fast one, with a chat template.
        messages: as `apply_chat_template` takes them.
        sources: which messages are sources, 0 … n−1; by default all but the last and system messages.
        settings: for the template, such as ``tools=…`` or ``enable_thinking=False``.

    Returns:
        Ids (T,), up to where the answer begins, and roles (T,), both int64. A source's number is its message's.

    Raises:
        ProglocError: no chat template, no source, or a template that shows no message's end.
    """
    check_fast(tokenizer)
    if not tokenizer.chat_template:
        raise ProglocError("the tokenizer has no chat template; set tokenizer.chat_template, or use roles_from_spans")
    last = len(messages) - 1
    if sources is None:
        sources = [n for n, message in enumerate(messages[:-1]) if message.get("role") not in NOT_SOURCES]
    if not sources or not all(0 <= number < last for number in sources):
        raise ProglocError(
            f"sources {list(sources)} of {len(messages)} messages; expected at least one message before the last, "
            f"numbered from 0, such as sources=[{max(0, last - 1)}]"
        )

    def rendered(part: Messages, prompts: bool = False) -> str:
        try:
            return str(
                tokenizer.apply_chat_template(list(part), tokenize=False, add_generation_prompt=prompts, **settings)
            )
        except (TemplateError, TypeError) as error:
            roles = ", ".join(str(message.get("role")) for message in part)
            raise ProglocError(f"the chat template refuses messages of these roles: {roles} ({error})") from error

    whole = rendered(messages, prompts=True)
    ends = [0]
    for number in range(last):
        ends.append(_end_of(rendered(messages[: number + 1]), whole, messages[number], ends[-1]))
    first = min(sources)
    if first == 0 or messages[first].get("role") == "user":  # templates put a prompt, or the system's words, before it
        answer = {"role": "assistant", "content": "Yes."}
        turns = [*messages[: first + 1], answer, messages[first], answer]
        again = rendered(turns)
        start = _end_of(rendered(turns[:-2]), again, answer, 0)
        own = again[start : _end_of(rendered(turns[:-1]), again, messages[first], start)]
        if not whole[: ends[first + 1]].endswith(own):
            raise ProglocError(
                f"the chat template writes message {first} unlike a later one, so where it begins is not known; use "
                "roles_from_spans on the chat's text"
            )
        ends[first] = ends[first + 1] - len(own)
    for number in sources:
        if ends[number] == ends[number + 1]:
            raise ProglocError(
                f"the chat template leaves message {number} out (role '{messages[number].get('role')}'); "
                "choose other sources"
            )
    encoded = tokenizer(whole, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    roles = roles_from_spans(encoded["offset_mapping"], [(ends[n], ends[n + 1]) for n in sources])
    numbers = torch.tensor([*sources, READER, SHARED])  # so that −2 and −1 find themselves at the end
    return torch.tensor(encoded["input_ids"]), numbers[roles]


def _end_of(part: str, whole: str, message: dict[str, Any], start: int) -> int:
    """Return where the first messages of a chat end in the whole chat.

    A template may leave out of earlier messages what it writes in the last, as of an assistant's thinking: what follows
    that is looked for then, and has to end the message.

    Args:
        part: the first messages, rendered by themselves.
        whole: the chat, rendered.
        message: the last of the first.
        start: where it begins in the whole.

    Raises:
        ProglocError: the template writes the messages otherwise in the whole chat.
    """
    if whole.startswith(part):
        return len(part)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(part, whole, strict=False)))
    last_line = str(message.get("content") or "").strip().splitlines()[-1:]
    for cut in range(same, len(part)):
        end = same + len(part) - cut
        if whole.startswith(part[cut:], same) and all(line in whole[start:end] for line in last_line):
            return end
    raise ProglocError(
        f"the chat template writes message '{message.get('role')}' unlike where it is the last, so its end is not "
        "known; use roles_from_spans on the chat's text"
    )
