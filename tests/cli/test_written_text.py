"""What a model writes: exactly what follows the prompt, the same when given again, by the settings that hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.linalg import hadamard
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from command_line import progloc, refused
from progloc.blocks import encode, encode_after
from toy_tokenizers import TOKENIZERS, beginning_with

EVERY = {kind: beginning_with(kind, "<s>") for kind in ("byte_level", "sentencepiece")} | {
    "nothing before": TOKENIZERS["byte_level"]
}
CONTEXT = 128


def save_scripted(folder: Path, kind: str, prompt: str, answer: str) -> list[int]:
    """Save a model that writes an answer after a prompt, whatever it reads; return the answer's ids."""
    tokenizer, places = EVERY[kind], torch.tensor(hadamard(CONTEXT), dtype=torch.float32)
    start = len(encode(tokenizer, prompt).input_ids)
    script = [*encode_after(tokenizer, prompt, answer), tokenizer.eos_token_id]
    config = GPT2Config(
        n_layer=2, n_head=1, n_embd=CONTEXT, n_inner=1, n_positions=CONTEXT, vocab_size=len(tokenizer),
        tie_word_embeddings=False, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.transformer.wpe.weight.copy_(places)
        for n, token in enumerate(script, start - 1):
            model.lm_head.weight[token] += places[n]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return script[:-1]


def run(*arguments: str, cwd: Path) -> Any:
    result = progloc(*arguments, "--json", cwd=cwd)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("The cat", " walked because"),
        ("The cat walk", "ed in the end"),
        ("In the end ", "it: don't!"),
        ("New York:\n\n", "The map"),
        ("The cat 🎉", "🎉👩\u200d👩\u200d👧 é"),
        ("<|im_start|>user\nThe cat<|im_end|>\n<|im_start|>", "assistant\nThe end."),
    ],
)
def test_what_is_written_follows_the_prompt_and_can_be_given_again(
    tmp_path: Path, kind: str, prompt: str, answer: str
) -> None:
    written = save_scripted(tmp_path / "model", kind, prompt, answer)
    found = run("generate", "model", "--prompt", prompt, cwd=tmp_path)
    assert (found["prompt"], found["continuation"], found["tokens"]) == (prompt, answer, len(written))
    assert found["special_tokens"] == ([] if kind == "nothing before" else ["<s>"])
    audit = ["audit", "model", "--blocks", "sentences", "--schedule", "quintic", "--prompt"]
    itself = run(*audit, prompt, cwd=tmp_path)
    again = run(*audit, prompt, "--continuation", found["continuation"], "--as-is", cwd=tmp_path)
    assert itself["text"] == again["text"] | {"given": False}
    assert itself["text"]["prompt"] + itself["text"]["answer"] == prompt + answer
    assert "".join(itself["text"]["tokens"]) == prompt + answer


def test_a_space_left_out_is_put_there(tmp_path: Path) -> None:
    save_scripted(tmp_path / "model", "sentencepiece", "The cat", " walked")
    audit = ["audit", "model", "--blocks", "sentences", "--schedule", "quintic", "--prompt"]
    assert progloc("generate", "model", "--prompt", "The cat", cwd=tmp_path).stdout == "The cat walked\n"
    texts = [
        run(*audit, prompt, "--continuation", answer, cwd=tmp_path)["text"]
        for prompt, answer in (("The cat", "walked."), ("The cat", " walked."), ("The cat ", "walked."))
    ]
    assert texts[0] == texts[1] == texts[2]
    assert texts[0]["answer"] == " walked."
    as_is = run(*audit, "The cat", "--continuation", "walked.", "--as-is", cwd=tmp_path)["text"]
    assert (as_is["prompt"], as_is["answer"]) == ("The cat", "walked.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `model` is, a Llama that knows nothing, with a tokenizer that begins texts with <s>."""
    folder, tokenizer = tmp_path_factory.mktemp("written"), EVERY["byte_level"]
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            num_hidden_layers=2, num_attention_heads=2, hidden_size=32, intermediate_size=64, vocab_size=len(tokenizer),
            max_position_embeddings=64, initializer_range=0.4, bos_token_id=0, eos_token_id=1,
        )
    ).save_pretrained(folder / "model")  # fmt: skip
    tokenizer.save_pretrained(folder / "model")
    return folder


PROMPT = "The cat walked. In the end, because of it: don't!"
SETTINGS = (
    {"return_dict_in_generate": True},
    {"repetition_penalty": 8.0},
    {"num_beams": 3},
    {"num_return_sequences": 2, "num_beams": 2},
    {"do_sample": True, "temperature": 3.0},
    {"stop_strings": ["e"]},
    {"min_new_tokens": 6, "suppress_tokens": [5, 6, 7]},
    {"bad_words_ids": [[20], [30]]},
    {"forced_eos_token_id": 1},
    {"prompt_lookup_num_tokens": 3},
    {"token_healing": True},
    {"eos_token_id": [1, 2]},
    {"eos_token_id": None, "pad_token_id": None},
)


def with_settings(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / "model" / "generation_config.json"
    file.write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 1, **settings}))


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
def test_an_audited_answer_is_the_greedy_one(folder: Path, settings: dict[str, Any]) -> None:
    audit = ["audit", "model", "--prompt", PROMPT, "--max-new-tokens", "8", "--schedule", "quintic"]
    with_settings(folder, {})
    plain = run(*audit, cwd=folder)["text"]
    with_settings(folder, settings)
    assert run(*audit, cwd=folder)["text"] == plain


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
def test_generate_heeds_a_models_own_settings_or_says_in_one_line_that_it_cannot(
    folder: Path, settings: dict[str, Any]
) -> None:
    command = ["generate", "model", "--prompt", PROMPT, "--max-new-tokens", "8"]
    with_settings(folder, settings)
    if "num_return_sequences" in settings or "token_healing" in settings:
        assert "generation_config.json cannot be used here: " in refused(progloc(*command, cwd=folder))
        return
    found = run(*command, cwd=folder)
    model = LlamaForCausalLM.from_pretrained(folder / "model")
    tokenizer = EVERY["byte_level"]
    ids = tokenizer(PROMPT, return_tensors="pt")
    torch.manual_seed(0)
    own = model.generate(**ids, max_new_tokens=8, return_dict_in_generate=False, tokenizer=tokenizer, pad_token_id=1)
    whole = tokenizer.decode(own[0], skip_special_tokens=False).removesuffix("</s>")
    assert whole.rstrip("�") == f"<s>{PROMPT}{found['continuation']}".rstrip("�")  # a character may be cut off


def test_sampling_is_as_asked_and_said(folder: Path) -> None:
    command = ["generate", "model", "--prompt", PROMPT, "--max-new-tokens", "8"]
    with_settings(folder, {})
    greedy = run(*command, cwd=folder)
    assert greedy["settings"] == {"max_new_tokens": 8}
    with_settings(folder, {"do_sample": True, "temperature": 3.0})
    drawn = [run(*command, "--seed", seed, cwd=folder) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0]["settings"] == {"do_sample": True, "temperature": 3.0, "max_new_tokens": 8}
    assert run(*command, "--no-sample", cwd=folder)["continuation"] == greedy["continuation"]


@pytest.mark.parametrize("learned_positions", [False, True])
def test_past_the_context_is_refused_in_one_line(folder: Path, tmp_path: Path, learned_positions: bool) -> None:
    with_settings(folder, {})
    model = str(folder / "model")
    if learned_positions:
        save_scripted(tmp_path / "model", "byte_level", PROMPT, "The")
        model = "model"
    (tmp_path / "text.txt").write_text(PROMPT * 40)
    for arguments in (
        ["generate", model, "--prompt", PROMPT * 20],
        ["generate", model, "--prompt", PROMPT, "--max-new-tokens", "999"],
        ["audit", model, "--prompt", PROMPT * 20, "--continuation", " So."],
        ["audit", model, "--prompt", PROMPT, "--max-new-tokens", "999"],
        ["evaluate", model, "--corpus", "text.txt", "--sequence-length", "999"],
        ["train", "--model", model, "--corpus", "text.txt", "--sequence-length", "999"],
    ):
        assert "has a context of" in refused(progloc(*arguments, cwd=tmp_path)), arguments


@pytest.mark.slow
def test_results_say_what_stands_before_the_text(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(PROMPT * 40)
    model = str(folder / "model")
    evaluate = ["evaluate", model, "--corpus", "text.txt", "--sequence-length", "16"]
    assert run(*evaluate, cwd=tmp_path)["special_tokens"] == ["<s>"]
    assert "the text begins with <s>" in " ".join(progloc(*evaluate, cwd=tmp_path).stdout.split())
    train = ["train", "--model", model, "--corpus", "text.txt", "--sequence-length", "16", "--max-steps", "1"]
    assert run(*train, "--out", "run", cwd=tmp_path)["data"]["special_tokens"] == ["<s>"]
    found = run("blocks", "sentences", "text.txt", "--model", model, cwd=tmp_path)
    assert (found["tokens"][0], found["spans"][0], found["block_ids"][0]) == ("<s>", [0, 0], 0)
