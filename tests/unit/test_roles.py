"""Roles from what a text is made of."""

from __future__ import annotations

import copy
from itertools import groupby
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from progloc import READER, SHARED, ProglocError
from progloc.roles import roles_from_blocks, roles_from_messages, roles_from_spans
from toy_tokenizers import TOKENIZERS, beginning_with

BLOCKS = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 1, 3, 3, 3]])


def test_the_last_block_reads() -> None:
    expected = [[SHARED, 0, 1, 1, 1, READER], [SHARED, 1, 1, READER, READER, READER]]
    assert roles_from_blocks(BLOCKS).tolist() == expected
    assert roles_from_blocks(BLOCKS[1]).tolist() == expected[1]


def test_a_reader_starts_where_it_is_told_to() -> None:
    starts = torch.tensor([2, 6])
    expected = [[SHARED, SHARED, READER, READER, READER, READER], [SHARED, SHARED, 1, 3, 3, 3]]
    assert roles_from_blocks(BLOCKS, starts, shared=2).tolist() == expected
    assert roles_from_blocks(BLOCKS, 0, shared=0).tolist() == [[READER] * 6] * 2


@pytest.mark.parametrize("start", [-1, 7])
def test_a_reader_outside_the_text_is_refused(start: int) -> None:
    with pytest.raises(ProglocError, match="expected 0 to 6"):
        roles_from_blocks(BLOCKS, start)


def test_several_granularities_are_refused() -> None:
    with pytest.raises(ProglocError, match="pick one granularity"):
        roles_from_blocks(BLOCKS[..., None])


def spans_of(text: str, *parts: str) -> list[tuple[int, int]]:
    return [(text.index(part), text.index(part) + len(part)) for part in parts]


def read(tokenizer: PreTrainedTokenizerFast, text: str, *parts: str, **settings: int) -> tuple[list[str], list[int]]:
    """What the tokens of each source spell, and the roles."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    roles = roles_from_spans(encoded["offset_mapping"], spans_of(text, *parts), **settings)
    ids = torch.tensor(encoded["input_ids"])
    return [tokenizer.decode(ids[roles == number]).strip() for number in range(len(parts))], roles.tolist()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_spans_become_sources_whatever_the_alphabet(kind: str) -> None:
    parts = ["The cat walked.", "今天 🎉👩\u200d👩\u200d👧é", "New York"]
    tokenizer = beginning_with(kind, "<s>", "</s>")
    if kind == "metaspace":  # it has no bytes for what it has not seen
        parts[1] = "今天 é"
    spelt, roles = read(tokenizer, f"Because: {parts[0]} | {parts[1]}\n\n{parts[2]} don't", *parts)
    assert spelt == parts
    assert roles[0] == SHARED
    assert roles[-1] == READER  # </s>, without characters
    assert [role for role, _ in groupby(roles)] == [SHARED, 0, READER, 1, READER, 2, READER]


@pytest.mark.parametrize(
    ("offsets", "spans", "expected"),
    [
        ([(0, 1), (1, 2), (2, 4), (4, 5)], [(1, 3), (3, 5)], [-1, 0, 1, 1]),  # half each: the later's
        ([(0, 2), (2, 6), (6, 8)], [(2, 5), (5, 8)], [-1, 0, 1]),  # most of it the first's
        ([(0, 2), (2, 6), (6, 8)], [(5, 8), (2, 5)], [-1, 1, 0]),
        ([(0, 2), (2, 8), (8, 9)], [(4, 5)], [-1, 0, -2]),  # an end within a token
        ([(0, 0), (0, 2), (2, 2), (2, 3), (0, 0)], [(0, 2)], [-1, 0, 0, -2, -2]),  # <s>, a space cut off, </s>
        ([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], [(1, 2)], [-1, 0, 0, 0, -2]),  # bytes of one character
    ],
)
def test_tokens_across_an_end(offsets: Any, spans: Any, expected: list[int]) -> None:
    assert roles_from_spans(offsets, spans).tolist() == expected
    assert roles_from_spans(torch.tensor(offsets), spans).tolist() == expected


def test_the_first_token_is_shared_unless_it_must_not_be() -> None:
    offsets, spans = [(0, 2), (2, 4), (4, 6)], [(0, 4)]
    assert roles_from_spans(offsets, spans).tolist() == [SHARED, 0, READER]
    assert roles_from_spans(offsets, spans, shared=0).tolist() == [0, 0, READER]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([], "no spans; expected at least one source"),
        ([(2, 2)], "from 2 to 2; expected 0 ≤ start < end ≤ 6"),
        ([(4, 3)], "from 4 to 3"),
        ([(-1, 3)], "from -1 to 3"),
        ([(2, 7)], "from 2 to 7; expected 0 ≤ start < end ≤ 6"),
        ([(3, 6), (1, 4)], "from 3 overlaps one up to 4"),
        ([(0, 2)], "from 0 to 2 has no token of its own"),  # its one token is shared
    ],
)
def test_spans_that_are_refused(spans: Any, message: str) -> None:
    with pytest.raises(ProglocError, match=message):
        roles_from_spans([(0, 2), (2, 4), (4, 6)], spans)


@pytest.mark.parametrize("offsets", [[[(0, 1), (1, 2)]], [0, 1]])
def test_offsets_of_a_batch_are_refused(offsets: Any) -> None:
    with pytest.raises(ProglocError, match=r"expected \(T, 2\), those of one text"):
        roles_from_spans(offsets, [(0, 1)])


MESSAGE = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ANSWER = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = "{% for m in messages %}" + MESSAGE + "{% endfor %}" + ANSWER
DEFAULT = "{% if messages[0].role != 'system' %}<s>The map.\n{% endif %}" + PLAIN
THINKING = (
    "{% for m in messages %}{% if loop.last and m.role == 'assistant' %}<|im_start|>assistant\n<think>\n\n</think>\n\n"
    "{{ m.content }}<|im_end|>\n{% else %}" + MESSAGE + "{% endif %}{% endfor %}" + ANSWER
)
SYSTEM_ELSEWHERE = (
    "<s>{% for m in messages %}{% if m.role != 'system' %}{% if PLACE %}BEFORE{{ messages[0].content }}AFTER{% else %}["
    "{% endif %}{{ m.content }}]{% endif %}{% endfor %}"
)


def with_system(place: str, before: str, after: str) -> str:
    return SYSTEM_ELSEWHERE.replace("PLACE", place).replace("BEFORE", before).replace("AFTER", after)


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate!') }}"
    "{% endif %}" + MESSAGE + "{% endfor %}" + ANSWER
)
CHAT = [
    {"role": "user", "content": "The cat walked."},
    {"role": "assistant", "content": "今天 é"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "New York"},
    {"role": "user", "content": "because?"},
]
SYSTEM = {"role": "system", "content": "In the end:"}


def chatting(template: str, kind: str = "byte_level") -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(beginning_with(kind, "<s>", "</s>"))
    tokenizer.chat_template = template
    return tokenizer


def marked(message: dict[str, str]) -> str:
    return f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"


@pytest.mark.parametrize("template", [PLAIN, DEFAULT, THINKING, ALTERNATING])
def test_messages_are_sources_with_their_markers(template: str) -> None:
    tokenizer = chatting(template)
    ids, roles = roles_from_messages(tokenizer, CHAT)
    assert ids.tolist() == tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    before = "<s>The map.\n" if template == DEFAULT else "<|im_start|>"
    assert tokenizer.decode(ids[roles == SHARED]) == before
    first = marked(CHAT[0]) if template == DEFAULT else marked(CHAT[0]).removeprefix(before)
    assert [tokenizer.decode(ids[roles == number]) for number in range(4)] == [first, *map(marked, CHAT[1:4])]
    assert tokenizer.decode(ids[roles == READER]) == marked(CHAT[4]) + "<|im_start|>assistant\n"
    assert roles.dtype == ids.dtype == torch.int64


@pytest.mark.parametrize("template", [PLAIN, DEFAULT, THINKING])
def test_the_system_is_shared_and_what_is_no_source_reads(template: str) -> None:
    tokenizer, messages = chatting(template), [SYSTEM, *CHAT]
    ids, roles = roles_from_messages(tokenizer, messages)
    assert tokenizer.decode(ids[roles == SHARED]) == marked(SYSTEM)
    assert sorted(set(roles.tolist())) == [READER, SHARED, 1, 2, 3, 4]
    ids, roles = roles_from_messages(tokenizer, messages, sources=[4, 2])
    assert tokenizer.decode(ids[roles == SHARED]) == marked(SYSTEM) + marked(CHAT[0])
    assert tokenizer.decode(ids[roles == 2]) == marked(CHAT[1])
    assert tokenizer.decode(ids[roles == 4]) == marked(CHAT[3])
    assert tokenizer.decode(ids[roles == READER]).startswith(marked(CHAT[2]) + marked(CHAT[4]))


def test_thinking_that_is_left_out_of_earlier_turns_moves_no_end() -> None:
    template = THINKING.replace("<think>\n\n</think>\n\n", "<think>{{ m.thinking }}</think>")
    messages = [CHAT[0], {**CHAT[3], "thinking": "New York is in the U.S. New York"}, *CHAT[2:]]
    ids, roles = roles_from_messages(tokenizer := chatting(template), messages)
    assert tokenizer.decode(ids[roles == 1]) == marked(CHAT[3])


@pytest.mark.parametrize(("place", "role"), [("loop.index0 == 1", SHARED), ("loop.last", READER)])
def test_a_system_message_that_is_written_before_another_is_no_part_of_it(place: str, role: int) -> None:
    ids, roles = roles_from_messages(tokenizer := chatting(with_system(place, "", "[")), [SYSTEM, *CHAT])
    assert [tokenizer.decode(ids[roles == number]) for number in (1, 2)] == ["[The cat walked.]", "[今天 é]"]
    assert "In the end:" in tokenizer.decode(ids[roles == role])


def test_settings_reach_the_template() -> None:
    tokenizer = chatting("{{ tools[0].name }}\n" + PLAIN)
    ids, roles = roles_from_messages(tokenizer, CHAT, tools=[{"name": "the map"}])
    assert tokenizer.decode(ids[roles == SHARED]) == "the map\n"


@pytest.mark.parametrize(
    ("template", "messages", "sources", "message"),
    [
        (None, CHAT, None, "no chat template"),
        (PLAIN, [], None, r"sources \[\] of 0 messages"),
        (PLAIN, [SYSTEM, CHAT[0]], None, r"sources \[\] of 2 messages; expected at least one message before the last"),
        (PLAIN, CHAT, [4], r"sources \[4\] of 5 messages"),
        (PLAIN, CHAT, [-1], r"sources \[-1\]"),
        (PLAIN, CHAT, [1, 1], "overlaps"),
        (ALTERNATING, [CHAT[0], *CHAT], None, r"refuses messages of these roles: user, user, .*\(alternate!\)"),
        (with_system("loop.index0 == 1", "[", ""), [SYSTEM, *CHAT], None, "writes message 1 unlike a later one"),
        (PLAIN.replace(MESSAGE, "{% if m.content %}" + MESSAGE + "{% endif %}"), CHAT, None, "leaves message 2 out"),
        (PLAIN + "{{ messages | length }}", CHAT, None, "unlike where it is the last"),
        (PLAIN.replace("{{ m.role }}", "{{ loop.first }}"), CHAT, None, "writes message 0 unlike a later one"),
    ],
)
def test_chats_that_are_refused(template: Any, messages: Any, sources: Any, message: str) -> None:
    with pytest.raises(ProglocError, match=message) as refusal:
        roles_from_messages(chatting(template), messages, sources=sources)
    assert "\n" not in str(refusal.value)
