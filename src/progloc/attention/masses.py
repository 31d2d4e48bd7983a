"""How log masses leave a model: one small tensor a layer, read in one place.

Every attention function of progloc returns, where a standard one returns its weights, a tensor (B, H, T, C ≥ 2) of
numbers per token and head. transformers carries it out as `outputs.attentions`, differentiable, so no state is kept
anywhere and gradient checkpointing may call a layer twice.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from progloc.attention.margins import MARGIN_CHANNELS
from progloc.errors import ProglocError

CHANNELS = ("log_mass", "log_sink")
"""Always there, in this order: log m and log A_i,sink, in nats, ≤ 0 (method.md §1, §3)."""
MEASURED_CHANNELS = ("log_mass_no_sink", "log_off_sink", "entropy_no_sink", "keys", "block_keys", "sink_keys")
"""On request, by the channels of an `AttentionRequest`, in the order requested: log m° (the logarithm of the
in-block share of what is not on the sink, 0 at the sink's own row), log(1 − A_i,sink) (−inf there) and H°_i, the
entropy of what is not on the sink, in nats, all three from the keys without the sink and none by subtracting masses;
and how many keys a token sees, of these how many in its block, and whether the sink (1 or 0)."""
EXTRA_CHANNELS = (
    "log_mass_no_sink", "entropy", "log_mass_with_previous", "log_mass_with_previous_no_sink", *MARGIN_CHANNELS,
    *MEASURED_CHANNELS[1:],
)  # fmt: skip
"""All that can be requested: also the attention entropy H in nats, log m and log m° where the block before a token's
own counts as its own (blocks are in the order of their first tokens, within documents), and score margins, without
gradient."""


def entropy_terms(log_p: Tensor) -> Tensor:
    """Return −p·log p, in the shape of log p; 0, with a gradient of 0, where p is."""
    return -log_p.exp() * log_p.masked_fill(log_p == float("-inf"), 0.0)


def log_masses(outputs: Any) -> tuple[Tensor, ...]:
    """Return the log masses of every layer from the outputs of ``model(…, output_attentions=True)``.

    Args:
        outputs: what a localised model returned (method.md §2 says what the numbers are).

    Returns:
        One tensor (B, H, T, C) a layer, input to output, in nats and differentiable: ``[..., 0]`` the log in-block
        mass, ``[..., 1]`` the log sink mass, further channels as requested. A layer that the request left out has
        zeros, which stand for nothing measured.

    Raises:
        ProglocError: the model was not localised, or was called without ``output_attentions=True``.
    """
    layers = getattr(outputs, "attentions", None)
    if not layers:
        raise ProglocError(
            "these outputs hold no log masses; expected those of a model from progloc.localize called with "
            "output_attentions=True"
        )
    for layer in layers:
        if not _are_masses(layer):
            shape = tuple(getattr(layer, "shape", ()))
            raise ProglocError(
                f"outputs.attentions holds {shape}, as plain weights do, and not log masses (B, H, T, C); "
                "run progloc.localize(model, …) first"
            )
    return tuple(layers)


def _are_masses(layer: Any) -> bool:
    """Whether a tensor can be log masses, and not the weights (B, H, T, K ≥ T) that plain attention returns."""
    if not isinstance(layer, Tensor) or layer.ndim != 4:
        return False
    tokens, channels = layer.shape[-2:]
    if not len(CHANNELS) <= channels <= len(CHANNELS) + len(EXTRA_CHANNELS):
        return False
    return tokens > channels or not bool((layer[..., : len(CHANNELS)] > 0).any())  # so short, their signs tell
