"""Which models can be served: what is known of architectures, and what a few tokens show of a model."""

from __future__ import annotations

__all__ = ["attention_modules", "check_servable", "probe"]

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from progloc.attention import log_masses
from progloc.errors import ProglocError

TOKENS = 8
"""Of each of a probe's two rows: two blocks of four."""
CHANGED = [1, TOKENS - 1]
"""Where the rows differ: in the first block, and in the last token."""
APART = [0, *range(TOKENS // 2, TOKENS - 1)]
"""The tokens that have nothing to do with those: before them, or of the other block and before the last."""
ROUNDING = 1e-3
"""How far a token may move, beside those that were changed, for no other reason than rounding."""
COARSE = 0.05
"""The same where a model computes in half precision or is quantised."""


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """Return the model's causal self-attention modules, input to output; their number is L."""
    found = [m for m in model.modules() if getattr(m, "is_causal", None) is True and hasattr(m, "layer_idx")]
    return sorted(found, key=lambda module: int(module.layer_idx))  # type: ignore[arg-type]


def _refuse(model: Any, reason: str) -> NoReturn:
    raise ProglocError(
        f"{type(model).__name__} cannot be localised: {reason}; expected a decoder-only model with softmax "
        "attention through transformers' AttentionInterface, such as gpt2, llama, mistral, qwen2, olmo or gpt_neox"
    )


def check_servable(model: Any) -> None:
    """Raise ProglocError, naming the architecture and the reason, where it is known that progloc cannot serve it."""
    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        _refuse(model, "it is an encoder-decoder")
    if not model._can_set_attn_implementation():
        _refuse(model, "its attention does not go through AttentionInterface")
    if getattr(config, "is_causal", True) is False:
        _refuse(model, "its attention sees later tokens")
    if getattr(config, "attn_logit_softcapping", None) is not None:
        _refuse(model, "its attention scores are soft-capped")
    if any(name.rsplit(".", 1)[-1] == "sinks" for name, _ in model.named_parameters()):
        _refuse(model, "its attention has learned sinks")
    layers = len(attention_modules(model))
    if layers != config.num_hidden_layers:
        _refuse(model, f"{layers} of its {config.num_hidden_layers} layers are causal softmax attention")


@torch.no_grad()
def probe(model: Any) -> None:
    """Run a model that was just localised on a few tokens, and raise ProglocError unless it does as it is told.

    Block ids have to reach every layer and masses come back from it, no token may see a later one, and with every
    layer strictly dialled none may know of another block. Two passes over two rows of eight tokens, in evaluation mode;
    mode and random numbers are then as they were. A model without weights (on the meta device, or dealt out to other
    processes) is not probed.
    """
    if any(weight.is_meta or not weight.numel() for weight in model.parameters()):
        return
    embeddings = model.get_input_embeddings().weight
    rows = (torch.arange(TOKENS, device=embeddings.device) + TOKENS).repeat(2, 1)
    rows[1, CHANGED] += TOKENS
    rows %= model.config.get_text_config(decoder=True).vocab_size
    blocks = (torch.arange(TOKENS, device=rows.device) // (TOKENS // 2)).expand_as(rows)
    layers = len(attention_modules(model))
    rounding = ROUNDING if embeddings.dtype.itemsize >= 4 and not getattr(model, "is_quantized", False) else COARSE

    def moved(asked: dict[str, Any]) -> tuple[Any, Tensor]:
        """Return what the rows make of the model, and how far they are apart at each token, beside those changed."""
        outputs = _run(model, input_ids=rows, block_ids=blocks, use_cache=False, return_dict=True, **asked)
        if outputs.logits.isnan().any():
            _refuse(model, "it answers a few tokens with NaN, so its weights are damaged")
        apart = (outputs.logits[0].double() - outputs.logits[1].double()).abs().nan_to_num(posinf=0.0).amax(-1)
        return outputs, apart / apart[CHANGED].amax().clamp(min=torch.finfo(apart.dtype).tiny)

    outputs, free = moved({"output_attentions": True})
    try:
        masses = log_masses(outputs)
    except ProglocError:
        masses = ()
    arrived = sum(layer.shape[:3:2] == rows.shape for layer in masses)
    if arrived != layers or len(masses) != layers:
        _refuse(model, f"{arrived} of its {layers} layers hand block ids on to attention and log masses back")
    _, cut = moved({"locality_outside": (0.0,) * layers, "locality_layers": ()})
    for apart in (free, cut):
        if apart[0] > rounding:
            _refuse(model, "a token sees later ones")
    if cut[APART].amax() > rounding:
        _refuse(model, "more than attention carries a token on to other blocks, such as a state space or a convolution")


def _run(model: Any, **asked: Any) -> Any:
    """Return a model's outputs in evaluation mode; its mode and everybody's random numbers are then as they were."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    device = asked["input_ids"].device
    try:
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.compiler.set_stance("force_eager"),
        ):
            return model(**asked)
    except ProglocError as error:
        _refuse(model, str(error))
    except Exception as error:  # of anybody's modelling code, which was not written for what it is given here
        _refuse(model, f"it fails at a few tokens ({type(error).__name__}: {next(iter(str(error).splitlines()), '')})")
    finally:
        for module in training:
            module.training = True
