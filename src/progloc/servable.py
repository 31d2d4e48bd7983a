"""Which models can be served: what is known of architectures, and what a few tokens show of a model."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from progloc.attention.dial import Dial
from progloc.attention.masses import log_masses
from progloc.attention.request import AttentionRequest
from progloc.errors import ProglocError

TOKENS = 8
"""Of each of a probe's two rows: two blocks of four."""
CHANGED = [1, TOKENS - 1]
"""Where the rows differ: in the first block, and in the last token."""
APART = [0, *range(TOKENS // 2, TOKENS - 1)]
"""The tokens that have nothing to do with those: before them, or of the other block and before the last."""
ROUNDING = (1e-3, 1e-5)
"""How far a token's logits may move for no other reason than rounding: of those of the changed tokens, and of all."""
COARSE = (5e-2, 1e-2)
"""The same where a model computes in half precision or is quantised."""


def attention_modules(model: nn.Module) -> list[nn.Module]:
    """Return the model's causal self-attention modules, input to output; their number is L."""
    modules = [m for m in model.modules() if getattr(m, "is_causal", None) is True and hasattr(m, "layer_idx")]
    return sorted(modules, key=lambda module: int(module.layer_idx))  # type: ignore[arg-type]


def _refuse(model: PreTrainedModel, reason: str) -> NoReturn:
    raise ProglocError(
        f"{type(model).__name__} cannot be localised: {reason}; expected a decoder-only model with softmax "
        "attention through transformers' AttentionInterface, such as gpt2, llama, mistral, qwen2, olmo or gpt_neox"
    )


def check_servable(model: PreTrainedModel) -> None:
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
def probe(model: PreTrainedModel) -> None:
    """Run a model that was just localised on a few tokens, and raise ProglocError unless it does as it is told.

    Block ids have to reach every layer and masses come back from it, no token may see a later one, and with every
    layer strictly dialled none may know of another block. Two passes over two rows of eight tokens, in evaluation mode;
    mode and random numbers are then as they were. A model without weights (on the meta device, or dealt out to other
    processes) is not probed.
    """
    if any(weight.is_meta or not weight.numel() for weight in model.parameters()):
        return
    embeddings = model.get_input_embeddings().weight
    # from the middle of the vocabulary: bytes, control tokens and those for pictures stand at its ends
    words = model.config.get_text_config(decoder=True).vocab_size
    rows = (words // 4 + torch.arange(TOKENS, device=embeddings.device) * max(words // 64, 1)).repeat(2, 1)
    rows[1, CHANGED] += words // 2
    rows %= words
    blocks = (torch.arange(TOKENS, device=rows.device) // (TOKENS // 2)).expand_as(rows)
    layers = len(attention_modules(model))
    exact = embeddings.dtype.itemsize >= 4 and not getattr(model, "is_quantized", False)

    def moved(**options: object) -> tuple[CausalLMOutput, Tensor]:
        """Return what the model makes of the rows, and which tokens' logits are further apart than by rounding."""
        outputs = _run(model, rows, block_ids=blocks, use_cache=False, return_dict=True, **options)
        if outputs.logits.isnan().any():
            _refuse(model, "it answers a few tokens with NaN, so its weights are damaged")
        logits = outputs.logits.double()  # (2, T, V)
        apart = (logits[0] - logits[1]).abs().nan_to_num(posinf=0.0).amax(-1)
        of_changed, of_all = ROUNDING if exact else COARSE
        return outputs, apart > of_changed * apart[CHANGED].amax() + of_all * logits.abs().median()

    outputs, free = moved(output_attentions=True)
    try:
        masses = log_masses(outputs)
    except ProglocError:
        masses = ()
    arrived = sum(layer.shape[:3:2] == rows.shape for layer in masses)
    if arrived != layers or len(masses) != layers:
        _refuse(model, f"{arrived} of its {layers} layers hand block ids on to attention and log masses back")
    _, cut = moved(attention_request=AttentionRequest(layers=(), dials=(Dial(outside=0.0),) * layers))
    # half precision may send a token to other experts for no reason: there, what moves has to move everywhere
    shows = Tensor.any if exact else Tensor.all
    if shows(torch.stack([free[0], cut[0]])):
        _refuse(model, "a token sees later ones")
    if shows(cut[APART[1:]]):
        _refuse(model, "more than attention carries a token on to other blocks, such as a state space or a convolution")


def _run(model: PreTrainedModel, ids: Tensor, **inputs: object) -> CausalLMOutput:
    """Return a model's outputs in evaluation mode; its mode and everybody's random numbers are then as they were."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with (
            torch.random.fork_rng([ids.device] if ids.is_cuda else []),
            torch.compiler.set_stance("force_eager"),
        ):
            return model(input_ids=ids, **inputs)
    except ProglocError as error:
        _refuse(model, str(error))
    except Exception as error:  # of anybody's modelling code, which was not written for what it is given here
        _refuse(model, f"it fails at a few tokens ({type(error).__name__}: {next(iter(str(error).splitlines()), '')})")
    finally:
        for module in training:
            module.training = True
