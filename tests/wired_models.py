"""Models wired by hand, whose answers rest on what is known, and a tokenizer of plain words."""

from __future__ import annotations

from typing import Any

import torch
from scipy.linalg import hadamard
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WIDTH = 64
WORDS = WIDTH - 1
SHARP = 12.0
"""The score, in nats, by which a wanted token beats all others."""


def words_tokenizer(size: int = WORDS) -> PreTrainedTokenizerFast:
    """A fast tokenizer of the words w0, w1, …, with white space between."""
    made = Tokenizer(models.WordLevel({f"w{n}": n for n in range(size)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w0", pad_token="w0")


def words(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


def copier(*, copies: int, looks_at: int, in_last_layer: bool) -> Any:
    """A model of two layers that says again whichever token it looks at, and whose last layer looks at one token.

    Every token is a row of a Hadamard matrix: zero mean and unit variance, so that layer norm leaves it alone, and
    orthogonal to the others, so that a key can be an indicator of one token.

    Args:
        copies: the token that is copied into the answer.
        looks_at: the token that the last layer's attention rests on.
        in_last_layer: whether the last layer copies; else the first one does, and what the last looks at goes nowhere.
    """
    rows = torch.tensor(hadamard(WIDTH), dtype=torch.float32)[1:]  # (WORDS, WIDTH), zero mean
    config = GPT2Config(
        n_layer=2, n_head=1, n_embd=WIDTH, n_inner=1, n_positions=256, vocab_size=WORDS, tie_word_embeddings=False,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.transformer.wte.weight.copy_(rows)
        model.lm_head.weight.copy_(rows / 8)
        for layer, (sees, writes) in enumerate(((copies, not in_last_layer), (looks_at, in_last_layer))):
            attention = model.transformer.h[layer].attn
            asks = torch.ones(WIDTH)
            attention.c_attn.bias[:WIDTH] = asks  # every query is the same
            indicator = rows[sees] / WIDTH  # · a token's row: 1 where it is that token, 0 elsewhere
            score = SHARP * WIDTH**0.5 / asks.square().sum()
            attention.c_attn.weight[:, WIDTH : 2 * WIDTH] = torch.outer(indicator, asks * score)
            attention.c_attn.weight[:, 2 * WIDTH :] = torch.eye(WIDTH)
            attention.c_proj.weight.copy_(torch.eye(WIDTH) * (4.0 if writes else 0.0))
    return model
