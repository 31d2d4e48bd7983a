"""Where the sink takes nearly all: what is off it keeps its digits in single precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import wired_models
from attention_cases import BLOCKS, DOCUMENTS, blocks_of, by_definition, documents_of
from progloc import LocalityConfig, dial, localize, measure
from progloc.attention.fast import fast_attention
from progloc.measures.definitions import measures
from progloc.measures.rows import Rows, flags
from wired_models import copier

LENGTH, SCALING = 40, 1.0
CHANNELS = ("log_mass_no_sink", "log_off_sink", "entropy_no_sink", "entropy", "log_mass_with_previous_no_sink")


def sunk(off: float, documents: Tensor | None) -> list[Tensor]:
    """Queries, keys and values by which about ``off`` is left to what is not the sink of a document."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 4, LENGTH, 8, generator=generator) for _ in range(3))
    first = torch.zeros(2, LENGTH, dtype=torch.bool)
    first[:, 0] = True
    if documents is not None:
        first[:, 1:] = documents.diff(dim=-1) != 0
    q[..., 0] = 1.0
    k[..., 0] = torch.where(first[:, None], math.log(LENGTH / off), 0.0)
    return [q, k, v]


@pytest.mark.parametrize("dialled", [{}, {"outside": 0.3, "keep_sink": True}], ids=["as trained", "dialled"])
@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("blocks", [name for name in BLOCKS if name != "one token"])
def test_what_is_off_the_sink(blocks: str, documents: str, dialled: dict[str, float]) -> None:
    given = documents_of(documents, LENGTH), blocks_of(blocks, LENGTH)
    qkv = sunk(1e-7, given[0])
    exactly = by_definition(*[x.double() for x in qkv], *given, CHANNELS, scaling=SCALING, temperature=1.0, **dialled)[
        1
    ]
    settings = {"scaling": SCALING, "channels": CHANNELS, **dialled}
    for found in (
        fast_attention(*qkv, *given, **settings)[1],
        by_definition(*qkv, *given, temperature=1.0, **settings)[1],
    ):
        assert found.dtype == torch.float32
        for at, name in enumerate(CHANNELS, start=2):
            ours, expected = found[..., at].double(), exactly[..., at]
            if name == "log_off_sink":
                assert -expected[expected.isfinite()].median() > 14  # e^-14 is 1e-6
            if name.startswith("entropy"):
                assert (ours >= 0).all()
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=3e-5)


def test_measures_keep_their_digits() -> None:
    labels, blocks = torch.zeros(2, LENGTH, dtype=torch.long), blocks_of("uneven", LENGTH)
    asked = CHANNELS[:3]
    single, double = sunk(1e-7, None), [x.double() for x in sunk(1e-7, None)]
    figures = []
    for _, masses in (
        fast_attention(*single, None, blocks, scaling=SCALING, channels=asked),
        by_definition(*double, None, blocks, asked, scaling=SCALING, temperature=1.0),
    ):
        rows = Rows(*masses.unbind(-1), *flags(labels, blocks))
        ratios = [measures[name](rows) for name in ("fidelity_no_sink", "entropy_bits_no_sink")]
        figures.append([ratio.numerator.double().sum((0, 2)) / ratio.weight.double().sum((0, 2)) for ratio in ratios])
    torch.testing.assert_close(*figures, rtol=1e-5, atol=0)


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_a_model_that_looks_at_the_sink_alone(delta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others share out evenly what is left to them, so that H° and F° are known to the last digit."""
    monkeypatch.setattr(wired_models, "SHARP", 18.0)
    n, size = 30, 5
    model = localize(copier(copies=1, looks_at=0, in_last_layer=True), LocalityConfig("localist", f"fixed:{size}"))
    ids = [0, *(2 + token % 40 for token in range(1, n))]
    with dial(model, delta, keep_sink=True):
        layer = measure(model, [{"input_ids": ids}]).layers[1]
    place = torch.arange(1, n, dtype=torch.float64)
    inside = torch.where(place < size, place, place % size + 1)
    w = 1.0 - delta
    others = inside + w * (place - inside)
    off = others / (math.exp(18.0) + others)
    assert off.max() < 1e-6
    fidelity = (off * inside / others).sum() / off.sum()
    terms = inside / others * others.log2() + w * (place - inside) / others * (others.log2() - math.log2(w))
    assert layer.fidelity_no_sink == pytest.approx(fidelity.item(), rel=1e-5)
    assert layer.entropy_bits_no_sink == pytest.approx(((off * terms).sum() / off.sum()).item(), rel=1e-5)
    assert 0 <= layer.entropy_bits < 1e-4
