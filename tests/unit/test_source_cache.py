"""Sources kept for other prompts: what is read from them is what is read without; what is kept, moved and dropped."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from progloc import LocalityConfig, ProglocError, SourceCache, account, dial, isolate, localize
from progloc.accounts.rotary import Rotation, rotation_between, rotations
from progloc.accounts.source_cache import COARSE, TOLERANCE
from progloc.accounts.sources import SourcedText, lay_out
from progloc.attention.isolation import READER, SHARED
from small_models import FAMILIES, small_model
from toy_tokenizers import beginning_with

NATS = 5e-5  # a token; ≤ 1e-4 is promised
SHARED_IDS = [3, 90]
SOURCES = [[11, 12, 13, 14, 15], [21, 22, 23, 24, 25, 26, 27], [31, 32, 33, 34], [41, 42, 43, 44, 45, 46]]
QUESTION = [51, 52, 53, 54, 55, 56, 57, 58]
TOKENIZER = beginning_with("byte_level", "<s>")
TEXTS = [("cat", "The cat walked."), ("map", "New York is in the U.S."), ("not", "don't! don't!")]
ASKED = "In the end, the"
LEARNED = {"gpt2"}  # positions


def model_of(family: str = "llama", **changes: Any) -> Any:
    return localize(small_model(family, **changes), LocalityConfig("distributed", "fixed:4"))


def reader(family: str = "llama", **changes: Any) -> Any:
    """A model of the tokenizer's words."""
    changes = {"vocab_size": 400, "max_position_embeddings": 256, **changes}
    return localize(small_model(family, **changes), LocalityConfig("distributed", "fixed:4"), TOKENIZER)


def text_of(order: Sequence[int] = (0, 1, 2, 3), shared: Sequence[int] = SHARED_IDS) -> SourcedText:
    parts = [(shared, SHARED), *((SOURCES[source], place) for place, source in enumerate(order)), (QUESTION, READER)]
    ids = [id_ for part, _ in parts for id_ in part]
    roles = [role for part, role in parts for _ in part]
    return SourcedText(torch.tensor(ids), torch.tensor(roles), len(ids))


def log_probs(model: Any, text: SourcedText, past: DynamicCache | None) -> Tensor:
    """log p of the question's tokens but the first, nats; of the whole text in one pass where there is no past."""
    with torch.no_grad(), isolate(model, text.roles):
        ids = text.ids[text.reader_start :]
        logits = model(text.ids[None]).logits if past is None else model(ids[None], past_key_values=past).logits
    rows = logits[0, -len(ids) : -1].float().log_softmax(-1)
    return rows.gather(-1, ids[1:, None])[:, 0]


def assert_same(model: Any, cache: SourceCache, text: SourcedText, nats: float = NATS) -> None:
    torch.testing.assert_close(
        log_probs(model, text, cache.past(text)), log_probs(model, text, None), rtol=0, atol=nats
    )


class Reads:
    """How many tokens a model reads in each of its calls."""

    def __init__(self, model: Any) -> None:
        self.tokens: list[int] = []
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.tokens.append((args[0] if args else kwargs["input_ids"]).shape[1])

    def of(self, call: Any) -> list[int]:
        self.tokens.clear()
        call()
        return list(self.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_is_what_one_pass_reads(family: str) -> None:
    model = model_of(family)
    cache = SourceCache(model)
    assert_same(model, cache, text_of())
    reads = Reads(model)
    assert reads.of(lambda: cache.past(text_of())) == []
    for other in (text_of((0, 1, 3)), text_of((0, 3, 2)), text_of((2, 0, 1, 3))):
        assert_same(model, cache, other)
    assert not torch.allclose(log_probs(model, text_of((2, 0, 1, 3)), None), log_probs(model, text_of(), None))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - LEARNED))
def test_moved_keys_are_those_of_the_other_position(family: str) -> None:
    model = model_of(family, **WIDE.get(family, {}))
    cache = SourceCache(model, move=True)
    cache.past(text_of(shared=()))
    reads = Reads(model)
    for order in ((3, 1, 0, 2), (2, 3), (1,)):
        text = text_of(order, shared=())
        assert reads.of(lambda text=text: cache.past(text)) == []
        assert_same(model, cache, text)


WIDE = {
    family: {name: 64 for name in ("sliding_window", "attention_chunk_size") if name in settings}
    for family, settings in FAMILIES.items()
}


def test_moved_behind_shared_tokens_a_source_is_what_it_is_directly_behind_them() -> None:
    model = model_of()
    cache = SourceCache(model, move=True)
    for source in (1, 3, 0):
        text = text_of((source,))
        torch.testing.assert_close(log_probs(model, text, cache.past(text)), log_probs(model, text, None))
    text, other = text_of((0, 1, 3)), text_of((3, 0, 1))
    fresh = SourceCache(model, move=True)
    fresh.past(other)
    torch.testing.assert_close(
        log_probs(model, text, cache.past(text)), log_probs(model, text, fresh.past(text)), rtol=0, atol=NATS
    )
    assert not torch.allclose(
        log_probs(model, text, cache.past(text)), log_probs(model, text, None), atol=1e-3
    )  # from where they stand, sources see what is shared otherwise


@pytest.mark.parametrize("way", [(0, False), (0, True), (4, False), (4, True)])
def test_how_keys_turn_is_found_under_rounding(way: tuple[int, bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Module()
    model.register_buffer("inv_freq", frequencies := torch.tensor([1.0, 0.1, 0.01]))
    ways, (here, there) = rotations(model, 10), (torch.arange(5), torch.arange(700, 705))
    keys = torch.randn(2, 5, 10, generator=generator)
    rotation = Rotation(frequencies, *way)
    moved = rotation(keys, rotation.turn(here, there))
    rounded = moved + 0.05 * torch.randn(2, 5, 10, generator=generator)
    for expected, tolerance in ((moved, TOLERANCE), (rounded, COARSE)):
        result = rotation_between(ways, keys, expected, here, there, tolerance)
        assert result is not None
        assert (result.first, result.interleaved) == way
    assert rotation_between(ways, keys, rounded, here, there, TOLERANCE) is None
    assert rotation_between(ways, keys, moved, here, there + 1, COARSE) is None
    assert rotations(torch.nn.Module(), 10) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_other_precisions(dtype: torch.dtype) -> None:
    model = model_of().to(dtype)
    exact = dtype == torch.float64
    assert_same(model, SourceCache(model), text_of(), 1e-9 if exact else 0.1)
    cache = SourceCache(model, move=True)
    cache.past(text_of(shared=()))
    assert_same(model, cache, text_of((3, 2, 1), shared=()), NATS if exact else 0.1)


def test_a_text_in_which_something_is_missing_takes_one_pass_of_what_is_missing() -> None:
    model = model_of()
    cache = SourceCache(model)
    cache.past(text_of((0, 1)))
    reads = Reads(model)
    assert reads.of(lambda: cache.past(text_of((0, 1, 2, 3)))) == [len(SHARED_IDS) + 4 + 6]
    assert reads.of(lambda: cache.past(text_of((0, 1, 2, 3), shared=[4, 90]))) == [2 + 5 + 7 + 4 + 6]
    assert reads.of(lambda: cache.past(text_of((0, 1, 2, 3)))) == []


def test_the_same_source_twice_is_kept_once_where_it_can_be_moved() -> None:
    model = model_of()
    cache = SourceCache(model, move=True)
    reads = Reads(model)
    cache.past(text_of((1,), shared=()))
    assert reads.of(lambda: cache.past(text_of((0, 0, 1), shared=()))) == [5]
    assert_same(model, cache, text_of((0, 0, 1), shared=()))


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    model = model_of()
    cache = SourceCache(model)
    cache.past(text_of((0,)))
    cache.past(text_of((1,)))
    most = cache.nbytes
    small = SourceCache(model, memory_bytes=most)
    for source in (0, 1, 0, 2):  # which takes less room than 1
        small.past(text_of((source,)))
        assert small.nbytes <= most
    reads = Reads(model)
    assert reads.of(lambda: small.past(text_of((0,)))) == []
    assert reads.of(lambda: small.past(text_of((1,)))) == [9]
    nothing = SourceCache(model, memory_bytes=0)
    assert_same(model, nothing, text_of())
    assert nothing.nbytes == 0


def test_another_process_finds_sources_in_the_folder(tmp_path: Path) -> None:
    model = model_of()
    SourceCache(model, folder=tmp_path / "sources").past(text_of())
    again = model_of()
    cache = SourceCache(again, folder=tmp_path / "sources")
    reads = Reads(again)
    cache.past(text_of((1, 0)))
    assert reads.of(lambda: cache.past(text_of())) == []
    assert_same(again, cache, text_of())
    assert not list((tmp_path / "sources").glob(".*"))


def test_the_folder_is_bounded(tmp_path: Path) -> None:
    model = model_of()
    cache = SourceCache(model, folder=tmp_path, memory_bytes=0)
    cache.past(text_of((0,)))
    most = sum(path.stat().st_size for path in tmp_path.iterdir()) * 2
    cache = SourceCache(model, folder=tmp_path, memory_bytes=0, folder_bytes=most)
    for source in (1, 0, 3):
        cache.past(text_of((source,)))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= most
    reads = Reads(model)
    assert reads.of(lambda: cache.past(text_of((3,)))) == []
    assert reads.of(lambda: cache.past(text_of((1,)))) == [9]  # used longest ago


@pytest.mark.parametrize("damage", ["cut", "turned", "empty", "swapped"])
def test_a_damaged_file_is_read_again(damage: str, tmp_path: Path) -> None:
    model = model_of()
    SourceCache(model, folder=tmp_path).past(text_of())
    files = sorted(tmp_path.iterdir())
    contents = [path.read_bytes() for path in files]
    for path, content, other in zip(files, contents, contents[1:] + contents[:1], strict=True):
        turned = content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
        path.write_bytes({"cut": content[:-9], "turned": turned, "empty": b"", "swapped": other}[damage])
    cache = SourceCache(model, folder=tmp_path)
    with pytest.warns(RuntimeWarning, match="is damaged; its source is read again"):
        past = cache.past(text_of())
    torch.testing.assert_close(log_probs(model, text_of(), past), log_probs(model, text_of(), None))
    assert [path.read_bytes() for path in files] == contents


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = SourceCache(model := model_of(), folder=tmp_path / "file")
    with pytest.warns(RuntimeWarning, match="sources are not kept in"):
        past = cache.past(text_of())
    torch.testing.assert_close(log_probs(model, text_of(), past), log_probs(model, text_of(), None))


def test_models_do_not_mix_in_one_folder(tmp_path: Path) -> None:
    one, other = model_of(), model_of()
    with torch.no_grad():
        other.model.layers[0].self_attn.k_proj.weight[0, 0] += 1
    for model in (one, other):
        assert_same(model, SourceCache(model, folder=tmp_path), text_of())
    assert len(list(tmp_path.iterdir())) == 10


@pytest.mark.parametrize("how", ["a number", "data", "a step", "loaded"])
def test_what_was_kept_of_other_weights_is_dropped(how: str) -> None:
    model = model_of()
    cache = SourceCache(model)
    before = log_probs(model, text_of(), cache.past(text_of()))
    weight = model.model.layers[0].self_attn.v_proj.weight
    if how == "a number":
        with torch.no_grad():
            weight[3, 5] += 1
    elif how == "data":  # as PEFT merges adapters
        weight.data += 0.1
    elif how == "a step":
        model.train()
        model(text_of().ids[None], labels=text_of().ids[None]).loss.backward()
        torch.optim.AdamW(model.parameters(), lr=0.1).step()
        model.eval()
    else:
        model.load_state_dict({name: x * 1.1 for name, x in model.state_dict().items()})
    assert_same(model, cache, text_of())
    assert not torch.allclose(log_probs(model, text_of(), cache.past(text_of())), before, atol=1e-3)


def test_an_adapter_that_is_switched_is_noticed() -> None:
    peft = pytest.importorskip("peft")
    model = model_of()
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["k_proj"], init_lora_weights=False))
    cache = SourceCache(model)
    assert_same(model, cache, text_of())
    with wrapped.disable_adapter():
        assert_same(model, cache, text_of())
    assert_same(model, cache, text_of())


GENERATION: dict[str, dict[str, Any]] = {"greedy": {}, "sampling": {"do_sample": True}, "beams": {"num_beams": 3}}


@pytest.mark.parametrize("kind", GENERATION)
def test_generation_from_kept_sources_is_generation_without(kind: str) -> None:
    model = reader()
    settings = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0, **GENERATION[kind]}
    cache = SourceCache(model)
    cache.prompt(TEXTS, "another question")
    inputs = cache.prompt(TEXTS, ASKED)
    text = lay_out(TOKENIZER, [text for _, text in TEXTS], ASKED)
    assert inputs["input_ids"].tolist() == [text.ids.tolist()]
    inputs["past_key_values"].batch_repeat_interleave(settings.get("num_beams", 1))
    torch.manual_seed(0)
    written = model.generate(**inputs, **settings)
    torch.manual_seed(0)
    with isolate(model, text.roles):
        expected = model.generate(text.ids[None], attention_mask=torch.ones_like(text.ids)[None], **settings)
    assert torch.equal(written, expected)
    plain = {**settings, "do_sample": False, "num_beams": 1}
    assert not torch.equal(
        model.generate(text.ids[None], **plain), model.generate(**cache.prompt(TEXTS, ASKED), **plain)
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_questions_of_different_lengths_are_one_batch(family: str) -> None:
    model = reader(family)
    cache = SourceCache(model)
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    questions = ["In New York, the cat walked in the end because", ASKED]
    inputs = cache.prompt(TEXTS, questions)
    written = model.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :]
    for row, question in zip(written, questions, strict=True):
        alone = cache.prompt(TEXTS, question)
        assert torch.equal(model.generate(**alone, **settings)[0, alone["input_ids"].shape[1] :], row)


@pytest.mark.parametrize("answer", [" cat walked.", None])
def test_an_account_from_kept_sources_is_the_account(answer: str | None) -> None:
    model = reader()
    expected = account(model, TEXTS, ASKED, answer, max_new_tokens=5)
    cache = SourceCache(model)
    account(model, TEXTS, "Or not:", " cat", cache=cache)
    reads = Reads(model)
    result = account(model, TEXTS, ASKED, answer, max_new_tokens=5, cache=cache)
    length = len(lay_out(TOKENIZER, [text for _, text in TEXTS], ASKED).ids)
    assert sum(tokens > length - 10 for tokens in reads.tokens) == 1  # the plain model's, for the price
    assert result.answer == expected.answer
    assert result.effects == pytest.approx(expected.effects, abs=1e-4)
    assert result.shapley == pytest.approx(expected.shapley, abs=1e-4)
    assert result.price_nats == pytest.approx(expected.price_nats, abs=1e-4)


def test_threads_share_a_cache(tmp_path: Path) -> None:
    model = model_of()
    orders = [(0, 1, 2, 3), (1, 0), (3, 2, 1), (0, 1, 2), (2, 3)]
    expected = {order: log_probs(model, text_of(order), None) for order in orders}
    cache = SourceCache(model, memory_bytes=12_000, folder=tmp_path)
    results: list[bool] = []

    def work(first: int) -> None:
        for place in range(2 * len(orders)):
            order = orders[(first + place) % len(orders)]
            result = log_probs(model, text_of(order), cache.past(text_of(order)))
            results.append(torch.allclose(result, expected[order], rtol=0, atol=NATS))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40
    assert cache.nbytes <= 12_000


def test_what_is_refused() -> None:
    model = reader()
    with pytest.raises(ProglocError, match="no locality"):
        SourceCache(small_model("llama"))
    with pytest.raises(ProglocError, match="memory_bytes=-1; expected ≥ 0"):
        SourceCache(model, memory_bytes=-1)
    with pytest.raises(ProglocError, match="leave `with dial"), dial(model, [0.5, 1]):
        SourceCache(model).prompt(TEXTS, ASKED)
    with pytest.raises(ProglocError, match="keys of GPT2LMHeadModel do not turn with their position"):
        SourceCache(reader("gpt2"), move=True).prompt(TEXTS, ASKED)
    with pytest.raises(ProglocError, match="of which some layers see 8; expected SourceCache"):
        SourceCache(model_of("mistral"), move=True).past(text_of())
    with pytest.raises(ProglocError, match="no question; expected a text, or several"):
        SourceCache(model).prompt(TEXTS, [])
    with pytest.raises(ProglocError, match="two sources are named 'cat'"):
        SourceCache(model).prompt([*TEXTS, TEXTS[0]], ASKED)
    with pytest.raises(ProglocError, match="the model has a context of 256"):
        SourceCache(model).prompt(TEXTS, "cat " * 300)
    with pytest.raises(ProglocError, match="the cache is of another model"):
        account(model, TEXTS, ASKED, " cat", cache=SourceCache(reader()))
    with pytest.raises(ProglocError, match="a cache has sources that were read apart"):
        account(model, TEXTS, ASKED, " cat", isolate=False, cache=SourceCache(model))
    longer = reader(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    with pytest.raises(ProglocError, match=r"\('dynamic'\) follow the length of the text"):
        SourceCache(longer)
