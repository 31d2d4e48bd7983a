"""What every test shares: no network, a cache of its own, and two models small enough to check by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

# Read by the Hugging Face libraries when they are imported, so they have to be set before any of them is.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # likewise: transformers imports Triton where there is one

from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

TinyModel = Callable[..., PreTrainedModel]

SEED = 0
SHARP = 0.3
"""The weights' standard deviation: at the usual 0.02 attention is nearly uniform, and a wrong mask hardly shows."""


@pytest.fixture(autouse=True, scope="session")
def progloc_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own cache out of the tests, in both directions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROGLOC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_gpt2() -> TinyModel:
    """`tiny_gpt2(**changes)`: 3 layers, 4 heads, 32 wide, 101 words, no dropout; the same weights every time."""

    def build(**changes: object) -> PreTrainedModel:
        settings: dict[str, object] = {
            "n_layer": 3, "n_head": 4, "n_embd": 32, "n_positions": 128, "vocab_size": 101,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
            "bos_token_id": 0, "eos_token_id": 0, "initializer_range": SHARP,
        }  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return GPT2LMHeadModel(GPT2Config(**(settings | changes))).eval()

    return build


@pytest.fixture
def tiny_llama() -> TinyModel:
    """`tiny_llama(**changes)`: 2 layers, 4 heads over 2 of keys (grouped), 32 wide, 101 words; the same every time."""

    def build(**changes: object) -> PreTrainedModel:
        settings: dict[str, object] = {
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
            "intermediate_size": 64, "max_position_embeddings": 128, "vocab_size": 101,
            "bos_token_id": 0, "eos_token_id": 0, "initializer_range": SHARP,
        }  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()

    return build
