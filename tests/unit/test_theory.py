"""Capacity, the exponent of measured entropy, and what margins guarantee."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from capacity import capacity, exponent_over_seeds, fitted_exponent
from margin_check import check
from progloc import LocalityConfig, ProglocError, localize, measure
from progloc.attention.fast import fast_attention
from progloc.attention.masses import CHANNELS, EXTRA_CHANNELS, MEASURED_CHANNELS
from progloc.data import collate
from progloc.measures.definitions import measures
from progloc.measures.guarantees import entropy_bound, guaranteed_entropy_bound, guaranteed_mass
from progloc.measures.rows import Rows, flags
from progloc.paper.claims import layers_kept
from progloc.paper.suite import load_suite
from progloc.schedules import parse_schedule
from synthetic_suite import make_suite

LINEAR = parse_schedule("linear")(6)


def test_capacity_is_the_papers_formula() -> None:
    assert capacity([0.0, 0.5, 1.0]) == (1.0, 0.25, 0.0)
    assert capacity([0.0, 0.5], exponent=3.0) == (1.0, 0.125)
    assert layers_kept([0.0, 0.02, 0.03, 1.0]) == 2  # (1-λ)² is 0.96 and 0.94


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.1, 9))
def test_a_layer_keeps_a_share_and_less_the_larger_its_lambda(lambdas: list[float], exponent: float) -> None:
    by_layer = capacity(sorted(lambdas), exponent)
    assert all(0 <= share <= 1 for share in by_layer)
    assert list(by_layer) == sorted(by_layer, reverse=True)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.0, 5.0])
def test_the_exponent_of_entropies_that_follow_the_formula(exponent: float) -> None:
    before = [5.0, 4.0, 3.0, 4.0, 2.0, 4.5]
    after = [share * bits for share, bits in zip(capacity(LINEAR, exponent), before, strict=True)]
    found = fitted_exponent(LINEAR, after, before)
    assert found.exponent == pytest.approx(exponent, rel=1e-4)
    assert found.residual == pytest.approx(0.0, abs=1e-5)


def test_least_squares_has_no_better_neighbour() -> None:
    after, before = [5.0, 3.5, 2.9, 1.0, 1.2, 0.4], [5.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    found = fitted_exponent(LINEAR, after, before)

    def squares(exponent: float) -> float:
        shares = capacity(LINEAR, exponent)
        return sum((h / h0 - share) ** 2 for h, h0, share in list(zip(after, before, shares, strict=True))[1:-1])

    assert found.residual == pytest.approx(math.sqrt(squares(found.exponent) / 4))
    assert squares(found.exponent) < min(squares(found.exponent * 0.99), squares(found.exponent * 1.01))


@pytest.mark.parametrize(
    ("lambdas", "after", "before", "reason"),
    [
        ([0.0, 0.0], [1.0, 1.0], [2.0, 2.0], "strictly between"),
        ([0.0, 1.0], [1.0, 1.0], [2.0, 2.0], "strictly between"),
        ([0.0, 0.5], [2.0, 2.0], [2.0, 2.0], "does not fall"),
        ([0.0, 0.5], [2.0, 3.0], [2.0, 2.0], "does not fall"),
        ([0.0, 0.5], [2.0, 0.0], [2.0, 2.0], "no entropy is left"),
        ([0.0, 0.5], [2.0, math.nan], [2.0, 2.0], "undefined"),
        ([0.0, 0.5], [2.0, 1.0], [2.0, 0.0], "undefined"),
    ],
)
def test_what_cannot_be_fitted_says_why(
    lambdas: list[float], after: list[float], before: list[float], reason: str
) -> None:
    found = fitted_exponent(lambdas, after, before)
    assert math.isnan(found.exponent)
    assert math.isnan(found.residual)
    assert reason in found.reason


def follows(exponent: float) -> Callable[[dict[str, Any]], None]:
    def change(run: dict[str, Any]) -> None:
        for share, layer in zip(capacity(run["lambdas"], exponent), run["final"]["layers"], strict=True):
            layer["entropy_bits_no_sink"] = 4.0 * share * (1 + 0.01 * run["seed"])

    return change


def test_the_exponent_over_seeds_has_an_interval(tmp_path: Any) -> None:
    def noisy(run: dict[str, Any]) -> None:
        follows(1.5 + 0.1 * run["seed"])(run)

    found = exponent_over_seeds(load_suite(make_suite(tmp_path, change=noisy)), "linear")
    assert found.exponent.mean == pytest.approx(1.6, rel=1e-3)
    assert found.exponent.low is not None
    assert 1.3 < found.exponent.low < 1.4
    assert found.reason == ""


def test_one_seed_without_an_exponent_leaves_none(tmp_path: Any) -> None:
    def rises_once(run: dict[str, Any]) -> None:
        follows(1.5)(run)
        if run["seed"] == 1 and run["name"] == "linear":
            for layer in run["final"]["layers"]:
                layer["entropy_bits_no_sink"] = 9.0

    suite = load_suite(make_suite(tmp_path, change=rises_once))
    found = exponent_over_seeds(suite, "linear")
    assert math.isnan(found.exponent.mean)
    assert found.reason == "entropy does not fall with λ (1 of 3 seeds)"
    assert "strictly between" in exponent_over_seeds(suite, "localist").reason
    assert "no seed" in exponent_over_seeds(suite, "nobody").reason


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_guarantees_at_their_corners() -> None:
    margin, n_in, n_out = numbers(0.0, math.log(3), math.inf, -800.0), numbers(2, 1, 4, 1), numbers(6, 3, 0, 9)
    torch.testing.assert_close(guaranteed_mass(margin, n_in, n_out), numbers(0.25, 0.5, 1.0, 0.0))
    torch.testing.assert_close(entropy_bound(numbers(0.25, 0.5, 1.0, 0.0), n_in, n_out), numbers(
        3.0, 1 + 0.5 * math.log2(3), 2.0, math.log2(9)))  # fmt: skip
    # a margin below 0 guarantees little mass, and no less entropy than all keys alike have
    torch.testing.assert_close(guaranteed_entropy_bound(margin, n_in, n_out)[3], numbers(math.log2(10))[0])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), length=st.integers(1, 45), blocks=st.integers(1, 12),
    documents=st.integers(1, 4), sharpness=st.floats(0.01, 30),
)  # fmt: skip
def test_no_tokens_mass_is_below_its_guarantee_nor_its_entropy_above(
    seed: int, length: int, blocks: int, documents: int, sharpness: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, heads, length, 4, generator=generator, dtype=torch.float64) for heads in (4, 2, 2))
    labels = torch.randint(0, documents, (1, length), generator=generator).sort().values
    ids = torch.randint(0, blocks, (1, length), generator=generator)
    # pulled apart: at chance every margin is below 0, and half of what is to hold would never be tried
    towards = torch.eye(4, dtype=torch.float64)[ids % 4][:, None]
    q, k = q + sharpness * towards, k + towards
    _, masses = fast_attention(q, k, v, labels, ids, scaling=0.5, channels=EXTRA_CHANNELS)
    found = dict(zip(("log_mass", "log_sink", *EXTRA_CHANNELS), masses.unbind(-1), strict=True))
    n, n_in = found["keys"], found["block_keys"]
    n_out = n - n_in
    mass = found["log_mass"].exp()
    guaranteed = guaranteed_mass(found["margin"], n_in, n_out)
    assert (guaranteed <= mass + 1e-12).all()
    assert (guaranteed[(n_out == 0).expand_as(mass)] == 1).all()
    bits = found["entropy"] / math.log(2)
    bound = entropy_bound(mass, n_in, n_out)
    assert (bits <= bound + 1e-9).all()
    assert (bound <= guaranteed_entropy_bound(found["margin"], n_in, n_out) + 1e-9).all()

    rows = Rows(
        *(found[name] for name in (*CHANNELS, *MEASURED_CHANNELS[:3])), *(mark.double() for mark in flags(labels, ids))
    )
    sink_inside = rows.beyond_sink * (1 - rows.beyond_first_block)
    n_in_no_sink = n_in - sink_inside
    n_out_no_sink = n - rows.beyond_sink - n_in_no_sink
    guaranteed = guaranteed_mass(found["margin_no_sink"], n_in_no_sink, n_out_no_sink)
    assert (guaranteed <= rows.log_mass_no_sink.exp() + 1e-12).all()
    bound = guaranteed_entropy_bound(found["margin_no_sink"], n_in_no_sink, n_out_no_sink)
    assert (measures["entropy_bits_no_sink"](rows).numerator <= bound * rows.off_sink + 1e-9).all()


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return localize(request.getfixturevalue(request.param)(), LocalityConfig(schedule="linear"))


def items(*lengths: int) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(2)
    return [{"input_ids": torch.randint(0, 101, (n,), generator=generator).tolist()} for n in lengths]


def by_hand(model: Any, dataset: list[dict[str, list[int]]], size: int = 5) -> list[dict[str, float]]:
    """Margins, guarantees and masses of the tokens beyond the first block, from eager weights: log A differ as s do."""
    model.set_attn_implementation("eager")
    sums: list[dict[str, list[Any]]] = []
    for item in dataset:
        weights = model(input_ids=torch.tensor([item["input_ids"]]), output_attentions=True).attentions
        sums = sums or [{} for _ in weights]
        for held, layer in zip(sums, weights, strict=True):
            log = layer[0].double().log()  # (H, T, T)
            for i in range(size, log.shape[1]):
                start = i // size * size
                least = log[:, i, start : i + 1].amin(-1)
                for suffix, first in (("", 0), ("_no_sink", 1)):
                    gamma = least - log[:, i, first:start].amax(-1)
                    n_in, n_out = i + 1 - start, start - first
                    off = 1 - first * log[:, i, 0].exp()
                    weight = off if first else torch.ones_like(off)
                    mass = log[:, i, start : i + 1].exp().sum(-1) / off
                    share = 1 / (1 + n_out / n_in * (-gamma).exp())
                    for name, value, w in (
                        ("margin_nats", gamma, 1.0), ("positive_share", (gamma > 0).double(), 1.0),
                        ("guaranteed_mass", share, weight), ("mass", mass, weight),
                    ):  # fmt: skip
                        above, below = held.get(name + suffix, (0.0, 0.0))
                        held[name + suffix] = [above + value * w, below + torch.as_tensor(w).expand(4)]
    return [{name: float((above / below).mean()) for name, (above, below) in held.items()} for held in sums]


@pytest.mark.parametrize("batch_size", [1, 3])
@torch.no_grad()
def test_a_check_is_what_weights_say_by_hand(model: Any, batch_size: int) -> None:
    report = check(model, items(17, 12, 9), batch_size=batch_size)
    assert report.tokens == sum(n - 5 for n in (17, 12, 9))
    assert report.excess < 1e-6
    for layer, expected in zip(report.layers, by_hand(model, items(17, 12, 9)), strict=True):
        for name, value in expected.items():
            assert layer[name] == pytest.approx(value, rel=2e-4, abs=1e-5), name


def test_a_check_agrees_with_measuring_and_its_bounds_are_bounds(model: Any) -> None:
    report, measured = check(model, items(30, 30)), measure(model, items(30, 30))
    for layer, expected in zip(report.layers, measured.layers, strict=True):
        assert layer.mass == pytest.approx(expected.fidelity_no_first_block, rel=1e-5)
        for suffix in ("", "_no_sink"):
            assert layer["guaranteed_mass" + suffix] <= layer["mass" + suffix]
            assert layer["entropy_bits" + suffix] <= layer["entropy_bound_bits" + suffix] + 1e-5
            assert layer["entropy_bound_bits" + suffix] <= layer["guaranteed_entropy_bits" + suffix] + 1e-5
    held = json.loads(report.to_json())
    assert len(held["layers"]) == len(report.layers)
    assert held["margin_nats"] == pytest.approx(report.model.margin_nats)


def test_padding_and_packing_change_no_check(tiny_llama: Callable[..., Any]) -> None:
    model = localize(tiny_llama())
    expected = check(model, items(17, 9), batch_size=1)
    left = check(model, items(17, 9), collator=lambda features: collate(features, padding_side="left"))
    ids = [torch.tensor(item["input_ids"]) for item in items(17, 9)]
    packed = {"input_ids": torch.cat(ids)[None], "position_ids": torch.cat([torch.arange(len(x)) for x in ids])[None]}
    together = check(model, [0], collator=lambda _: packed)
    for found in (left, together):
        assert found.tokens == expected.tokens
        for name, value in expected.model.items():
            assert found.model[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_each_layer_is_checked_on_its_own_blocks(tiny_gpt2: Callable[..., Any]) -> None:
    mixed, coarse, fine = (
        check(localize(tiny_gpt2(), LocalityConfig(blocks=blocks)), items(17, 12))
        for blocks in ("mixture:fixed:6+fixed:2", "fixed:6", "fixed:2")
    )
    assert [dict(layer) for layer in mixed.layers] == [dict(layer) for layer in (*coarse.layers[:2], fine.layers[2])]


def test_what_cannot_be_checked_is_refused(model: Any, tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match="no token sees a key outside its block"):
        check(model, items(4))
    with pytest.raises(ProglocError, match="no token sees"):
        check(model, [])
    with pytest.raises(ProglocError, match="localize"):
        check(tiny_gpt2(), items(9))
