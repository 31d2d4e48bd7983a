"""The kernels that torch's scaled dot-product attention would choose, asked for their log-sum-exp as well.

torch hides the log-sum-exp of each row and its backward kernels take no gradient for it. They need none: with
A = softmax(s), a kernel computes

    dS_ij = A_ij · (dO_i · v_j - D_i),    D_i = rowsum(dO ∘ O)_i

and a gradient g_i on the log-sum-exp adds A_ij · g_i, which is D_i less g_i. D is made from the output that the kernel
is handed, so it is handed one that was shifted along dO by just so much (SPEC §2's gradient, at the price of a few
elementwise passes).
"""

from __future__ import annotations

__all__ = ["stock_backward", "stock_forward", "stock_serves"]

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

aten = torch.ops.aten
CUDA_DTYPES = (torch.bfloat16, torch.float16)


def stock_serves(query: Tensor) -> bool:
    """Return whether there is a stock kernel for queries (B, H, T, D) of this device and type."""
    if query.device.type == "cpu":
        return True
    width = query.shape[-1]
    return query.device.type == "cuda" and query.dtype in CUDA_DTYPES and width <= 256 and width % 8 == 0


def _chosen(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> int:
    grouped = query.shape[1] != key.shape[1]
    return int(torch._fused_sdp_choice(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped))


def stock_forward(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Return causal attention's output (B, H, T, D) and log-sum-exp (B, H, T), the latter in at least float32, nats.

    Args:
        query: (B, H, T, D).
        key: (B, H_kv, T, D), H a multiple of H_kv.
        value: as `key`.
        scaling: what q·k is multiplied by.
    """
    if query.device.type == "cpu":
        found = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, True, scale=scaling)
    elif _chosen(query, key, value, scaling) == SDPBackend.CUDNN_ATTENTION.value:
        found = aten._scaled_dot_product_cudnn_attention(query, key, value, None, True, 0.0, True, scale=scaling)
    else:
        found = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True, scale=scaling)
    return found[0], found[1].reshape(query.shape[:3])


def stock_backward(
    grad_output: Tensor | None,
    grad_lse: Tensor | None,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    output: Tensor | None,
    lse: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of query, key and value from those of `stock_forward`'s two results (None: no gradient).

    Without a value (and then without an output) the log-sum-exp alone was wanted, and its gradient alone is carried.
    """
    if value is None or output is None or grad_output is None:
        assert grad_lse is not None
        # values of zero leave dS = A · -D, and this output makes D = -grad_lse
        value = torch.zeros_like(key)
        grad_output, output = torch.zeros_like(query), torch.zeros_like(query)
        grad_output.select(-1, 0).fill_(1)
        output.select(-1, 0).copy_(-grad_lse)
        d_query, d_key, _ = _backward(grad_output, query, key, value, output, lse, scaling)
        return d_query, d_key, None
    if grad_lse is not None:
        grad_output, output = shifted(grad_output, output, grad_lse)
    return _backward(grad_output, query, key, value, output, lse, scaling)


def shifted(grad_output: Tensor, output: Tensor, grad_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Return a gradient and an output (…, D) with rowsum(dO ∘ O') = rowsum(dO ∘ O) - grad_lse (…).

    A row whose gradient is nil could not carry the shift; it gets one far below what its type resolves beside
    ``grad_lse``. The gradient is scaled by its largest entry first, for its square may not exist in its type.
    """
    wide = torch.promote_types(output.dtype, torch.float32)
    least = grad_lse.abs().to(wide) * torch.finfo(output.dtype).eps / 8
    row = grad_output.to(wide)
    largest = row.abs().amax(-1)
    nil = largest <= least
    first = torch.arange(row.shape[-1], device=row.device) == 0
    row = torch.where(nil[..., None] & first, least[..., None], row)
    largest = torch.where(nil, least, largest).clamp(min=torch.finfo(wide).tiny)
    direction = row / largest[..., None]
    step = grad_lse / largest / direction.square().sum(-1).clamp(min=1.0)
    return row.to(grad_output.dtype), (output - step[..., None] * direction).to(output.dtype)


def _backward(
    grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The chosen kernel's own backward pass. Dropout is 0, so the random state it asks for is not read."""
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad_output, query, key, value, output, lse, 0.0, True, scale=scaling
        )
    length = query.shape[2]
    state = torch.zeros(2, dtype=torch.uint64, device=query.device)
    unread = torch.empty((), dtype=torch.uint64, device=query.device)
    if _chosen(query, key, value, scaling) == SDPBackend.CUDNN_ATTENTION.value:
        return aten._scaled_dot_product_cudnn_attention_backward(
            grad_output, query, key, value, output, lse.unsqueeze(-1), state, unread,
            None, None, None, length, length, 0.0, True, scale=scaling,
        )  # fmt: skip
    return aten._scaled_dot_product_flash_attention_backward(
        grad_output, query, key, value, output, lse, None, None, length, length, 0.0, True, state, unread, scale=scaling
    )
