"""Adapters on a localised model: their folder says the locality, however it is saved, loaded and merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments

from command_line import progloc
from progloc import LocalistTrainer, LocalityConfig, ProglocError, load, localize, log_masses, measure
from progloc.config import RunConfig
from progloc.data import collate, tokenise
from progloc.training.inputs import gather
from progloc.training.stages import Stages

CONFIG = LocalityConfig(schedule="cubic", blocks="fixed:3", alpha=0.4, sink_aware=True)


def lora(**changes: Any) -> LoraConfig:
    settings = {"r": 2, "target_modules": ["c_attn"], "task_type": "CAUSAL_LM", "fan_in_fan_out": True}
    return LoraConfig(**{**settings, "init_lora_weights": False, **changes})


@pytest.fixture
def base(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> Path:
    """The folder of a model that nobody localised."""
    tiny_gpt2().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def sequences(count: int = 8) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(7)
    return [{"input_ids": torch.randint(0, 101, (12,), generator=generator).tolist()} for _ in range(count)]


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    settings = {
        "output_dir": str(folder), "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return TrainingArguments(**(settings | changes))


def outputs(model: Any) -> tuple[torch.Tensor, ...]:
    found = model.eval()(**collate(sequences(2)), output_attentions=True)
    return found.logits.detach(), *(layer.detach() for layer in log_masses(found))


def adapted(base: Path, config: LocalityConfig = CONFIG) -> Any:
    return get_peft_model(load(base, config), lora())


def by_peft(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def by_trainer(model: Any, folder: Path) -> None:
    Trainer(model=model, args=arguments(folder), data_collator=collate).save_model(str(folder))


def by_a_trainer_of_ours(model: Any, folder: Path) -> None:
    LocalistTrainer(model=model, args=arguments(folder)).save_model()


@pytest.mark.slow
@pytest.mark.parametrize("save", [by_peft, by_trainer, by_a_trainer_of_ours])
@pytest.mark.parametrize("blocks", ["fixed:3", "similarity"])
def test_an_adapter_folder_gives_the_locality_back(
    base: Path, tmp_path: Path, save: Callable[[Any, Path], None], blocks: str
) -> None:
    model = adapted(base, LocalityConfig(schedule="cubic", blocks=blocks, alpha=0.4))
    save(model, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "config.json").exists()
    found = load(tmp_path / "adapter")
    assert found.locality.config == model.locality.config
    assert found.locality.lambdas == model.locality.lambdas
    assert found.locality.base_model == str(base)
    table, kept = model.locality.partitioner.table, found.locality.partitioner.table
    assert (table is None) == (blocks == "fixed:3")
    assert table is None or (table == kept).all()
    if blocks == "fixed:3":
        torch.testing.assert_close(outputs(found), outputs(model), rtol=0, atol=0)


def test_adapters_that_transformers_holds_give_it_back_too(base: Path, tmp_path: Path) -> None:
    model = load(base, CONFIG)
    model.add_adapter(lora())
    model.save_pretrained(tmp_path / "adapter")
    found = load(tmp_path / "adapter")
    assert found.locality.config == CONFIG
    torch.testing.assert_close(outputs(found), outputs(model), rtol=0, atol=0)
    found.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").locality.config == CONFIG


def test_each_of_several_adapters_has_it(base: Path, tmp_path: Path) -> None:
    model = adapted(base)
    model.add_adapter("second", lora())
    model.save_pretrained(tmp_path / "all")
    model.save_pretrained(tmp_path / "one", selected_adapters=["second"])
    for folder in ("all", "all/second", "one/second"):
        assert load(tmp_path / folder).locality.config == CONFIG
    assert not (tmp_path / "one" / "locality.json").exists()


def test_a_merged_model_keeps_it(base: Path, tmp_path: Path) -> None:
    model = adapted(base)
    before = outputs(model)
    merged = model.merge_and_unload()
    assert merged.locality.config == CONFIG
    torch.testing.assert_close(outputs(merged), before, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    found = load(tmp_path / "merged")
    assert found.locality.config == CONFIG
    torch.testing.assert_close(outputs(found), outputs(merged), rtol=0, atol=0)


def test_an_adapter_without_its_own_has_its_base_models(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2(), CONFIG).save_pretrained(tmp_path / "base")
    from transformers import AutoModelForCausalLM

    plain = get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), lora())
    plain.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "locality.json").exists()
    assert load(tmp_path / "adapter").locality.config == CONFIG
    assert load(tmp_path / "adapter", LocalityConfig(schedule="linear")).locality.config.schedule == "linear"


def test_a_model_that_is_not_localised_writes_none(base: Path, tmp_path: Path) -> None:
    get_peft_model(load(base), lora()).save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "locality.json").exists()
    assert not load(tmp_path / "adapter").locality.localised


@pytest.mark.slow
def test_adapters_are_trained_with_their_models_locality_and_checkpoints_hold_it(base: Path, tmp_path: Path) -> None:
    start = measure(load(base, CONFIG), sequences(4))
    model = get_peft_model(load(base, CONFIG), lora(init_lora_weights=True))
    trainer = LocalistTrainer(
        model=model, train_dataset=sequences(4), eval_dataset=sequences(4), stages=Stages(exploration=0),
        args=arguments(
            tmp_path / "run", save_strategy="steps", eval_strategy="steps", save_steps=1, eval_steps=1,
            load_best_model_at_end=True, metric_for_best_model="objective", greater_is_better=False,
        ),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["penalty_nats"] == pytest.approx(start.weighted_penalty_nats, rel=1e-5)
    checkpoint = load(str(trainer.state.best_model_checkpoint))
    assert checkpoint.locality.config == CONFIG
    torch.testing.assert_close(outputs(checkpoint), outputs(trainer.model), rtol=0, atol=0)


def test_a_wrapper_is_localised_as_the_model_in_it_is_now(base: Path) -> None:
    model = adapted(base, LocalityConfig(schedule="localist"))
    localize(model, LocalityConfig(schedule="uniform:0.5"))
    localize(model.get_base_model(), CONFIG)
    trainer = LocalistTrainer(model=model, args=arguments(base), train_dataset=sequences(4))
    assert trainer.locality.config == CONFIG
    assert trainer.evaluate(sequences(4))["eval_weighted_penalty_nats"] == pytest.approx(
        measure(model.get_base_model(), sequences(4)).weighted_penalty_nats
    )


def test_what_is_no_whole_adapter_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "adapter"
    adapted(base).save_pretrained(folder)
    about = json.loads((folder / "adapter_config.json").read_text())
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "adapter_model.safetensors")
    for changed in (dict(list(weights.items())[1:]), {f"x.{key}": value for key, value in weights.items()}):
        save_file(changed, folder / "adapter_model.safetensors")
        with pytest.raises(ProglocError, match="do not fit"):
            load(folder)
    (folder / "adapter_model.safetensors").unlink()
    torch.save(weights, folder / "adapter_model.bin")
    with pytest.raises(ProglocError, match=r"no adapter_model\.safetensors at .*not weights in a pickle"):
        load(folder)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": ""}))
    with pytest.raises(ProglocError, match="does not say which model"):
        load(folder)
    (folder / "adapter_config.json").write_text(
        json.dumps({**about, "base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(ProglocError, match="gone"):
        load(folder)
    (folder / "adapter_config.json").write_text(json.dumps(about))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProglocError, match=r"pip install 'progloc\[adapters\]'"):
        load(folder)


def test_peft_loads_them_onto_a_loaded_model(base: Path, tmp_path: Path) -> None:
    model = adapted(base)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(load(base, CONFIG), tmp_path / "adapter")
    torch.testing.assert_close(outputs(again), outputs(model), rtol=0, atol=0)


@pytest.mark.slow
def test_commands_take_an_adapters_folder(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("".join(f"The keeper counts lamp {n}. " for n in range(200)))
    made = gather(RunConfig(model="scratch:nano", corpus=str(tmp_path / "words.txt"), sequence_length=32))
    whole = load(made.model, CONFIG)
    whole.save_pretrained(tmp_path / "base")
    made.tokenizer.save_pretrained(tmp_path / "base")
    adapter = get_peft_model(load(tmp_path / "base"), lora())
    adapter.save_pretrained(tmp_path / "adapter")
    for file in ("own", "base's"):
        if file == "base's":
            (tmp_path / "adapter" / "locality.json").unlink()
        result = progloc("evaluate", "adapter", "--corpus", "words.txt", "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        report = json.loads(result.stdout)
        data = tokenise(made.corpus, made.tokenizer, 128)
        found = measure(adapter, data)
        assert report["perplexity"] == pytest.approx(found.perplexity, rel=1e-5)
        assert report["weighted_penalty_nats"] == pytest.approx(found.weighted_penalty_nats, rel=1e-5)
    said = progloc("generate", "adapter", "--prompt", "The keeper", "--max-new-tokens", "3", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
