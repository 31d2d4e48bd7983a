"""Several granularities: every layer penalised and measured on its own blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import progloc
from progloc import LocalityConfig, ProglocError, localize, log_masses, measure
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.blocks import partitioner

COARSE, FINE = "fixed:8", "fixed:2"
IDS = torch.randint(0, 101, (2, 20), generator=torch.Generator().manual_seed(1))
ITEMS = [{"input_ids": row.tolist()} for row in IDS]


@pytest.mark.parametrize("attention", [IMPLEMENTATION, REFERENCE])
@pytest.mark.parametrize("packed", [False, True])
def test_each_layer_has_the_blocks_of_its_part(tiny_gpt2: Callable[..., Any], attention: str, packed: bool) -> None:
    positions = torch.cat([torch.arange(9), torch.arange(11)]).expand(2, -1)
    asked = {"position_ids": positions, "use_cache": False} if packed else {}

    def masses(blocks: str) -> tuple[torch.Tensor, ...]:
        model = localize(tiny_gpt2(), LocalityConfig(blocks=blocks), attn_implementation=attention)
        return log_masses(model(input_ids=IDS, output_attentions=True, **asked))

    mixed, coarse, fine = (masses(blocks) for blocks in (f"mixture:{COARSE}+{FINE}", COARSE, FINE))
    assert [torch.equal(layer, part) for layer, part in zip(mixed, coarse, strict=True)] == [True, True, False]
    assert torch.equal(mixed[2], fine[2])


def test_each_layer_is_measured_on_its_blocks_with_their_chance(tiny_gpt2: Callable[..., Any]) -> None:
    mixed, coarse, fine = (
        measure(localize(tiny_gpt2(), LocalityConfig(blocks=blocks)), ITEMS)
        for blocks in (f"mixture:{COARSE}+{FINE}", COARSE, FINE)
    )
    for layer, part in enumerate((coarse, coarse, fine)):
        assert mixed.layers[layer].fidelity == pytest.approx(part.layers[layer].fidelity)
        assert mixed.layers[layer].chance_fidelity == pytest.approx(part.chance_fidelity)
    assert mixed.chance_fidelity == pytest.approx((2 * coarse.chance_fidelity + fine.chance_fidelity) / 3)
    assert mixed.perplexity == pytest.approx(coarse.perplexity)


def test_what_a_mixture_is_follows_from_its_parts() -> None:
    assert partitioner("mixture:sentences+fixed:5").causal
    assert not partitioner("mixture:sentences+entities").causal
    parts = [partitioner(name).version for name in ("paragraphs", "sentences")]
    assert partitioner("mixture:paragraphs+sentences").version == sum(parts)
    assert partitioner("mixture:sentences+similarity").needs_embeddings


@pytest.mark.parametrize("name", ["mixture", "mixture:sentences", "mixture:sentences+", "mixture:fixed:2+mixture:a+b"])
def test_a_mixture_of_less_than_two_is_refused(name: str) -> None:
    with pytest.raises(ProglocError, match="two or more partitioners"):
        partitioner(name)


@pytest.mark.slow
def test_it_trains_and_is_evaluated_on_the_same_blocks(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "max_sequences: 30\nlocality: {blocks: mixture:sentences+similarity:4, sink_aware: true}\n"
        "training: {epochs: 1, batch_size: 8, accumulation: 1}\n"
    )
    small = ["--model", "scratch:nano", "--sequence-length", "32"]
    result = progloc("train", "--config", "f.yaml", *small, "--out", "run", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    final = json.loads(result.stdout)["final"]
    chances = [layer["chance_fidelity"] for layer in final["layers"]]
    assert chances[0] > chances[1]  # sentences are longer than four tokens
    evaluated = progloc("evaluate", "run", "--corpus", "python-docs", "--json", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    found = [layer["chance_fidelity"] for layer in json.loads(evaluated.stdout)["layers"]]
    assert found == pytest.approx(chances, rel=0.2)


def test_a_mixture_is_shown_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One. Two.")
    shown = progloc("blocks", "mixture:sentences+fixed:1", "text.txt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "One.│ Two." in shown.stdout
    assert "in 2 blocks · mixture:sentences+fixed:1 (causal) · part 1 of 2" in " ".join(shown.stdout.split())
    assert "part 2 of 2, from early layers to late ones" in " ".join(shown.stdout.split())
    found = json.loads(progloc("blocks", "mixture:sentences+fixed:1", "text.txt", "--json", cwd=tmp_path).stdout)
    by_part = list(zip(*found["block_ids"], strict=True))
    assert len(set(by_part[0])) == 2
    assert len(set(by_part[1])) == len(found["tokens"])
