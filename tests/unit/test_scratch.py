"""The model that needs no download: it loads as any other, repeats itself, and saw no validation text."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from progloc.data import Corpus, Split, collate, split, tokenise
from progloc.errors import ProglocError
from progloc.training.scratch import SCRATCH_SIZES, scratch_model, scratch_tokenizer

CORPUS = Corpus(
    "prose", "".join(f"Door {n} is shut; nobody knows who shut door {n - 1}, or why.\n" for n in range(200))
)
LENGTH = 32


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return scratch_tokenizer(CORPUS, "nano")


@pytest.fixture(scope="module")
def parts(tokenizer: PreTrainedTokenizerFast) -> Split:
    return split(tokenise(CORPUS, tokenizer, LENGTH), 0.2, seed=0)


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerFast, parts: Split) -> Path:
    return pretrain(tokenizer, parts)


def pretrain(tokenizer: PreTrainedTokenizerFast, parts: Split) -> Path:
    return scratch_model(CORPUS, tokenizer, parts.train, split_sha256=parts.sha256, size="nano")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_tokenizer_gives_any_text_back(tokenizer: PreTrainedTokenizerFast) -> None:
    text = " Ünseen\t🦆 text,\r\n and a door "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) <= SCRATCH_SIZES["nano"].vocabulary
    roles = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert set(roles) == {"<|endoftext|>"}


@pytest.mark.slow
def test_the_folder_is_a_plain_hugging_face_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = AutoModelForCausalLM.from_pretrained(folder).config
    shape = SCRATCH_SIZES["nano"]
    assert (config.n_layer, config.n_embd, config.n_head) == (shape.layers, shape.width, shape.heads)
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0, 0, 0)
    assert config.n_positions == 256
    assert config.use_cache
    text = "Door 7 is shut"
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_it_has_learnt(folder: Path, parts: Split, tokenizer: PreTrainedTokenizerFast) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        loss = model(**collate(parts.validation.select_columns("input_ids").to_list())).loss
    assert loss < torch.log(torch.tensor(len(tokenizer))) - 0.3  # nats below guessing


@pytest.mark.slow
def test_twice_gives_equal_weights(
    folder: Path, tokenizer: PreTrainedTokenizerFast, parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROGLOC_CACHE", str(tmp_path))
    torch.manual_seed(99)  # what happened before must not matter
    again = pretrain(tokenizer, parts)
    assert again != folder
    first, second = weights(folder), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_second_call_trains_nothing(
    folder: Path, tokenizer: PreTrainedTokenizerFast, parts: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("progloc.training.scratch._pretrain", None)
    started = time.perf_counter()
    assert pretrain(tokenizer, parts) == folder
    assert time.perf_counter() - started < 1


@pytest.mark.slow
def test_another_split_is_another_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    other = split(tokenise(CORPUS, tokenizer, LENGTH), 0.2, seed=1)
    assert pretrain(tokenizer, other) != folder


@pytest.mark.slow
def test_long_sequences_lengthen_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    parts = split(tokenise(CORPUS, tokenizer, 300), 0.2, seed=0)
    assert AutoModelForCausalLM.from_pretrained(pretrain(tokenizer, parts)).config.n_positions == 300


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_on_standard_output(
    terminal: bool,
    tokenizer: PreTrainedTokenizerFast,
    parts: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROGLOC_CACHE", str(tmp_path))
    console = Console(stderr=True, force_terminal=terminal)
    scratch_model(CORPUS, tokenizer, parts.train, split_sha256=parts.sha256, size="nano", console=console)
    shown = capsys.readouterr()
    assert shown.out == ""  # it belongs to --json
    assert ("pretraining scratch:nano" in shown.err) == terminal


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ProglocError, match=r"scratch:tinny.*did you mean 'tiny'\? known: nano, tiny"):
        scratch_tokenizer(CORPUS, "tinny")
