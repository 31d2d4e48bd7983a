"""Cross-entropy from hidden states, a few tokens' logits at a time: the (N, V) logits never exist."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from progloc.errors import ProglocError

IGNORED = -100
"""The target without loss or gradient, as everywhere in PyTorch and transformers."""

LOGITS_BYTES = 128 * 2**20
"""The most that one chunk's logits take in float32. Each chunk reads and writes the weight's whole gradient, so smaller
ones are slower; larger ones gain nothing with GPT-2's vocabulary."""


def _gradient_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type of a gradient between forward and backward: that of an undivided sum overflows float16."""
    return torch.float32 if dtype == torch.float16 else dtype


def _in_chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, wanted: list[bool], chunk: int
) -> tuple[Tensor, ...]:
    """Compute what `_operator` returns in plain PyTorch, from at most (chunk, V) logits at a time."""
    wide = torch.promote_types(hidden.dtype, torch.float32)  # of logits, as in transformers' loss, and of sums
    gradient_type = _gradient_type(hidden.dtype)
    loss = hidden.new_zeros((), dtype=wide)
    of_hidden = hidden.new_empty(hidden.shape if wanted[0] else 0, dtype=gradient_type)
    of_weight = hidden.new_zeros(weight.shape if wanted[1] else 0, dtype=wide)
    of_bias = hidden.new_zeros(len(weight) if wanted[2] else 0, dtype=wide)
    matrix, shift = weight.to(hidden.dtype), None if bias is None else bias.to(hidden.dtype)
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        inputs, target = hidden[rows], targets[rows, None]  # (C, D), (C, 1)
        counted = target != IGNORED
        target = target.masked_fill(~counted, 0)
        logits = nn.functional.linear(inputs, matrix, shift).to(wide)  # (C, V)
        top, of_target = logits.amax(-1, keepdim=True), logits.gather(-1, target)  # (C, 1) each
        exponentials = logits.sub_(top).exp_()  # (C, V), in place, as all that follows
        total = exponentials.sum(-1, keepdim=True)
        loss += (total.log() + top - of_target).masked_fill(~counted, 0.0).sum()
        if not any(wanted):
            continue
        error = exponentials.mul_(counted / total).scatter_add_(-1, target, -counted.to(wide))  # softmax - one-hot
        if wanted[2]:
            of_bias += error.sum(0)
        error = error.to(gradient_type)
        if wanted[0]:
            torch.mm(error, matrix.to(gradient_type), out=of_hidden[rows])
        if wanted[1] and wide == gradient_type:
            of_weight.addmm_(error.T, inputs.to(gradient_type))
        elif wanted[1]:
            of_weight += error.T @ inputs
    of_bias = of_bias.to(gradient_type if bias is None else _gradient_type(bias.dtype))
    return loss, of_hidden, of_weight.to(_gradient_type(weight.dtype)), of_bias


@functools.cache
def _liger() -> Callable[..., tuple[Tensor, ...]] | None:
    """Return liger-kernel's loss with its gradients, where the extra `fused` is installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    from liger_kernel.ops.fused_linear_cross_entropy import fused_linear_cross_entropy_forward

    return fused_linear_cross_entropy_forward


def _by_liger(
    forward: Callable[..., tuple[Tensor, ...]], hidden: Tensor, weight: Tensor, targets: Tensor, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """Compute what `_operator` returns without a bias by liger-kernel's kernels, which choose their own chunks."""
    with torch.no_grad():
        loss, *_, of_hidden, of_weight, _ = forward(
            hidden.detach().requires_grad_(any(wanted)),  # without which it computes no gradient at all
            weight.to(hidden.dtype).detach().requires_grad_(wanted[1]),
            targets,
            ignore_index=IGNORED,
            reduction="sum",
            accum_dtype=torch.float32,
        )
    of_hidden = of_hidden if wanted[0] else hidden.new_empty(0)
    of_weight = of_weight.to(weight.dtype) if wanted[1] else weight.new_empty(0)
    return loss, of_hidden, of_weight, hidden.new_empty(0)


# The schema is written out because not every torch can read it from postponed annotations.
@torch.library.custom_op(
    "progloc::linear_cross_entropy",
    mutates_args=(),
    schema="(Tensor hidden, Tensor weight, Tensor? bias, Tensor targets, bool[] wanted, int chunk)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def _operator(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, wanted: list[bool], chunk: int
) -> tuple[Tensor, ...]:
    """Return the summed loss and its gradients by hidden (N, D), weight (V, D) and bias (V,); empty if not wanted.

    To autograd and torch.compile it is one node, whatever computes it. Matrix products are in hidden's dtype, and
    gradients are computed with the loss, while a chunk's logits are there.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        liger = _liger() if hidden.is_cuda else None
        # Liger has no float64, its float16 sums can overflow, and with a bias it rounds logits once more
        if liger is not None and bias is None and hidden.dtype in (torch.float32, torch.bfloat16):
            return _by_liger(liger, hidden, weight, targets, wanted)
        return _in_chunks(hidden, weight, bias, targets, wanted, chunk)


@_operator.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, wanted: list[bool], chunk: int
) -> tuple[Tensor, ...]:
    loss = hidden.new_empty((), dtype=torch.promote_types(hidden.dtype, torch.float32))
    return loss, *(
        hidden.new_empty(source.shape if needed else 0, dtype=_gradient_type(source.dtype))
        for source, needed in zip((hidden, weight, hidden if bias is None else bias), wanted, strict=True)
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.dtypes = [None if source is None else source.dtype for source in inputs[:3]]
    ctx.wanted = inputs[4]
    ctx.save_for_backward(*output[1:])


def _scale(ctx: Any, of_loss: Tensor | None, *of_gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    if any(gradient is not None for gradient in of_gradients):
        raise ProglocError("the fused loss has no second derivative; expected first ones only, or fused_loss off")
    scaled = (
        (gradient * of_loss).to(dtype) if needed and of_loss is not None else None
        for gradient, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.wanted, strict=True)
    )
    return *scaled, None, None, None


_operator.register_autograd(_scale, setup_context=_keep)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    reduction: str = "mean",
    chunk: int | None = None,
) -> Tensor:
    """Return `cross_entropy(linear(hidden, weight, bias).float(), targets)` without holding its logits.

    The gradients are computed with the loss, chunk by chunk, so there are as many matrix products as without fusing,
    and none for a gradient that is not needed. Sums are in float32 at least, products under autocast in its type. With
    liger-kernel installed (the extra `fused`), its kernels serve CUDA tensors of the types they are right for.

    Args:
        hidden: (…, D).
        weight: (V, D), as of an `nn.Linear`.
        targets: (…), int64 in [0, V), or -100 for none.
        bias: (V,).
        reduction: "mean" over the targets other than -100 (NaN where there are none, as in PyTorch), or "sum".
        chunk: how many tokens' logits to hold at a time, ≥ 1; by default as many as fit `LOGITS_BYTES`.

    Returns:
        The loss in nats, a scalar of at least float32. It has a first derivative only.

    Raises:
        ProglocError: shapes that do not fit, or another reduction.
    """
    if reduction not in ("mean", "sum"):
        raise ProglocError(f"reduction is {reduction!r}; expected 'mean' or 'sum'")
    if hidden.shape[:-1] != targets.shape or hidden.shape[-1] != weight.shape[-1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (hidden, weight, targets))
        raise ProglocError(f"hidden, weight and targets are {shapes}; expected (…, D), (V, D) and (…)")
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        hidden = hidden.to(torch.get_autocast_dtype(device))
    if chunk is None:
        chunk = max(1, LOGITS_BYTES // (4 * len(weight)))
    wanted = [torch.is_grad_enabled() and x is not None and x.requires_grad for x in (hidden, weight, bias)]
    rows, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    total: Tensor = _operator(rows, weight, bias, targets, wanted, chunk)[0]
    if reduction == "sum":
        return total
    count = (targets != IGNORED).sum()
    return torch.where(count > 0, total / count.clamp(min=1), torch.nan)
