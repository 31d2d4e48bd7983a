"""The frontier of layers in which blocks may mix: what is trained, and how answers and pictures are measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import frontier
import frontier_page
from frontier import ANSWER, Part, Suite, answer_losses, config_of, held_at, late, parts_of, picture
from page_numbers import figures_of
from progloc import READER, SHARED, LocalityConfig, ProglocError, dial, isolate, localize
from progloc.accounts.sources import SourcedText
from progloc.config import RunConfig, from_mapping, read_config
from progloc.report.table import filled, to_markdown
from small_models import small_model

SUITE = Suite(
    RunConfig(), 2, ("isolated:0", "isolated:2", "local:1", "sampled"), ("truth:0.5",), (1e-5,), ("fixed:9",),
    passages=1,
)  # fmt: skip
T = 8 * 9 + ANSWER


def text() -> SourcedText:
    """A shared token, eight sources, and a reader whose first block is the question."""
    blocks = torch.arange(T) // 8
    roles = blocks.masked_fill(torch.arange(T) >= 64, READER)
    roles[0] = SHARED
    return SourcedText(
        torch.randint(1, 100, (T,), generator=torch.Generator().manual_seed(2)), roles, T - ANSWER, blocks
    )


@pytest.fixture
def model() -> Any:
    return localize(small_model("llama", max_position_embeddings=256), LocalityConfig("distributed", "fixed:8"))


def test_every_number_of_layers_is_measured_on_the_model_as_it_is() -> None:
    parts = parts_of(replace(SUITE, seeds=0, learning_rates=()), 2)
    assert [(part.blocks, part.trained) for part in parts] == [("fixed:5", ""), ("fixed:9", "")]
    assert parts[0].points == ("isolated:0", "isolated:1", "isolated:2", "local:1", "local:2")
    assert parts[0].pictures
    assert not parts[1].pictures


def test_every_point_is_trained_with_every_seed_beside_its_control() -> None:
    parts = parts_of(SUITE, 2)
    assert len({part.name for part in parts}) == len(parts)
    for seed in (0, 1):
        trained = [part.trained for part in parts if part.seed == seed and part.trained and not part.learning_rate]
        assert trained == [*SUITE.trained, *(SUITE.once if not seed else ())]
    assert [part.trained for part in parts if part.learning_rate] == ["isolated:2", "isolated:0"]
    by_point = {part.trained: part.points for part in parts if part.blocks == "fixed:5"}
    assert by_point["sampled"] == ("isolated:0", "isolated:1", "isolated:2")
    assert by_point["truth:0.5"] == ("isolated:2", "isolated:0")
    assert by_point["local:1"] == ("local:1", "isolated:0")


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("isolated:0", {"isolation": "sources:0", "dial": None, "truth": 0.0}),
        ("isolated:2", {"isolation": "sources", "dial": None, "truth": 0.0}),
        ("isolated:1", {"isolation": "sources:1", "dial": None, "truth": 0.0}),
        ("local:1", {"isolation": "sources:0", "dial": 1.0, "truth": 0.0}),
        ("truth:0.5", {"isolation": "sources", "dial": None, "truth": 0.5}),
        ("sampled", {"isolation": "sampled", "dial": None, "truth": 0.0}),
    ],
)
def test_a_point_is_a_training(point: str, expected: dict[str, object]) -> None:
    config = config_of(SUITE, Part("fixed:9", point, 3, (), (), 2e-5), 2)
    assert {name: getattr(config.training, name) for name in expected} == expected
    assert (config.training.seed, config.training.learning_rate, config.locality.blocks) == (3, 2e-5, "fixed:9")
    assert config.locality.schedule == ((0.0, 1.0) if point == "local:1" else RunConfig().locality.schedule)


def test_an_unknown_point_is_refused() -> None:
    with pytest.raises(ProglocError, match="expected isolated:K, local:K, sampled or truth"):
        config_of(SUITE, Part("fixed:9", "mixed:1", 0, (), ()), 2)


@pytest.mark.parametrize("point", ["isolated:0", "isolated:1", "isolated:2", "local:1", "local:2"])
def test_an_answers_loss_is_that_of_the_definition(point: str, model: Any) -> None:
    one = text()
    kind, _, count = point.partition(":")
    with held_at(model, point) as isolation, isolate(model, None, isolation):
        losses = answer_losses(model, [one] * 3)
    asked = {"block_ids": one.block_ids[None]}  # type: ignore[index]
    with torch.no_grad():
        if kind == "local":
            with dial(model, late(int(count), 2), keep_sink=True):
                logits = model(one.ids[None], **asked, use_cache=False).logits[0]
        else:
            with isolate(model, one.roles, f"sources:{count}"):
                logits = model(one.ids[None], use_cache=False).logits[0]
    written: Tensor = logits.log_softmax(-1)[-ANSWER - 1 : -1].gather(-1, one.ids[-ANSWER:, None])
    assert losses == pytest.approx([-written.mean().item()] * 3, abs=1e-5)


@pytest.mark.parametrize("point", ["isolated:0", "isolated:2", "local:1"])
def test_a_picture_is_tested_by_leaving_sources_out(point: str, model: Any) -> None:
    with held_at(model, point) as isolation:
        result = picture(model, text(), isolation)
    assert result["sources"] == 8
    assert set(result["lds"]) == {"attention", "effects", "recency", "length"}
    assert result["lds"]["effects"] > 0.3  # what each costs alone says much of what halves cost
    assert all(-1 <= value <= 1 for value in result["lds"].values() if value is not None)
    best = result["drops"]["effects"]
    assert best[0] >= result["drops"]["attention"][0]  # of one source, none costs more than the one of most effect


def test_a_price_is_paired_by_passage() -> None:
    def part(trained: str, seed: int, nats: list[float]) -> dict[str, Any]:
        return {"blocks": "b", "trained": trained, "seed": seed, "learning_rate": None,
                "points": {"isolated:0": {"nats": nats}}, "pictures": []}  # fmt: skip

    noise = np.random.default_rng(0).normal(size=40)
    parts = [
        part("", 0, list(noise)),
        part("isolated:0", 0, list(noise + 0.02)),
        part("isolated:0", 1, list(noise + 0.04)),
    ]
    estimate = frontier_page.price(parts, "b", "isolated:0", "isolated:0", ("isolated:0", "isolated:0"))
    assert estimate is not None
    assert estimate.mean == 1
    raised = frontier_page.over_draws(frontier_page.losses(parts, "b", "isolated:0", "isolated:0") - noise).estimate
    assert raised.mean == pytest.approx(0.03)


def test_the_suite_is_read() -> None:
    suite = from_mapping(Suite, read_config(Path(frontier.ROOT) / "benchmarks" / "suites" / "frontier.yaml"))
    assert suite.base.training.distil


def test_the_page_is_what_the_kept_data_say() -> None:
    page = frontier_page.PAGE.read_text(encoding="utf-8")
    tables = [table for data in frontier_page.kept().values() for table in frontier_page.tables_of(data)]
    assert tables
    assert figures_of(page) == figures_of(filled(page, frontier_page.BY, "\n".join(map(to_markdown, tables))))
