"""What a GPU computes against the definition in double precision: kernels, whole models, the dial, figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from attention_cases import BLOCKS, CORNER, DOCUMENTS, HEADS, B, blocks_of, by_definition, documents_of
from progloc import READER, SHARED, LocalityConfig, dial, isolate, localize, log_masses, measure
from progloc.attention.fast import fast_attention
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.objective import Penalty

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

WIDTH = 64
SCALING = WIDTH**-0.5
CHANNELS = EXTRA_CHANNELS[:3]


@pytest.fixture(autouse=True)
def _full_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False


def query_key_value(heads: tuple[int, int], length: int, dtype: torch.dtype) -> list[Tensor]:
    """(B, H, T, 64), (B, H_kv, T, 64) twice, laid out as models hand them over."""
    generator = torch.Generator().manual_seed(3)
    counts = (heads[0], heads[1], heads[1])
    made = [torch.randn(B, length, n, WIDTH, generator=generator).to("cuda", dtype).transpose(1, 2) for n in counts]
    return [x.requires_grad_() for x in made]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outside", [1.0, 0.3, 0.0], ids=["plain", "dialled", "strict"])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("blocks", BLOCKS)
def test_output_masses_and_the_penaltys_gradient(
    blocks: str, documents: str, heads: str, outside: float, dtype: torch.dtype
) -> None:
    for length in (7, 67, 300):
        leaves = query_key_value(HEADS[heads], length, dtype)
        exact = [x.detach().double().cpu().requires_grad_() for x in leaves]
        labels, token_blocks = documents_of(documents, length), blocks_of(blocks, length)
        on_device = None if labels is None else labels.cuda(), token_blocks.cuda()
        dialled = {"scaling": SCALING, "outside": outside}
        output, masses = fast_attention(*leaves, *on_device, channels=CHANNELS, **dialled)
        expected = by_definition(*exact, labels, token_blocks, CHANNELS, temperature=1.0, **dialled)
        close = 2e-4 if dtype == torch.float32 else 3e-2
        torch.testing.assert_close(output.double().cpu(), expected[0], rtol=close, atol=close)
        finite = expected[1].isfinite()
        torch.testing.assert_close(masses.double().cpu()[finite], expected[1][finite], rtol=1e-3, atol=1e-3)
        corner = expected[1][..., 0].detach() > CORNER
        losses = [
            Penalty()(own[..., 0]).masked_fill(corner.to(own.device), 0.0).double().sum()
            for own in (masses, expected[1])
        ]
        if corner.all():
            continue
        pulls = [torch.autograd.grad(loss, of[:2]) for loss, of in zip(losses, (leaves, exact), strict=True)]
        for ours, defined in zip(*pulls, strict=True):
            assert (ours.double().cpu() - defined).norm() <= (1e-3 if dtype == torch.float32 else 2e-2) * defined.norm()


def llama(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = LlamaConfig(
            vocab_size=101, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.1, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return LlamaForCausalLM(shape).eval().to(dtype)


def localised(device: str) -> PreTrainedModel:
    return localize(llama(), LocalityConfig("uniform:1", "fixed:4")).to(device)  # type: ignore[no-any-return]


IDS = torch.randint(0, 101, (3, 90), generator=torch.Generator().manual_seed(1))
ROLES = torch.tensor([[SHARED] * 3 + [source for source in range(4) for _ in range(18)] + [READER] * 15])
LEFT_PADDED = (torch.arange(90) >= torch.tensor([0, 13, 60])[:, None]).long()


def figures(model: PreTrainedModel) -> dict[str, Tensor]:
    report = measure(model, [{"input_ids": row} for row in IDS])
    names = ("perplexity", "fidelity", "entropy_bits", "sink_mass", "fidelity_no_sink", "entropy_bits_no_sink")
    return {name: torch.tensor(getattr(report, name)) for name in names}


def logits_and_masses(model: PreTrainedModel) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs = model(
            IDS.to(model.device), attention_mask=LEFT_PADDED.to(model.device), output_attentions=True, use_cache=False
        )
    real = LEFT_PADDED.bool()
    masses = torch.cat([layer.cpu().transpose(1, 2)[real] for layer in log_masses(outputs)])
    return {"logits": outputs.logits.cpu()[real], "masses": masses}


def dialled_logits(model: PreTrainedModel) -> dict[str, Tensor]:
    blocks = (torch.arange(90) // 4).expand(3, -1).to(model.device)
    with torch.no_grad(), dial(model, 1.0):
        return {"logits": model(IDS.to(model.device), block_ids=blocks).logits.cpu()}


def generated(model: PreTrainedModel) -> dict[str, Tensor]:
    texts = {}
    for delta in (0.0, 0.6):
        with dial(model, delta):
            texts[str(delta)] = model.generate(
                IDS.to(model.device), attention_mask=LEFT_PADDED.to(model.device), max_new_tokens=12, do_sample=False
            ).cpu()
    return texts


def isolated(model: PreTrainedModel) -> dict[str, Tensor]:
    outputs = {}
    for layers in (None, "sources:1", 0.7):
        with torch.no_grad(), isolate(model, ROLES, layers):
            outputs[f"{layers}"] = model(IDS.to(model.device)).logits.cpu()
            outputs[f"{layers}, written"] = model.generate(
                IDS.to(model.device), max_new_tokens=12, do_sample=False
            ).cpu()
    return outputs


def gradients_of_an_isolated_step(model: PreTrainedModel) -> dict[str, Tensor]:
    ids = IDS.to(model.device)
    with isolate(model, ROLES):
        model(ids, labels=ids, use_cache=False).loss.backward()
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


def gradients_of_a_step(model: PreTrainedModel) -> dict[str, Tensor]:
    ids = IDS.to(model.device)
    outputs = model(ids, labels=ids, output_attentions=True, use_cache=False)
    penalty = sum(-layer[..., 0].mean() for layer in log_masses(outputs))
    (outputs.loss + 0.1 * penalty).backward()
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


OF_MODELS = (
    logits_and_masses, dialled_logits, generated, figures, gradients_of_a_step, isolated, gradients_of_an_isolated_step,
)  # fmt: skip


@pytest.mark.parametrize("of", OF_MODELS)
def test_a_model_says_the_same_as_on_the_cpu(of: Callable[[PreTrainedModel], dict[str, Tensor]]) -> None:
    on_gpu, on_cpu = of(localised("cuda")), of(localised("cpu"))
    assert on_gpu.keys() == on_cpu.keys()
    for name, value in on_gpu.items():
        torch.testing.assert_close(value, on_cpu[name], rtol=2e-3, atol=2e-3, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_source_moves_another(dtype: torch.dtype) -> None:
    model = localize(llama(dtype), LocalityConfig("uniform:1", "fixed:4")).cuda()
    changed = IDS.clone()
    changed[:, ROLES[0] == 1] = (changed[:, ROLES[0] == 1] + 1) % 101
    with torch.no_grad(), isolate(model, ROLES):
        before, after = (model(ids.cuda(), use_cache=False).logits for ids in (IDS, changed))
    moved = (before - after).abs().amax((0, 2)).cpu()
    assert moved[(ROLES[0] != 1) & (ROLES[0] != READER)].max() == 0
    assert moved[ROLES[0] == 1].min() > 0
    assert moved[ROLES[0] == READER].min() > 0


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("masses", [False, True])
def test_no_token_moves_what_is_before_it(masses: bool, dtype: torch.dtype, delta: float) -> None:
    model = localize(llama(dtype), LocalityConfig("uniform:1", "fixed:4")).cuda()
    blocks = (torch.arange(90) // 4).expand(3, -1).cuda()
    changed = IDS.clone()
    changed[:, 50] = (changed[:, 50] + 1) % 101
    with torch.no_grad(), dial(model, delta):
        outputs = [
            model(ids.cuda(), block_ids=blocks, output_attentions=masses, use_cache=False) for ids in (IDS, changed)
        ]
    before, after = (x.logits[:, :50] for x in outputs)
    assert (before - after).abs().max() == 0
    assert (outputs[0].logits[:, 50:] - outputs[1].logits[:, 50:]).abs().max() > 0
    if masses:
        for one, other in zip(*(log_masses(x) for x in outputs), strict=True):
            assert torch.equal(one[:, :, :50], other[:, :, :50])
