"""`measure` against method.md §3 computed from eager attention weights, all of them held at once."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from progloc import LocalityConfig, ProglocError, localize, log_masses, measure, register_measure
from progloc.attention.request import AttentionRequest
from progloc.data import collate
from progloc.measures.definitions import Ratio, measures
from progloc.measures.rows import Rows
from progloc.objective import locality_penalty, penalty_by_head

LENGTHS = (17, 17, 12, 9)  # the last two are padded within a batch


def dataset(lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(2)
    return [{"input_ids": torch.randint(0, 101, (n,), generator=generator).tolist()} for n in lengths]


def brute_force(model: Any, items: list[dict[str, list[int]]], size: int) -> dict[str, np.ndarray]:
    """Every measure by layer and head, (L, H), from method.md §3's table; sums over all tokens of all sequences."""
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    sums: dict[str, list[Any]] = {}

    def add(name: str, above: Any, below: Any) -> None:
        held = sums.setdefault(name, [0.0, 0.0])
        held[0], held[1] = held[0] + above, held[1] + below

    for item in items:
        ids = torch.tensor([item["input_ids"]])
        with torch.no_grad():
            outputs = model(input_ids=ids, output_attentions=True)
        n = ids.shape[1]
        a = torch.cat(outputs.attentions).double().numpy()  # (L, H, n, n)
        blocks = np.arange(n) // size
        inside = blocks[:, None] == blocks[None, :]
        uniform = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
        for prefix, w in (("", a), ("chance_", uniform[None, None])):
            m = (w * inside).sum(-1)
            sink = w[..., 0]
            with np.errstate(divide="ignore", invalid="ignore"):
                h = -np.nansum(np.where(w > 0, w * np.log2(w), 0.0), -1)
                on_off = -(sink * np.log2(sink) + (1 - sink) * np.log2(1 - sink))
            rest = slice(1, None)
            add(prefix + "fidelity", m.sum(-1), n)
            add(prefix + "fidelity_no_first_block", m[..., size:].sum(-1), n - size)
            add(prefix + "entropy_bits", h.sum(-1), n)
            add(prefix + "penalty_nats", -np.log(m).sum(-1), n)
            add(prefix + "sink_mass", sink[..., rest].sum(-1), n - 1)
            outside_sink = (1 - sink)[..., rest].sum(-1)
            add(prefix + "fidelity_no_sink", (m - sink * inside[:, 0])[..., rest].sum(-1), outside_sink)
            add(prefix + "entropy_bits_no_sink", (h - on_off)[..., rest].sum(-1), outside_sink)
        log_p = outputs.logits.double().log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
        add("cross_entropy", -log_p.sum().item(), n - 1)
    return {name: np.asarray(above / below) for name, (above, below) in sums.items()}


@pytest.fixture(params=["tiny_gpt2", "tiny_llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return localize(request.getfixturevalue(request.param)(), LocalityConfig(schedule="linear", alpha=0.5))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_every_measure_by_layer_and_head(model: Any, batch_size: int) -> None:
    report = measure(model, dataset(), batch_size=batch_size)
    expected = brute_force(model, dataset(), 5)
    assert math.log(report.perplexity) == pytest.approx(expected.pop("cross_entropy"), rel=1e-6)
    assert report.tokens == sum(n - 1 for n in LENGTHS)
    for name, value in expected.items():
        if name.startswith("chance_"):
            assert getattr(report, name) == pytest.approx(value.item(), rel=1e-6), name
            continue
        found = [[head[name] for head in layer.heads] for layer in report.layers]
        np.testing.assert_allclose(found, value, rtol=2e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose([layer[name] for layer in report.layers], value.mean(-1), rtol=2e-4, err_msg=name)
        assert getattr(report, name) == pytest.approx(value.mean(), rel=2e-4), name


def left_padded(features: list[Any]) -> dict[str, Tensor]:
    return collate(features, padding_side="left")


def unlabelled(features: list[Any]) -> dict[str, Tensor]:
    batch = collate(features)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("collator", [left_padded, unlabelled])
def test_nothing_is_predicted_from_padding(
    tiny_llama: Callable[..., Any], collator: Callable[[list[Any]], Mapping[str, Any]]
) -> None:
    model = localize(tiny_llama())
    expected = measure(model, dataset(), batch_size=4)
    found = measure(model, dataset(), batch_size=4, collator=collator)
    assert found.tokens == expected.tokens == sum(n - 1 for n in LENGTHS)
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-5)


def test_the_objective_is_the_one_trained_for(model: Any) -> None:
    report = measure(model, dataset())
    lambdas = model.locality.lambdas
    weighted = sum(weight * layer.penalty_nats for weight, layer in zip(lambdas, report.layers, strict=True))
    assert report.weighted_penalty_nats == pytest.approx(weighted)
    assert report.objective == pytest.approx(math.log(report.perplexity) + 0.5 * weighted)


def test_the_objective_holds_the_penalty_as_configured(tiny_llama: Callable[..., Any]) -> None:
    config = LocalityConfig(schedule="linear", alpha=0.5, sink_aware=True, previous_block=True, fidelity_target=0.7)
    model = localize(tiny_llama(), config)
    items = dataset((12, 12, 12))
    outputs = model(
        **collate(items), output_attentions=True, attention_request=AttentionRequest(config.penalty.channels)
    )
    by_head = penalty_by_head(log_masses(outputs), penalty=config.penalty)
    weighted = locality_penalty(by_head, torch.tensor(model.locality.lambdas)).item()
    assert measure(model, items, batch_size=2).weighted_penalty_nats == pytest.approx(weighted, rel=1e-5)


def test_lambda_by_head_weighs_heads(tiny_gpt2: Callable[..., Any]) -> None:
    matrix = ((0.0, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 1.0), (1.0, 0.0, 0.25, 0.0))
    model = localize(tiny_gpt2(), LocalityConfig(schedule=matrix, alpha=0.5))
    report = measure(model, dataset())
    heads = [
        (weight, head)
        for row, layer in zip(matrix, report.layers, strict=True)
        for weight, head in zip(row, layer.heads, strict=True)
    ]
    assert report.weighted_penalty_nats == pytest.approx(sum(w * head.penalty_nats for w, head in heads) / 4)
    expected = sum(w * head.fidelity_no_sink for w, head in heads) / 2.75
    assert report.penalised_fidelity(matrix) == pytest.approx(expected)
    by_layer = sum(w * layer.fidelity_no_sink for w, layer in zip((0, 0.5, 1), report.layers, strict=True)) / 1.5
    assert report.penalised_fidelity((0, 0.5, 1)) == pytest.approx(by_layer)
    assert report.paid_nats == pytest.approx([layer.penalty_nats for layer in report.layers])


def test_chance_fidelity_of_five_token_blocks_is_the_papers_110(tiny_gpt2: Callable[..., Any]) -> None:
    model = localize(tiny_gpt2(), LocalityConfig())
    assert measure(model, dataset((128,))).chance_fidelity == pytest.approx(0.110, abs=5e-4)


def test_block_ids_of_the_dataset_win(model: Any) -> None:
    items = [{**item, "block_ids": [0] * len(item["input_ids"])} for item in dataset()]
    report = measure(model, items)
    assert report.fidelity == pytest.approx(1.0)
    assert report.penalty_nats == pytest.approx(0.0, abs=1e-6)


def test_json_holds_what_is_promised(model: Any) -> None:
    found = json.loads(measure(model, dataset()).to_json())
    names = {
        "perplexity", "entropy_bits", "chance_entropy_bits", "fidelity", "chance_fidelity", "chance_fidelity_no_sink",
        "fidelity_no_sink", "entropy_bits_no_sink", "penalty_nats", "sink_mass", "tokens", "layers",
    }  # fmt: skip
    assert names <= set(found)
    assert len(found["layers"]) == len(model.locality.lambdas)
    assert {"fidelity", "sink_mass"} <= set(found["layers"][0]["heads"][3])


def test_measuring_leaves_the_model_and_the_random_numbers_as_they_were(model: Any) -> None:
    model.train()
    before = torch.random.get_rng_state()
    measure(model, dataset())
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture
def far_mass() -> Iterator[None]:
    @register_measure("far_mass")
    def _(rows: Rows) -> Ratio:
        return Ratio((1 - rows.mass) * rows.real, rows.real)

    yield
    del measures._known["far_mass"]


@pytest.mark.usefixtures("far_mass")
def test_a_registered_measure_is_in_the_report_with_its_chance(model: Any) -> None:
    report = measure(model, dataset())
    assert report.far_mass == pytest.approx(1 - report.fidelity)
    assert report.chance_far_mass == pytest.approx(1 - report.chance_fidelity)
    assert report.layers[0].heads[0].far_mass == pytest.approx(1 - report.layers[0].heads[0].fidelity)


def test_what_cannot_be_measured_is_refused(model: Any, tiny_gpt2: Callable[..., Any]) -> None:
    with pytest.raises(ProglocError, match="nothing to measure"):
        measure(model, [])
    with pytest.raises(ProglocError, match=r"localize"):
        measure(tiny_gpt2(), dataset())
    with pytest.raises(AttributeError, match="no measure 'fidelty'"):
        _ = measure(model, dataset()).fidelty
    with pytest.raises(AttributeError, match="no measure 'chance_fidelity'"):  # a head has none: see its layer
        _ = measure(model, dataset()).layers[0].heads[0].chance_fidelity


def test_a_report_is_a_table_of_heads(model: Any) -> None:
    report = measure(model, dataset())
    frame = report.to_frame()
    assert frame.index.names == ["layer", "head"]
    assert frame.shape == (len(report.layers) * len(report.layers[0].heads), len(report.model))
    assert frame.loc[(1, 2), "fidelity"] == report.layers[1].heads[2].fidelity
    assert frame.groupby("layer").mean().mean().to_dict() == pytest.approx(dict(report.model))
    shown = report._repr_html_()
    assert f"{report.layers[1].fidelity:.3f}" in shown
    assert f"{report.chance_fidelity:.3f}" in shown
