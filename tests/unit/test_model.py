"""Attaching locality to a model, taking it off, copying and saving it, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import progloc
from progloc import LocalityConfig, ProglocError, load, localize, log_masses
from progloc.attention.request import AttentionRequest

IDS = torch.randint(0, 101, (2, 17), generator=torch.Generator().manual_seed(0))


def test_a_matrix_for_other_heads_is_refused(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match="gives 2 values in layer 0; the model has 4 heads"):
        localize(tiny_gpt2(), LocalityConfig(schedule=((0.0, 1.0),) * 3))


@pytest.mark.slow
def test_a_saved_model_needs_no_progloc(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(), LocalityConfig())
    model.save_pretrained(tmp_path)
    torch.save(IDS, tmp_path / "ids.pt")
    code = (
        "import sys, torch; from transformers import AutoModelForCausalLM\n"
        f"m = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})\n"
        f"ids = torch.load({str(tmp_path / 'ids.pt')!r})\n"
        "print(m.config._attn_implementation, 'progloc' in sys.modules, float(m(input_ids=ids).logits.double().sum()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert printed[:2] == ["sdpa", "False"]
    expected = float(model(input_ids=IDS).logits.double().sum())
    assert float(printed[2]) == pytest.approx(expected, rel=1e-5)


def test_a_copy_is_local_in_its_own_right(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(blocks="fixed:5"))
    twin = localize(copy.deepcopy(model), LocalityConfig(blocks="fixed:2"))
    with torch.no_grad():
        twin.lm_head.weight.zero_()
    assert model.locality.config.blocks == "fixed:5"
    masses = [log_masses(m(input_ids=IDS, output_attentions=True))[0][..., 0].sum() for m in (model, twin)]
    assert masses[0] > masses[1]
    twin.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "locality.json").read_text())["locality"]["blocks"] == "fixed:2"
    assert not load(tmp_path).lm_head.weight.any()


def test_a_model_without_masses_says_what_to_do(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2())
    with pytest.raises(ProglocError, match="output_attentions=True"):
        log_masses(model(input_ids=IDS))
    eager = tiny_gpt2()
    eager.set_attn_implementation("eager")
    with pytest.raises(ProglocError, match="localize"):
        log_masses(eager(input_ids=IDS, output_attentions=True))


TINY = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 11}


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: BloomForCausalLM(BloomConfig(n_layer=1, **TINY)), "AttentionInterface"),
        (
            lambda: GPTNeoForCausalLM(
                GPTNeoConfig(
                    hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]], vocab_size=11
                )
            ),
            "AttentionInterface",
        ),
        (lambda: T5ForConditionalGeneration(T5Config(d_model=16, num_layers=1, num_heads=2)), "encoder-decoder"),
        (
            lambda: Gemma2ForCausalLM(
                Gemma2Config(num_hidden_layers=1, intermediate_size=16, head_dim=8, num_key_value_heads=1, **TINY)
            ),
            "soft-capped",
        ),
    ],
)
def test_architectures_that_cannot_be_served_are_named(build: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ProglocError, match=reason) as caught:
        localize(build())
    assert "\n" not in str(caught.value)


def test_wrong_inputs_are_refused(tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match=r"2 values; the model has 3 layers"):
        localize(tiny_gpt2(), LocalityConfig(schedule=(0.0, 1.0)))
    model = localize(tiny_gpt2())
    with pytest.raises(ProglocError, match=r"block_ids is .* of shape \(2, 16\)"):
        model(input_ids=IDS, block_ids=torch.zeros(2, 16, dtype=torch.long), output_attentions=True)
    with pytest.raises(ProglocError, match="unknown channel 'entropi'"):
        model(input_ids=IDS, output_attentions=True, attention_request=AttentionRequest(["entropi"]))
    with pytest.raises(ProglocError, match="no model at"):
        load("/nowhere/at/all")


def test_localising_again_keeps_what_was_recorded(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2(), base_model="org/base", sequence_length=32)
    again = localize(model, LocalityConfig(schedule="linear")).locality
    assert (again.config.schedule, again.base_model, again.sequence_length) == ("linear", "org/base", 32)


def plain_state(model: Any) -> Any:
    """What a caller of a model may notice of it, beside its weights."""
    return (
        [config._attn_implementation for config in (model.config, model.model.config)],
        {name: sorted(vars(module)) for name, module in model.named_modules()},
        [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_pre_hooks_with_kwargs))
            for m in model.modules()
        ],
    )


@pytest.mark.parametrize("used", [{}, {"output_hidden_states": True}], ids=["new", "used before"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_delocalize_is_the_way_back(tiny_llama: Callable[..., Any], tmp_path: Path, used: Any, attention: str) -> None:
    model = tiny_llama(attn_implementation=attention)
    if used:
        model(input_ids=IDS, **used)
    before, expected = plain_state(model), model(input_ids=IDS, output_hidden_states=bool(used))
    for schedule in ("linear", "quintic"):
        localize(model, LocalityConfig(schedule))
    assert progloc.delocalize(model) is model
    assert plain_state(model) == before
    assert torch.equal(model(input_ids=IDS, output_hidden_states=bool(used)).logits, expected.logits)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "locality.json").exists()
    with pytest.raises(ProglocError, match="localize"):
        log_masses(model(input_ids=IDS, output_attentions=True))
    assert not hasattr(progloc.delocalize(model), "locality")  # again: there is nothing to take back
    masses = log_masses(localize(model)(input_ids=IDS, output_attentions=True))
    assert torch.equal(masses[1], log_masses(localize(tiny_llama())(input_ids=IDS, output_attentions=True))[1])


def test_delocalize_gives_back_a_method_that_was_the_models_own(tiny_gpt2: Callable[..., Any]) -> None:
    model, saved = tiny_gpt2(), []
    model.save_pretrained = saved.append
    own = model.save_pretrained
    assert progloc.delocalize(localize(model)).save_pretrained is own


def test_a_copy_is_delocalised_alone(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2())
    twin = progloc.delocalize(copy.deepcopy(model))
    assert not any(module._forward_pre_hooks for module in twin.modules())
    assert len(log_masses(model(input_ids=IDS, output_attentions=True))) == 3


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize(
    "again",
    [
        lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
        copy.deepcopy,
        lambda model: copy.deepcopy(copy.deepcopy(model)),
        copy.copy,
    ],
    ids=["pickled", "deep copy", "deep copy twice", "copy"],
)
def test_a_local_model_is_pickled_and_copied_whole(
    request: pytest.FixtureRequest, family: str, again: Callable[[Any], Any], tmp_path: Path
) -> None:
    plain = request.getfixturevalue(family)()
    theirs = plain.register_forward_pre_hook(_nothing)
    model = localize(plain, LocalityConfig("linear", "fixed:3"))
    before = model(input_ids=IDS, output_attentions=True)
    twin = again(model)
    assert twin.locality.to_dict() == model.locality.to_dict()
    assert next(iter(twin._forward_pre_hooks.values())) is _nothing
    after = twin(input_ids=IDS, output_attentions=True)
    assert torch.equal(after.logits, before.logits)
    assert all(torch.equal(*pair) for pair in zip(log_masses(after), log_masses(before), strict=True))
    with progloc.dial(twin, 1.0):
        assert not torch.equal(twin(input_ids=IDS).logits, before.logits)
        assert torch.equal(model(input_ids=IDS).logits, before.logits)
    twin.save_pretrained(tmp_path)
    assert load(tmp_path).locality.config == model.locality.config
    assert theirs.id in model._forward_pre_hooks


def _nothing(module: Any, inputs: Any) -> None:
    """A hook of a user's own."""


def test_what_stands_in_a_localised_model_is_printed_by_name(tiny_gpt2: Callable[..., Any]) -> None:
    assert "partitioner=<partitioner fixed:3>" in repr(localize(tiny_gpt2(), LocalityConfig(blocks="fixed:3")).locality)


@pytest.mark.slow
@pytest.mark.parametrize(
    "earlier",
    [
        lambda model: model(input_ids=IDS, output_hidden_states=True),
        lambda model: model.generate(IDS, max_new_tokens=2, output_attentions=True, return_dict_in_generate=True),
        lambda model: model.model(input_ids=IDS, output_attentions=True) if hasattr(model, "model") else None,
        lambda model: localize(model, LocalityConfig("linear", "fixed:2")),
        lambda model: model.gradient_checkpointing_enable(),
        lambda model: model.compile(backend="eager"),
        lambda model: model.train(),
    ],
)
@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_what_was_done_with_a_model_before_does_not_matter(
    family: str, earlier: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    fresh, used = (request.getfixturevalue(family)(attn_implementation="eager") for _ in range(2))
    earlier(used)
    mode, random = [m.training for m in used.modules()], torch.get_rng_state()
    models = [localize(each, LocalityConfig("linear", "fixed:4")) for each in (fresh, used)]
    assert [m.training for m in used.modules()] == mode
    assert torch.equal(torch.get_rng_state(), random)
    one, other = (log_masses(m.eval()(input_ids=IDS, output_attentions=True, use_cache=False)) for m in models)
    assert len(one) == len(other) == len(fresh.locality.lambdas)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_attention_switched_after_localising_is_named(tiny_llama: Callable[..., Any]) -> None:
    model = localize(tiny_llama(), LocalityConfig("localist"))
    expected = model(input_ids=IDS).logits
    for attention, refusal in (("sdpa", "'sdpa' was set after localising"), ("eager", "as plain weights do")):
        model.set_attn_implementation(attention)
        torch.testing.assert_close(model(input_ids=IDS).logits, expected)
        with pytest.raises(ProglocError, match=refusal):
            log_masses(model(input_ids=IDS, output_attentions=True))
        with pytest.raises(ProglocError, match="was set after"), progloc.dial(model, 0.5):
            model.generate(IDS, max_new_tokens=2)
        with pytest.raises(ProglocError, match=refusal):
            progloc.measure(model, [{"input_ids": IDS[0]}])
    model.set_attn_implementation("progloc")
    assert len(log_masses(model(input_ids=IDS, output_attentions=True))) == 2


@pytest.mark.parametrize("tokens", [1, 2, 4, 6, 17])
def test_plain_weights_are_not_log_masses(tiny_llama: Callable[..., Any], tokens: int) -> None:
    model = tiny_llama(attn_implementation="eager")
    with pytest.raises(ProglocError, match="localize"):
        log_masses(model(input_ids=IDS[:, :tokens], output_attentions=True))
    past = model(input_ids=IDS[:, :4], use_cache=True).past_key_values
    with pytest.raises(ProglocError, match="localize"):
        log_masses(model(input_ids=IDS[:, 4:5], past_key_values=past, output_attentions=True))
    for nothing in (None, (), {"attentions": None}):
        with pytest.raises(ProglocError, match="hold no log masses"):
            log_masses(nothing)
    short = log_masses(localize(model)(input_ids=IDS[:, : max(tokens, 2)], output_attentions=True))
    assert all(layer.shape[-1] == 2 for layer in short)


def test_a_model_that_is_refused_is_left_as_it_was(tiny_llama: Callable[..., Any]) -> None:
    def drop(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {name: value for name, value in kwargs.items() if name != "attention_request"}

    model = tiny_llama(attn_implementation="sdpa")
    before = plain_state(model)
    handle = model.model.layers[1].register_forward_pre_hook(drop, with_kwargs=True)
    with pytest.raises(ProglocError, match="1 of its 2 layers hand block ids on to attention and log masses back"):
        localize(model)
    handle.remove()
    assert plain_state(model) == before
    local = localize(model, LocalityConfig("linear")).locality
    handle = model.model.layers[1].register_forward_pre_hook(drop, with_kwargs=True)
    with pytest.raises(ProglocError, match="1 of its 2 layers"):
        localize(model, LocalityConfig("quintic"), attn_implementation="progloc_reference")
    assert model.locality is local
    assert model.config._attn_implementation == "progloc"


class Leaky(torch.nn.Module):
    """A layer's feed-forward network, and beside it tokens mixed as a convolution or a missing mask mixes them."""

    def __init__(self, inner: Any, shift: int) -> None:
        super().__init__()
        self.inner, self.shift = inner, shift

    def forward(self, hidden: Any) -> Any:
        return self.inner(hidden) + 0.1 * torch.nn.functional.pad(hidden, (0, 0, self.shift, -self.shift))


@pytest.mark.parametrize(("shift", "reason"), [(4, "more than attention carries"), (-1, "a token sees later ones")])
def test_what_passes_attention_by_is_seen(tiny_llama: Callable[..., Any], shift: int, reason: str) -> None:
    model = tiny_llama()
    model.model.layers[0].mlp = Leaky(model.model.layers[0].mlp, shift)
    with pytest.raises(ProglocError, match=reason):
        localize(model)


def test_words_a_model_never_learned_refuse_it_not(tiny_llama: Callable[..., Any]) -> None:
    """Tokens that training never met have nearly one embedding, beside which rounding in all others is much."""
    model = tiny_llama(vocab_size=256)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings[:] = embeddings[:1] + 1e-5 * embeddings
    assert localize(model).locality.lambdas == (0.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_served(tiny_gpt2: Callable[..., Any], dtype: torch.dtype) -> None:
    assert localize(tiny_gpt2().to(dtype)).dtype == dtype


def test_a_model_without_weights_yet_is_localised(tiny_llama: Callable[..., Any]) -> None:
    with torch.device("meta"):
        model = tiny_llama()
    assert localize(model).locality.lambdas == (0.0, 1.0)


def test_the_public_names_are_few_and_there() -> None:
    assert len(progloc.__all__) <= 24
    assert all(hasattr(progloc, name) for name in progloc.__all__)
