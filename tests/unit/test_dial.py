"""The dial (method.md §9): what it makes of a model, in generation of every kind and in measuring."""

from __future__ import annotations

import contextvars
import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from generation_cases import KINDS, NEW, PROMPT, generated, in_a_thread, prompts
from progloc import LocalityConfig, ProglocError, delocalize, dial, localize, measure
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE


def local(model: Any, **changes: Any) -> Any:
    attention = changes.pop("attn_implementation", IMPLEMENTATION)
    return localize(model, LocalityConfig(**{"schedule": "linear", "blocks": "fixed:4", **changes}),
                    attn_implementation=attention)  # fmt: skip


def at_once(model: Any, sequences: Tensor) -> Tensor:
    """The logits of generated tokens from one pass over the whole text, (B, NEW, V)."""
    mask = torch.cat([prompts(len(sequences))[1], torch.ones(len(sequences), NEW, dtype=torch.long)], 1)[:, :-1]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(sequences[:, :-1], attention_mask=mask, position_ids=positions).logits[:, PROMPT - 1 :]


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def tiny(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_at_zero_it_is_the_plain_model_to_the_bit(tiny: Callable[..., Any], kind: str) -> None:
    settings = {**KINDS[kind], "output_logits": True, "return_dict_in_generate": True}
    plain = generated(tiny(attn_implementation="sdpa"), **settings)
    with dial(local(tiny()), 0.0) as turned:
        assert turned.outside == (1.0,) * len(turned.outside)
        found = generated(local(tiny()), **settings)
    assert torch.equal(found.sequences, plain.sequences)
    assert all(torch.equal(one, other) for one, other in zip(found.logits, plain.logits, strict=True))


@pytest.mark.parametrize("keep_sink", [False, True], ids=["sink dialled", "sink kept"])
@pytest.mark.parametrize("delta", [0.4, 1.0])
def test_the_logits_are_those_of_the_definition(tiny: Callable[..., Any], delta: float, keep_sink: bool) -> None:
    ids, mask = prompts()
    logits = []
    for attention in (IMPLEMENTATION, REFERENCE):
        model = local(tiny(), attn_implementation=attention)
        with torch.no_grad(), dial(model, delta, keep_sink=keep_sink):
            logits.append(model(ids, attention_mask=mask).logits[mask.bool()])
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits[0], local(tiny())(ids, attention_mask=mask).logits[mask.bool()], atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("keep_sink", [False, True], ids=["sink dialled", "sink kept"])
@pytest.mark.parametrize("delta", [0.6, 1.0])
@pytest.mark.parametrize("kind", ["greedy", "sampling", "static cache"])
def test_token_by_token_is_one_pass_over_the_whole_text(
    tiny: Callable[..., Any], kind: str, delta: float, keep_sink: bool
) -> None:
    model = local(tiny())
    with torch.no_grad(), dial(model, delta, keep_sink=keep_sink):
        found = generated(model, **KINDS[kind], output_logits=True, return_dict_in_generate=True)
        whole = at_once(model, found.sequences)
    torch.testing.assert_close(torch.stack(found.logits, 1), whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(at_once(model, found.sequences), whole, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_cache_and_without_one_it_is_the_same_text(tiny: Callable[..., Any], kind: str) -> None:
    model = local(tiny())
    without = {name: value for name, value in KINDS[kind].items() if name != "cache_implementation"}
    with dial(model, 0.8):
        assert torch.equal(generated(model, **KINDS[kind]), generated(model, **without, use_cache=False))


@pytest.mark.parametrize("assistant", [True, False], ids=["a smaller model", "the prompt"])
def test_assisted_decoding_gives_the_text_of_greedy_decoding(tiny_llama: Callable[..., Any], assistant: bool) -> None:
    model = local(tiny_llama())
    helper = {"assistant_model": tiny_llama(num_hidden_layers=1)} if assistant else {"prompt_lookup_num_tokens": 2}
    with dial(model, 0.8):
        assert torch.equal(generated(model, batch=1, **helper), generated(model, batch=1))


def test_one_number_is_a_share_of_lambda_and_a_list_is_by_layer(tiny_gpt2: Callable[..., Any]) -> None:
    model = local(tiny_gpt2())  # λ = 0, 0.5, 1
    with dial(model, 0.5) as scalar, dial(model, [0.0, 0.25, 0.5]) as listed:
        assert scalar.outside == listed.outside == (1.0, 0.75, 0.5)


def test_two_threads_do_not_mix(tiny_llama: Callable[..., Any]) -> None:
    model, deltas = local(tiny_llama()), (0.0, 1.0)
    with dial(model, 0.0):
        expected = [torch.empty(0), torch.empty(0)]
        for place, delta in enumerate(deltas):
            with dial(model, delta):
                expected[place] = generated(model)
    found: dict[int, list[Tensor]] = {0: [], 1: []}
    barrier = threading.Barrier(2)

    def work(place: int) -> None:
        with dial(model, deltas[place]):
            for _ in range(3):
                barrier.wait()
                found[place].append(generated(model))

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torch.equal(*expected)
    for place in (0, 1):
        assert len(found[place]) == 3
        assert all(torch.equal(each, expected[place]) for each in found[place])


def test_a_streamers_thread_is_dialled_or_refused(tiny_llama: Callable[..., Any]) -> None:
    model = local(tiny_llama())
    plain = generated(model)
    with dial(model, 1.0):
        expected = generated(model)
        refused = in_a_thread(lambda: generated(model))
        assert "dialled in another thread and has no dial in this one" in str(refused)
        assert "\n" not in str(refused)
        assert "another thread" in str(in_a_thread(lambda: model(prompts()[0])))
        here = contextvars.copy_context()
        assert torch.equal(in_a_thread(lambda: here.run(generated, model)), expected)

        def of_its_own(delta: float) -> Tensor:
            with dial(model, delta):
                return generated(model)

        assert torch.equal(in_a_thread(lambda: of_its_own(0.0)), plain)
        with dial(model, 0.0):
            assert torch.equal(generated(model), plain)
    assert torch.equal(in_a_thread(lambda: generated(model)), plain)
    with dial(model, 0.0):  # which changes nothing, anywhere
        assert torch.equal(in_a_thread(lambda: generated(model)), plain)


def test_a_dialled_model_is_not_localised_anew(tiny_gpt2: Callable[..., Any]) -> None:
    model = local(tiny_gpt2())
    with dial(model, 0.5):
        for change in (localize, delocalize):
            with pytest.raises(ProglocError, match=r"leave `with dial\(…\)` first"):
                change(model)
        twin = copy.deepcopy(model)
    assert torch.equal(generated(twin), generated(model))
    delocalize(model)


def test_it_ends_with_its_context_and_the_innermost_holds(tiny_gpt2: Callable[..., Any]) -> None:
    model = local(tiny_gpt2())
    plain = generated(model)
    with dial(model, 1.0):
        with dial(model, 0.0):
            assert torch.equal(generated(model), plain)
        assert not torch.equal(generated(model), plain)
    assert torch.equal(generated(model), plain)


def test_measured_fidelity_rises_to_one(tiny_llama: Callable[..., Any]) -> None:
    model = local(tiny_llama(), schedule="localist")
    data = [{"input_ids": row.tolist()} for row in torch.randint(1, 101, (6, 16))]
    fidelity, entropy = [], []
    for delta in (0.0, 0.5, 0.9, 1.0):
        with dial(model, delta):
            report = measure(model, data)
        fidelity.append(report.fidelity)
        entropy.append(report.entropy_bits)
    assert fidelity == sorted(fidelity)
    assert fidelity[-1] == pytest.approx(1.0)
    assert fidelity[0] == pytest.approx(measure(model, data).fidelity)
    assert entropy[-1] < entropy[0]


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (1.5, "a dial of 1.5; expected a number from 0"),
        (-0.1, "a dial of -0.1"),
        (float("nan"), "a dial of nan"),
        ([0.5], "a dial of 1 numbers; the model has 3 layers"),
        ([0.5, 0.5, 2.0], "a dial of 2; expected"),
        ("much", "a dial of 'much'; expected a number in"),
    ],
)
def test_a_dial_that_is_none_is_refused(tiny_gpt2: Callable[..., Any], delta: Any, message: str) -> None:
    with pytest.raises(ProglocError, match=message), dial(local(tiny_gpt2()), delta):
        pass


@pytest.mark.parametrize("schedule", ["uniform:0", "distributed", "not localised", (0.0, 0.0, 0.0)])
def test_one_number_is_refused_where_it_would_do_nothing(tiny_gpt2: Callable[..., Any], schedule: Any) -> None:
    model = local(tiny_gpt2(), schedule=schedule)
    with pytest.raises(ProglocError, match=r"a dial of 0.7 times λ, which is 0 in every layer"), dial(model, 0.7):
        pass
    with dial(model, 0.0), dial(model, [0.0, 0.7, 0.7]) as setting:
        assert setting.outside == (1.0, pytest.approx(0.3), pytest.approx(0.3))


def test_a_model_without_locality_is_refused(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match=r"no locality to dial; run progloc\.localize"), dial(tiny_gpt2(), 0.5):
        pass


def test_blocks_of_the_text_are_asked_for_where_only_tokens_are_known(tiny_gpt2: Callable[..., Any]) -> None:
    model = local(tiny_gpt2(), blocks="sentences")
    with pytest.raises(ProglocError, match="need the text, so the model must be given block_ids"), dial(model, 0.5):
        model(prompts()[0])
    with (
        pytest.raises(ProglocError, match=r"no tokenizer at .*dial\(model, delta, tokenizer=tokenizer\)"),
        dial(model, 0.5),
    ):
        generated(model)


@pytest.mark.slow
def test_a_compiled_model_is_dialled_too(tiny_llama: Callable[..., Any]) -> None:
    model = local(tiny_llama())
    compiled = torch.compile(model, backend="eager")
    ids = prompts()[0]
    with torch.no_grad():
        plain = compiled(ids).logits
        for delta in (0.5, 1.0):
            with dial(model, delta):
                torch.testing.assert_close(compiled(ids).logits, model(ids).logits)
                assert not torch.allclose(compiled(ids).logits, plain, atol=1e-2)
        torch.testing.assert_close(compiled(ids).logits, plain)
