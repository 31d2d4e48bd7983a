"""The fast paths against the materialised definition: output, every channel, and every gradient."""

from __future__ import annotations

import pytest
import torch

from attention_cases import (
    BLOCKS,
    CHANNELS,
    CORNER,
    DOCUMENTS,
    HEADS,
    SCALING,
    TEMPERATURE,
    B,
    blocks_of,
    by_definition,
    documents_of,
    gradients,
    mostly_slow,
    random_qkv,
)
from progloc.attention.fast import fast_attention
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.ops import segment_attention, sink_scores
from progloc.attention.segments import segments
from progloc.attention.stock import shifted
from progloc.objective import Penalty


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("documents", mostly_slow(DOCUMENTS, "packed"))
@pytest.mark.parametrize("blocks", mostly_slow(BLOCKS, "uneven"))
def test_output_channels_and_gradients(blocks: str, documents: str, heads: str, dtype: torch.dtype) -> None:
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for length in (1, 7, 67):
        given = documents_of(documents, length), blocks_of(blocks, length)
        for channels in CHANNELS:
            leaves = [x.requires_grad_() for x in random_qkv(HEADS[heads], length, dtype)]
            found = fast_attention(*leaves, *given, scaling=SCALING, temperature=TEMPERATURE, channels=channels)
            expected = by_definition(*leaves, *given, channels)
            for ours, defined in zip(found, expected, strict=True):
                assert ours.dtype == defined.dtype
                torch.testing.assert_close(ours, defined, **tolerance)
            corner = expected[1].detach() > CORNER
            corner[..., [name == "entropy" for name in ("log_mass", "log_sink", *channels)]] = False  # is not clamped
            ours, defined = (gradients(result, leaves, corner) for result in (found, expected))
            for one, other in zip(ours, defined, strict=True):
                torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("blocks", ["fixed", "uneven", "scattered"])
@pytest.mark.parametrize("channel", ["log_mass", "log_mass_no_sink", "log_mass_with_previous"])
def test_the_penalty_alone_pulls_on_queries_and_keys(blocks: str, documents: str, heads: str, channel: str) -> None:
    """What a kernel that drops the gradient of its log-sum-exp fails at once, whatever the tolerance elsewhere."""
    q, k, v = (x.requires_grad_() for x in random_qkv(HEADS[heads], 67, torch.float32))
    channels = [channel] if channel in EXTRA_CHANNELS else []
    given = documents_of(documents, 67), blocks_of(blocks, 67)
    _, masses = fast_attention(q, k, v, *given, scaling=SCALING, channels=channels)
    log_mass = masses[..., [2 if channels else 0]]
    pulled = log_mass.detach()[..., 0] < CORNER  # not the tokens that see only their block
    d_q, d_k = torch.autograd.grad(Penalty()(log_mass[..., 0]).sum(), (q, k))
    assert pulled.float().mean() > 0.5
    assert (d_q.abs().amax(-1) > 0)[pulled].all()
    assert (d_k.abs().amax(-1) > 0).float().mean() > 0.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads", HEADS)
def test_output_is_torchs_own_to_the_bit(heads: str, dtype: torch.dtype) -> None:
    leaves = [x.requires_grad_() for x in random_qkv(HEADS[heads], 67, dtype)]
    found, _ = fast_attention(*leaves, None, blocks_of("fixed", 67), scaling=SCALING)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *leaves, is_causal=True, scale=SCALING, enable_gqa=heads == "grouped"
    )
    assert torch.equal(found, expected)
    pull = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for ours, theirs in zip(*(torch.autograd.grad(x, leaves, pull) for x in (found, expected)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("documents", DOCUMENTS)
def test_autocast_chooses_the_type_and_nothing_else(documents: str) -> None:
    given = documents_of(documents, 33), blocks_of("fixed", 33)
    asked = {"scaling": SCALING, "temperature": TEMPERATURE, "channels": EXTRA_CHANNELS}
    leaves = [x.requires_grad_() for x in random_qkv((4, 2), 33, torch.bfloat16)]
    weights = torch.randn(B, 4, 33, 2 + len(EXTRA_CHANNELS), generator=torch.Generator().manual_seed(7))
    expected = fast_attention(*leaves, *given, **asked)
    pulls = torch.autograd.grad((expected[1] * weights).sum(), leaves[:2])
    with torch.autocast("cpu", torch.bfloat16):
        found = fast_attention(*leaves, *given, **asked)
        assert all(torch.equal(ours, without) for ours, without in zip(found, expected, strict=True))
        pulled = torch.autograd.grad((found[1] * weights).sum(), leaves[:2])
    assert all(torch.equal(ours, without) for ours, without in zip(pulled, pulls, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("documents", ["one", "packed"])
def test_half_precision_comes_as_near_as_its_type_allows(documents: str, dtype: torch.dtype) -> None:
    leaves = [x.requires_grad_() for x in random_qkv((4, 2), 67, dtype)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    given = documents_of(documents, 67), blocks_of("uneven", 67)
    found = fast_attention(*leaves, *given, scaling=SCALING, temperature=TEMPERATURE, channels=EXTRA_CHANNELS)
    expected = by_definition(*exact, *given, EXTRA_CHANNELS)
    assert found[0].dtype == dtype
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=3e-2, atol=3e-2)
    for size in (1.0, 1e-3):  # a penalty as large as the rest of the loss, and a thousand times as large
        ours, theirs = (
            torch.autograd.grad(
                size * output.double().sum() - masses[..., 0].double().sum(), inputs[:2], retain_graph=True
            )
            for (output, masses), inputs in ((found, leaves), (expected, exact))
        )
        for one, other in zip(ours, theirs, strict=True):
            assert (one.double() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-7, 1.0, 1e4])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_a_shifted_output_carries_the_gradient_of_the_log_sum_exp(
    size: float, scale: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    row, output = ((torch.randn(50, 16, generator=generator, dtype=torch.float64) * s).to(dtype) for s in (scale, 1.0))
    g = (torch.randn(50, generator=generator, dtype=torch.float64) * size).to(torch.promote_types(dtype, torch.float32))
    g[::7] = 0.0
    new_row, new_output = shifted(row, output, g)
    assert torch.isfinite(new_output).all()
    resolution = torch.finfo(dtype).eps
    d = (new_row.double() * new_output.double()).sum(-1)
    expected = (row.double() * output.double()).sum(-1) - g
    size = g.abs() + (row.double() * output.double()).abs().sum(-1)
    assert ((d - expected).abs() <= 4 * resolution * size + 1e-17).all()
    assert ((new_row.double() - row.double()).abs().amax(-1) <= resolution * g.abs() + 2e-18).all()


@pytest.mark.parametrize("size", [1e2, 1.0, 1e-4, 1e-7])
def test_float16_keeps_small_gradients(size: float) -> None:
    """Rows without a gradient of their own are those of prompts, whose labels are -100, in the last layer."""
    leaves = [x.requires_grad_() for x in random_qkv((4, 2), 67, torch.float16)]
    exact = [x.detach().double().requires_grad_() for x in leaves]
    found = segment_attention(*leaves, None, SCALING)
    expected = segment_attention(*exact, None, SCALING)
    pull = torch.ones_like(found[0]) * size * (torch.arange(67) > 40)[:, None]
    along = torch.randn(found[1].shape, generator=torch.Generator().manual_seed(2)) * size
    ours = torch.autograd.grad(found, leaves, (pull, along), retain_graph=True)
    theirs = torch.autograd.grad(expected, exact, (pull.double(), along.double()))
    for one, other in zip(ours, theirs, strict=True):
        resolution = max(0.01, 6e-8 / float(other.abs().mean()))  # what the gradient's own type can hold
        assert (one.double() - other).norm() < resolution * other.norm()


def test_any_layout_of_rows() -> None:
    rows = [x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in random_qkv((4, 2), 13, torch.float64)]
    assert rows[0].stride(-1) != 1
    given = None, blocks_of("uneven", 13)
    for ours, defined in zip(
        fast_attention(*rows, *given, scaling=SCALING, temperature=TEMPERATURE), by_definition(*rows, *given, ()),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, defined)


@pytest.mark.slow
def test_ops_are_what_compilers_are_told() -> None:
    q, k, v = (x.requires_grad_() for x in random_qkv((4, 2), 13, torch.float32))
    parts = list(segments(blocks_of("scattered", 13)))
    for value, given in ((v, []), (v, parts), (None, parts)):
        torch.library.opcheck(torch.ops.progloc.segment_attention.default, (q, k, value, given, SCALING))
    for keys in (k[:, :, :1], k):
        torch.library.opcheck(torch.ops.progloc.sink_scores.default, (q, keys, SCALING))


def test_gradcheck() -> None:
    q, k, v = (x[:1].requires_grad_() for x in random_qkv((2, 1), 6, torch.float64))
    found = segments(torch.tensor([[0, 0, 1, 1, 0, 2]]))
    assert torch.autograd.gradcheck(lambda q, k, v: segment_attention(q, k, v, found, SCALING), (q, k, v))
    assert torch.autograd.gradcheck(lambda q, k: segment_attention(q, k, None, found, SCALING)[1], (q, k))
    assert torch.autograd.gradcheck(lambda q, k: sink_scores(q, k, SCALING), (q, k))
