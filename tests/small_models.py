"""Small models of families whose attention differs: narrow values, wide heads, windows and chunks of their own."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 101,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 6}
EXPERTS = {
    "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
ALTERNATING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "llama": GROUPED,
    "gemma": {"num_key_value_heads": 2, "head_dim": 264},
    "minicpm3": {**LATENT, "num_key_value_heads": 4},
    "deepseek_v2": {**LATENT, **EXPERTS},
    "deepseek_v3": {**LATENT, **EXPERTS},
    "glm4_moe_lite": {**LATENT, **EXPERTS},
    "mistral": {**GROUPED, "sliding_window": 8},
    "phimoe": {"num_key_value_heads": 2, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma3_text": {**GROUPED, **ALTERNATING},
    "olmo3": {**GROUPED, **ALTERNATING},
    "llama4_text": {
        **GROUPED, "attention_chunk_size": 8, "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0], "intermediate_size_mlp": 64, "num_local_experts": 2, "num_experts_per_tok": 1,
    },
}  # fmt: skip


def small_model(family: str, **changes: Any) -> PreTrainedModel:
    """Two layers, four heads, 32 wide, 101 words, windows and chunks of 8 tokens; the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **{**SHAPE, **FAMILIES[family], **changes})
        return AutoModelForCausalLM.from_config(config).eval()
