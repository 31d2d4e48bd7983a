"""The reference attention against method.md §1-§3 written out with loops, in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from progloc.attention.margins import MARGIN_CHANNELS
from progloc.attention.masses import EXTRA_CHANNELS
from progloc.attention.reference import reference_attention
from progloc.objective import Penalty, penalty_by_head

B, H, T, D = 2, 3, 13, 4
SCALING = 0.5
BLOCKS = {
    "fixed": torch.arange(T).expand(B, T) // 5,
    "one token": torch.arange(T).expand(B, T),
    "whole sequence": torch.zeros(B, T, dtype=torch.long),
    "scattered": torch.tensor([[0, 1, 0, 2, 1, 0, 3, 3, 1, 0, 2, 2, 5]] * B),
}


def random_qkv(dtype: torch.dtype = torch.float64, spread: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(B, H, T, D, generator=generator, dtype=torch.float64) * spread for _ in range(3))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def causal(first_real: int = 0, last_real: int = T) -> Tensor:
    allowed = torch.ones(T, T, dtype=torch.bool).tril()
    allowed[:, :first_real] = False
    allowed[:, last_real:] = False
    return allowed.expand(B, 1, T, T)


def by_hand(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, first: int = 0, last: int = T) -> dict[str, Tensor]:
    """method.md §1-§3, one row at a time; padding rows are left at zero."""
    names = ("mass", "sink", "mass_no_sink", "entropy", "mass_with_previous", "mass_with_previous_no_sink",
             "margin", "margin_no_sink", "off_sink", "entropy_no_sink", "keys", "block_keys", "sink_keys")  # fmt: skip
    found = {name: torch.zeros(B, H, T, dtype=torch.float64) for name in names}
    found["output"] = torch.zeros(B, H, T, D, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(first, last):
                scores = [float(q[b, h, i] @ k[b, h, j]) * SCALING for j in range(first, i + 1)]
                total = sum(math.exp(s) for s in scores)
                a = {j: math.exp(s) / total for j, s in zip(range(first, i + 1), scores, strict=True)}
                inside = [j for j in a if blocks[b, j] == blocks[b, i]]
                found["mass"][b, h, i] = sum(a[j] for j in inside)
                found["sink"][b, h, i] = a[first]
                others = sum(a[j] for j in a if j != first)
                found["mass_no_sink"][b, h, i] = sum(a[j] for j in inside if j != first) / others if i > first else 1
                found["off_sink"][b, h, i] = others
                found["entropy_no_sink"][b, h, i] = -sum(
                    w / others * math.log(w / others) for j, w in a.items() if j != first
                )
                for key, number in (("keys", len(a)), ("block_keys", len(inside)), ("sink_keys", 1)):
                    found[key][b, h, i] = number
                order = list(dict.fromkeys(blocks[b, first : i + 1].tolist()))  # of blocks, by their first tokens
                own = order.index(int(blocks[b, i]))
                near = [j for j in a if order.index(int(blocks[b, j])) in (own, own - 1)]
                found["mass_with_previous"][b, h, i] = sum(a[j] for j in near)
                near_others = sum(a[j] for j in near if j != first)
                found["mass_with_previous_no_sink"][b, h, i] = near_others / others if i > first else 1
                for key, sinks in (("margin", ()), ("margin_no_sink", (first,) if i > first else ())):
                    s = {j: score for j, score in zip(a, scores, strict=True) if j not in sinks}
                    beyond = max((score for j, score in s.items() if j not in inside), default=-math.inf)
                    found[key][b, h, i] = min(s[j] for j in s if j in inside) - beyond
                found["entropy"][b, h, i] = -sum(w * math.log(w) for w in a.values())
                found["output"][b, h, i] = sum(w * v[b, h, j] for j, w in a.items())
    return found


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("first", "last"), [(0, T), (4, T), (0, 9)], ids=["whole", "left padding", "right padding"])
def test_output_and_every_channel(name: str, first: int, last: int) -> None:
    q, k, v = random_qkv()
    output, masses = reference_attention(
        q, k, v, causal(first, last), BLOCKS[name], scaling=SCALING, channels=EXTRA_CHANNELS
    )
    assert masses is not None
    expected = by_hand(q, k, v, BLOCKS[name], first, last)
    real = slice(first, last)
    torch.testing.assert_close(output[:, :, real], expected["output"][:, :, real])
    for channel, key in enumerate(("mass", "sink", "mass_no_sink")):
        torch.testing.assert_close(masses[:, :, real, channel].exp(), expected[key][:, :, real])
    torch.testing.assert_close(masses[:, :, real, 3], expected["entropy"][:, :, real])
    for channel, key in ((4, "mass_with_previous"), (5, "mass_with_previous_no_sink")):
        torch.testing.assert_close(masses[:, :, real, channel].exp(), expected[key][:, :, real])
    for channel, key in ((6, "margin"), (7, "margin_no_sink")):
        torch.testing.assert_close(masses[:, :, real, channel], expected[key][:, :, real])
    torch.testing.assert_close(masses[:, :, real, 8].exp(), expected["off_sink"][:, :, real])
    for channel, key in enumerate(("entropy_no_sink", "keys", "block_keys", "sink_keys"), start=9):
        torch.testing.assert_close(masses[:, :, real, channel], expected[key][:, :, real])
    assert torch.isfinite(output).all()
    assert torch.isfinite(masses[..., :6]).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_gradient_of_the_penalty_alone(name: str) -> None:
    """d(-log m)/d(q, k) against autograd through softmax, sum and log, written out."""
    leaves = [x.requires_grad_() for x in random_qkv()[:2]]
    plain = [x.detach().clone().requires_grad_() for x in leaves]
    _, masses = reference_attention(*leaves, random_qkv()[2], causal(), BLOCKS[name], scaling=SCALING)
    assert masses is not None
    Penalty()(masses[..., 0]).mean().backward()

    scores = (plain[0] @ plain[1].transpose(-1, -2) * SCALING).masked_fill(~causal(), float("-inf"))
    same = BLOCKS[name][:, None, :, None] == BLOCKS[name][:, None, None, :]
    (-(scores.softmax(-1) * same).sum(-1).log()).mean().backward()
    for ours, written_out in zip(leaves, plain, strict=True):
        torch.testing.assert_close(ours.grad, written_out.grad)
        if name != "whole sequence":  # there m = 1, and nothing pulls
            assert ours.grad is not None
            assert ours.grad.abs().max() > 1e-3


def test_gradcheck() -> None:
    q, k, v = (x[:1, :1, :6].requires_grad_() for x in random_qkv())
    blocks = torch.tensor([[0, 0, 1, 1, 0, 2]])
    allowed = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    differentiable = [name for name in EXTRA_CHANNELS if name not in MARGIN_CHANNELS]

    def outputs(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        output, masses = reference_attention(
            q, k, v, allowed, blocks, scaling=SCALING, temperature=1.5, channels=differentiable
        )
        assert masses is not None
        # rows where a mass is exactly 1 sit on the clamp's corner, where no derivative is defined
        return output, masses[:, :, 2:]

    assert torch.autograd.gradcheck(outputs, (q, k, v))


def test_gradient_on_a_score_stays_within_one_where_locality_is_worst() -> None:
    """method.md §2: no clip is needed; the gradient of -log m is A - A^B, even at a mass of e^-60."""
    scores = torch.zeros(1, 1, 2, 1)
    q, k = scores.new_tensor([[[[1.0], [1.0]]]]), scores.new_tensor([[[[60.0], [0.0]]]]).requires_grad_()
    _, masses = reference_attention(
        q,
        k,
        torch.zeros(1, 1, 2, 1),
        torch.ones(1, 1, 2, 2, dtype=torch.bool).tril(),
        torch.tensor([[0, 1]]),
        scaling=1.0,
    )
    assert masses is not None
    penalty = Penalty()(masses[..., 0])[0, 0, 1]
    assert penalty.item() == pytest.approx(60.0)
    penalty.backward()
    torch.testing.assert_close(k.grad, k.new_tensor([[[[1.0], [-1.0]]]]))
    clipped = Penalty(clip=1e-6)(masses[..., 0])[0, 0, 1]
    assert clipped.item() == pytest.approx(-math.log(1e-6))


def test_mass_without_sink_survives_a_total_sink() -> None:
    """method.md §3: formed from its own keys; subtracting masses would give 0/0 here in single precision."""
    q = torch.ones(1, 1, 4, 1)
    k = torch.tensor([[[[80.0], [0.0], [0.0], [0.0]]]])
    _, masses = reference_attention(
        q, k, torch.zeros(1, 1, 4, 1), torch.ones(1, 1, 4, 4, dtype=torch.bool).tril(), torch.tensor([[0, 0, 1, 1]]),
        scaling=1.0, channels=("log_mass_no_sink",),
    )  # fmt: skip
    assert masses is not None
    torch.testing.assert_close(masses[0, 0, :, 2].exp(), torch.tensor([1.0, 1.0, 1 / 2, 2 / 3]))


def test_temperature_divides_the_scores() -> None:
    q, k, v = random_qkv()
    warm = reference_attention(q, k, v, causal(), BLOCKS["fixed"], scaling=SCALING, temperature=2.0)
    half = reference_attention(q, k, v, causal(), BLOCKS["fixed"], scaling=SCALING / 2)
    for ours, expected in zip(warm, half, strict=True):
        torch.testing.assert_close(ours, expected)


def test_masses_are_taken_before_dropout_and_in_single_precision() -> None:
    q, k, v = random_qkv(torch.bfloat16)
    _, clean = reference_attention(q, k, v, causal(), BLOCKS["fixed"], scaling=SCALING)
    output, dropped = reference_attention(q, k, v, causal(), BLOCKS["fixed"], scaling=SCALING, dropout=0.5)
    assert clean is not None
    assert dropped is not None
    assert torch.equal(clean, dropped)
    assert clean.dtype == torch.float32
    assert output.dtype == torch.bfloat16


def test_the_last_queries_of_a_longer_past() -> None:
    """Cached decoding: T queries at the end of K keys see what the same rows of the whole would."""
    q, k, v = random_qkv()
    whole = reference_attention(q, k, v, causal(), BLOCKS["scattered"], scaling=SCALING)
    last = reference_attention(q[:, :, -2:], k, v, causal()[:, :, -2:], BLOCKS["scattered"], scaling=SCALING)
    for part, all_rows in zip(last, whole, strict=True):
        assert part is not None
        assert all_rows is not None
        torch.testing.assert_close(part, all_rows[:, :, -2:])


def test_penalty_by_head_leaves_padding_out() -> None:
    q, k, v = random_qkv()
    real = torch.zeros(B, T, dtype=torch.long)
    real[:, 4:] = 1
    _, masses = reference_attention(q, k, v, causal(4), BLOCKS["fixed"], scaling=SCALING)
    assert masses is not None
    expected = -by_hand(q, k, v, BLOCKS["fixed"], 4)["mass"][:, :, 4:].log().mean((0, 2))
    torch.testing.assert_close(penalty_by_head([masses, masses], real), expected.expand(2, H))
