"""Loading a model and its locality, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import progloc
from progloc import LocalityConfig, ProglocError, load, localize
from progloc.accounts.auditing import audit_folder
from wired_models import words_tokenizer

IDS = torch.randint(0, 101, (2, 17), generator=torch.Generator().manual_seed(0))


def test_save_and_load_bring_locality_back(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    config = LocalityConfig(schedule=(0.0, 0.5, 1.0), blocks="fixed:3", alpha=0.2, clip=1e-6)
    model = localize(tiny_gpt2(), config, base_model="gpt2", sequence_length=64)
    model.save_pretrained(tmp_path)
    back = load(tmp_path)
    assert back.locality.config == config
    assert back.locality.lambdas == (0.0, 0.5, 1.0)
    assert (back.locality.base_model, back.locality.sequence_length) == ("gpt2", 64)
    ours, theirs = (m(input_ids=IDS, output_attentions=True) for m in (model, back))
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.attentions[1], theirs.attentions[1])


@pytest.mark.parametrize("schedule", ["heads:0.5,linear", "learnable:0.3"])
def test_a_model_keeps_the_lambda_that_its_schedules_name_leaves_open(
    tiny_gpt2: Callable[..., Any], tmp_path: Path, schedule: str
) -> None:
    model = localize(tiny_gpt2(), LocalityConfig(schedule=schedule))
    locality = model.locality
    if locality.head_lambdas is None:
        locality.lambdas = (0.1, 0.2, 0.6)
    else:
        assert locality.head_lambdas == ((0, 0, 0, 0), (0.5, 0.5, 0, 0), (1, 1, 0, 0))
        locality.head_lambdas = tuple(row[::-1] for row in locality.head_lambdas)
    model.save_pretrained(tmp_path)
    back = load(tmp_path)
    assert (back.locality.lambdas, back.locality.head_lambdas) == (locality.lambdas, locality.head_lambdas)
    assert torch.equal(back.locality.weights, locality.weights)
    stored = json.loads((tmp_path / "locality.json").read_text())
    assert stored["lambdas"] == list(locality.lambdas)
    (tmp_path / "locality.json").write_text(json.dumps({**stored, "lambdas": [0.5], "head_lambdas": None}))
    with pytest.raises(ProglocError, match="1 values; the model has 3 layers"):
        load(tmp_path)
    assert load(tmp_path, LocalityConfig(schedule="linear")).locality.lambdas == (0, 0.5, 1)


def test_a_plain_folder_is_not_localised_until_somebody_asks(tiny_llama: Callable[..., Any], tmp_path: Path) -> None:
    tiny_llama().half().save_pretrained(tmp_path / "plain")
    model = load(tmp_path / "plain")
    assert not model.locality.localised
    assert model.locality.lambdas == (0.0, 0.0)
    assert (model.locality.config.schedule, model.locality.config.blocks) == ("not localised", "fixed:5")
    assert model.dtype == torch.float32  # method.md §6: not the checkpoint's own half
    report = progloc.measure(model, [{"input_ids": IDS[0]}])
    assert (report.schedule, report.blocks, report.weighted_penalty_nats) == ("not localised", "fixed:5", 0.0)
    assert report.to_dict()["schedule"] == "not localised"
    assert 0 < report.fidelity < 1
    model.save_pretrained(tmp_path / "again")
    assert not list((tmp_path / "again").glob("locality*"))
    asked = load(tmp_path / "again", LocalityConfig(blocks="fixed:3"))
    assert asked.locality.localised
    assert (asked.locality.lambdas, asked.locality.base_model) == ((0.0, 1.0), str(tmp_path / "again"))
    asked.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").locality.localised


def test_a_model_not_localised_leaves_no_other_models_claim(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2(), LocalityConfig(blocks="recruited:16")).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "blocks.safetensors").exists()
    tiny_gpt2().save_pretrained(tmp_path / "plain")
    load(tmp_path / "plain").save_pretrained(tmp_path / "model")
    assert not load(tmp_path / "model").locality.localised
    assert not (tmp_path / "model" / "blocks.safetensors").exists()


def test_a_damaged_locality_file_is_named(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2()).save_pretrained(tmp_path)
    (tmp_path / "locality.json").write_text('{"schema_version": 99}')
    with pytest.raises(ProglocError, match="schema version 99"):
        load(tmp_path)
    for text, message in (("{", "not valid JSON"), ("[]", "holds list, not an object")):
        (tmp_path / "locality.json").write_text(text)
        with pytest.raises(ProglocError, match=message):
            load(tmp_path)


def test_locality_is_read_from_the_hub_too(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    """A snapshot in the hub's cache, found by its hub name."""
    snapshot = tmp_path / "models--me--local" / "snapshots" / "abc"
    localize(tiny_gpt2(), LocalityConfig(schedule="linear", blocks="fixed:3")).save_pretrained(snapshot)
    (tmp_path / "models--me--local" / "refs").mkdir()
    (tmp_path / "models--me--local" / "refs" / "main").write_text("abc")
    found = load("me/local", cache_dir=tmp_path).locality.config
    assert (found.schedule, found.blocks) == ("linear", "fixed:3")


def test_a_damaged_model_is_named(tiny_gpt2: Callable[..., Any], tmp_path: Path) -> None:
    localize(tiny_gpt2()).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ProglocError, match="no model at"):
        load(tmp_path)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {f"module.{name}": weight for name, weight in w.items()},
            r"21 missing \(lm_head.weight; .*; …\), 21 unknown \(module.lm_head.weight; ",
        ),
        (
            lambda w: {name: weight for name, weight in w.items() if "layers.1.mlp.up" not in name},
            r"1 missing \(model.layers.1.mlp.up_proj.weight\);",
        ),
        (lambda w: {**w, "model.layers.9.odd": torch.ones(2)}, r"1 unknown \(model.layers.9.odd\)"),
        (
            lambda w: {**w, "model.embed_tokens.weight": torch.ones(103, 32)},
            r"1 of another shape \(model.embed_tokens.weight \(103, 32\), not \(101, 32\)\)",
        ),
        (
            lambda w: {**w, "model.norm.weight": w["model.norm.weight"] * float("nan")},
            r"1 not finite \(model.norm.weight\)",
        ),
        (
            lambda w: {**w, "lm_head.weight": w["lm_head.weight"] / 0.0},
            r"1 not finite \(lm_head.weight\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tiny_llama: Callable[..., Any], tmp_path: Path, change: Any, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny_llama().save_pretrained(tmp_path)
    rewritten(tmp_path, change)
    capfd.readouterr()
    with pytest.raises(ProglocError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "LOAD REPORT" not in "".join(capfd.readouterr())  # the one line says it


def test_weights_that_need_not_be_there_are_not_missed(tiny_llama: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_llama(tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path)(input_ids=IDS).logits, model(input_ids=IDS).logits)
    rewritten(tmp_path, lambda w: {**w, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert torch.equal(load(tmp_path)(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_a_tokenizer_of_another_model_is_refused(tiny_llama: Callable[..., Any], tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    words_tokenizer(102).save_pretrained(tmp_path)
    with pytest.raises(ProglocError, match=r"tokenizer.* has 102 tokens.* 101 embeddings"):
        load(tmp_path)
    words_tokenizer(90).save_pretrained(tmp_path)  # embeddings are often padded to a round number
    assert load(tmp_path).locality.lambdas == (0.0, 0.0)


EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nConfig = Model = Tokenizer = None\n"


@pytest.mark.parametrize("kind", ["evil", "llama"])
def test_no_code_of_a_folder_runs(
    tiny_llama: Callable[..., Any], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", ask)
    tiny_llama().save_pretrained(tmp_path)
    (tmp_path / "code.py").write_text(EVIL)
    for file, names in (
        ("config.json", {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["code.Tokenizer", None]}),
    ):
        path = tmp_path / file
        held = json.loads(path.read_text()) if path.exists() else {"tokenizer_class": "Evil"}
        path.write_text(json.dumps({**held, "model_type": kind, "auto_map": names}))
    if kind == "llama":  # an architecture that transformers has is read with its own code
        assert len(load(tmp_path).locality.lambdas) == 2
    else:
        with pytest.raises(ProglocError, match="Python code of its own, which progloc does not run"):
            load(tmp_path)
    with pytest.raises(ProglocError, match="trust_remote_code=True"):
        load(tmp_path, trust_remote_code=True)
    assert not list(tmp_path.rglob("ran"))


def test_pickled_weights_are_not_read(tiny_llama: Callable[..., Any], tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    assert len(load(tmp_path).locality.lambdas) == 2  # beside safe ones it is not looked at
    weights.unlink()
    with pytest.raises(ProglocError, match=r"pytorch_model\.bin, a pickle.*from_pretrained.*save_pretrained"):
        load(tmp_path)


def test_a_model_opens_whatever_its_generation_settings_say_together(
    tiny_llama: Callable[..., Any], tmp_path: Path
) -> None:
    tiny_llama().save_pretrained(tmp_path)
    settings = tmp_path / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "num_return_sequences": 2}))
    with pytest.raises(ValueError, match="num_return_sequences"):  # as transformers has it
        type(tiny_llama()).from_pretrained(tmp_path)
    assert load(tmp_path).generation_config.num_return_sequences == 2  # for who generates to refuse


@pytest.mark.slow
def test_an_audit_reads_locality_once(
    tiny_llama: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localize(tiny_llama(vocab_size=104), LocalityConfig("linear", "fixed:3")).save_pretrained(tmp_path)
    words_tokenizer(104).save_pretrained(tmp_path)
    reads = []
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: reads.append(path.name) or read_text(path, **how))
    audit_folder(str(tmp_path), "w1 w2 w3 w4 w5 w6 w7", " w8", base="none", random_sets=0)
    assert reads.count("locality.json") == 1


def test_old_names_lead_here() -> None:
    import progloc.model

    assert progloc.model.load is load
    assert "read_locality" in dir(progloc.model)
