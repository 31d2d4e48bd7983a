"""`FusedLoss`: the model's own loss without logits, what is refused, and that nothing is left behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

from progloc import localize, measure
from progloc.fused_loss import CannotFuse, FusedLoss, SummedLoss

TinyModel = Callable[..., PreTrainedModel]
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 101,
    "intermediate_size": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
SCALED = {
    "gemma2": {"final_logit_softcapping": 30.0, "head_dim": 8},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 2.0},
}


def batch() -> dict[str, Tensor]:
    ids = torch.randint(0, 101, (3, 17), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[0, :4] = -100
    return {"input_ids": ids, "labels": labels}


def scaled(family: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE, **SCALED[family]))


@pytest.fixture(params=["tied gpt2", "untied gpt2", "llama"])
def model(request: pytest.FixtureRequest, tiny_gpt2: TinyModel, tiny_llama: TinyModel) -> PreTrainedModel:
    if request.param == "llama":
        return tiny_llama()
    return tiny_gpt2(tie_word_embeddings=request.param == "tied gpt2")


def loss_and_gradients(model: nn.Module, **inputs: Any) -> list[Tensor]:
    model.zero_grad()
    loss = model(**{**batch(), **inputs}).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"num_items_in_batch": 37},
        {"num_items_in_batch": torch.tensor(41)},
        {"shift_labels": batch()["input_ids"].roll(-1, 1)},
        {"ignore_index": 7, "labels": batch()["input_ids"]},
    ],
    ids=["mean", "items", "items in a tensor", "shifted", "another index"],
)
def test_loss_and_gradients_are_the_models_own(model: PreTrainedModel, inputs: dict[str, Any]) -> None:
    expected = loss_and_gradients(model, **inputs)
    with FusedLoss(model):
        found = loss_and_gradients(model, **inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_logits_are_empty_within_and_the_models_own_after(model: PreTrainedModel) -> None:
    before = model(**batch()).logits
    with FusedLoss(model):
        assert model(**batch()).logits.shape == (3, 17, 0)
    assert torch.equal(model(**batch()).logits, before)


class Wrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = nn.ModuleDict({"model": model})

    def forward(self, **inputs: Any) -> Any:
        return self.base_model["model"](**inputs)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [Wrapper, nn.parallel.DistributedDataParallel])
def test_within_a_wrapper(model: PreTrainedModel, process_group: None, wrap: Callable[..., nn.Module]) -> None:
    expected = loss_and_gradients(model)
    wrapped = wrap(model)
    with FusedLoss(wrapped):
        found = loss_and_gradients(wrapped)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_compiled_without_a_graph_break_and_once(model: PreTrainedModel) -> None:
    graphs = 0

    def count(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(model, backend=count, fullgraph=True)
    fused = FusedLoss(compiled)
    expected = loss_and_gradients(model)
    for _ in range(3):
        with fused:
            found = loss_and_gradients(compiled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert graphs == 1


@pytest.mark.parametrize("error", [KeyError, CannotFuse])
def test_nothing_is_left_behind(model: PreTrainedModel, error: type[Exception]) -> None:
    parts = [model, model.get_output_embeddings()]
    model.loss_function = ForCausalLMLoss  # set on the model itself, so it has to come back
    before = [dict(vars(part)) for part in parts]
    outer, inner = FusedLoss(model), FusedLoss(model)

    def fail() -> None:
        with outer, inner, outer:
            model(**batch())
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert [dict(vars(part)) for part in parts] == before


def test_one_within_another_is_as_one(model: PreTrainedModel) -> None:
    expected = loss_and_gradients(model)
    with FusedLoss(model), FusedLoss(model):
        found = loss_and_gradients(model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", SCALED)
def test_a_model_that_changes_its_logits_is_refused(family: str) -> None:
    model = scaled(family)
    with pytest.raises(CannotFuse, match="cannot be fused: it changes its logits before the loss"), FusedLoss(model):
        model(**batch())


class Scaled(nn.Linear):
    def forward(self, hidden: Tensor) -> Tensor:
        return 2 * super().forward(hidden)


def break_head(model: PreTrainedModel) -> None:
    model.lm_head = Scaled(32, 101)


def break_instance(model: PreTrainedModel) -> None:
    model.lm_head.forward = lambda hidden: hidden  # as accelerate's offloading does


def break_type(model: PreTrainedModel) -> None:
    model.lm_head = nn.Sequential(model.lm_head)  # as an adapter does


def break_hooks(model: PreTrainedModel) -> None:
    model.lm_head.register_forward_hook(lambda *_: None)


def break_loss(model: PreTrainedModel) -> None:
    model.loss_function = len


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (break_head, "its head is not a plain nn.Linear but Scaled with a forward of its own; leave fused_loss off"),
        (break_instance, "its head is not a plain nn.Linear"),
        (break_type, "its head is not a plain nn.Linear but Sequential"),
        (break_hooks, "its head has hooks"),
        (break_loss, "its loss function is len, not ForCausalLMLoss"),
    ],
)
def test_what_is_refused_at_once_and_later(
    tiny_gpt2: TinyModel, change: Callable[[PreTrainedModel], None], message: str
) -> None:
    model = tiny_gpt2(tie_word_embeddings=False)
    fused = FusedLoss(model)
    change(model)
    fused.head = model.lm_head
    with pytest.raises(CannotFuse, match=message):
        FusedLoss(model)
    with pytest.raises(CannotFuse, match=message), fused:
        pass


def test_models_without_a_head_and_copies_of_models_are_refused(tiny_gpt2: TinyModel) -> None:
    with pytest.raises(CannotFuse, match="GPT2Model has no language-model head"):
        FusedLoss(tiny_gpt2().transformer)
    with pytest.raises(CannotFuse, match="DataParallel copies the model"):
        FusedLoss(nn.DataParallel(tiny_gpt2()))


@pytest.mark.parametrize("family", [*SCALED, "gpt2"])
def test_the_sum_is_the_same_with_and_without_logits(family: str, tiny_gpt2: TinyModel) -> None:
    model = tiny_gpt2() if family == "gpt2" else scaled(family).eval()
    inputs = batch()
    run, calls = SummedLoss(model), 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    model.register_forward_hook(count)
    for _ in range(2):
        with torch.inference_mode():
            outputs, loss = run(inputs["labels"], input_ids=inputs["input_ids"])
        expected = model(**inputs, num_items_in_batch=1)
        torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=1e-5)
        assert outputs.logits.shape[-1] == (0 if family == "gpt2" else 101)
    assert calls == 4 + (family != "gpt2")  # what needs its logits is run twice the first time, and once after that


def test_measuring_makes_no_logits(tiny_gpt2: TinyModel) -> None:
    model = localize(tiny_gpt2())
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.shape))
    items = [{"input_ids": ids} for ids in batch()["input_ids"]]
    perplexity = measure(model, items, batch_size=2).perplexity
    assert seen == [(2, 17, 0), (1, 17, 0)]
    ids = batch()["input_ids"]
    assert math.log(perplexity) == pytest.approx(model(input_ids=ids, labels=ids).loss.item(), rel=1e-5)
