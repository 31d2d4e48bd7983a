"""Log masses come out as attentions: nothing may tell a reader that these need another attention implementation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments
from transformers.utils import logging as of_transformers

from progloc import LocalistTrainer, LocalityConfig, dial, load, localize, log_masses, measure
from progloc.attention.plugin import IMPLEMENTATION, REFERENCE
from progloc.attention.request import AttentionRequest

IDS = torch.arange(1, 41).view(2, 20)
DATA = [{"input_ids": row.tolist()} for row in IDS]


@pytest.fixture
def misleading(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What transformers warned of that names another implementation; it warns once a process."""
    of_transformers.warning_once.cache_clear()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records if "eager" in record.getMessage()]


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"window": 4}, {"schedule": "distributed"}], ids=str)
def test_nothing_leads_away_from_the_masses(
    config: dict[str, Any], tiny_llama: Callable[..., Any], misleading: Callable[[], list[str]], tmp_path: Path
) -> None:
    model = localize(tiny_llama(), LocalityConfig(**config))
    assert len(log_masses(model(IDS, output_attentions=True))) == 2
    assert len(log_masses(model(IDS, output_attentions=True, attention_request=AttentionRequest(layers=(1,))))) == 2
    measure(model, DATA)
    with dial(model, [0.5, 1.0]):
        measure(model, DATA)
        model.generate(IDS, max_new_tokens=2, pad_token_id=0)
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True
    )
    LocalistTrainer(model=model, args=arguments, train_dataset=DATA).train()
    assert misleading() == []


@pytest.mark.slow
@pytest.mark.parametrize("implementation", [IMPLEMENTATION, REFERENCE])
def test_a_configuration_may_ask_for_them(
    implementation: str, tiny_llama: Callable[..., Any], misleading: Callable[[], list[str]], tmp_path: Path
) -> None:
    before, after = tiny_llama(), localize(tiny_llama(), attn_implementation=implementation)
    before.set_attn_implementation("eager")
    before.config.output_attentions = True
    after.config.output_attentions = True
    for model in (after, localize(before, attn_implementation=implementation)):
        expected = log_masses(after(IDS, output_attentions=True))
        assert all(map(torch.equal, log_masses(model(IDS)), expected))
        assert model(IDS, output_attentions=False).attentions is None
        model.save_pretrained(tmp_path)
        assert model.config.output_attentions
        assert len(log_masses(load(tmp_path)(IDS, output_attentions=True))) == 2
    after.config.output_attentions = False
    assert after(IDS).attentions is None
    assert misleading() == []


def test_other_implementations_refuse_it_as_before(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama(attn_implementation="sdpa")
    with pytest.raises(ValueError, match="set it to 'eager'"):
        model.config.output_attentions = True
