"""The kernels that torch's scaled dot-product attention would choose, asked for their log-sum-exp as well.

torch hides the log-sum-exp of each row and its backward kernels take no gradient for it. They need none: with
A = softmax(s), a kernel computes

    dS_ij = A_ij · (dO_i · v_j - D_i),    D_i = rowsum(dO ∘ O)_i

and a gradient g_i on the log-sum-exp adds A_ij · g_i, which is D_i less g_i. D is made from the output that the kernel
is handed, so it is handed one that was shifted along dO by just so much (method.md §2's gradient, at the price of a few
elementwise passes).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

aten = torch.ops.aten
LEAST = 1e-18
"""The smallest row of a gradient that is told from nothing: its square has to exist in float32."""
SERVING = (SDPBackend.FLASH_ATTENTION.value, SDPBackend.CUDNN_ATTENTION.value)


def _chosen(query: Tensor, key: Tensor) -> int:
    """The kernel that torch would choose on CUDA, as a number of `SDPBackend`."""
    grouped = query.shape[1] != key.shape[1]
    return int(torch._fused_sdp_choice(query, key, key, is_causal=True, enable_gqa=grouped))


def stock_serves(query: Tensor, key: Tensor) -> bool:
    """Return whether what torch would choose for queries (B, H, T, D) and keys (B, H_kv, T, D) gives log-sum-exps."""
    if query.device.type == "cpu":
        return True
    return query.shape[-1] % 8 == 0 and _chosen(query, key) in SERVING


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
    elif _chosen(query, key) == SDPBackend.CUDNN_ATTENTION.value:
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
    if query.dtype == torch.float16 and grad_lse is not None:  # too narrow for what follows; only CPUs come here
        given = (None if x is None else x.float() for x in (grad_output, grad_lse, query, key, value, output, lse))
        found = stock_backward(*given, scaling)  # type: ignore[call-arg, arg-type]
        return tuple(None if gradient is None else gradient.half() for gradient in found)  # type: ignore[return-value]
    if output is None or grad_output is None or value is None:
        # values of zero leave dS = A · -D, and this output makes D = -grad_lse
        value = torch.zeros_like(key)
        grad_output, output = torch.zeros_like(query), torch.zeros_like(query)
        grad_output.select(-1, 0).fill_(1)
        output.select(-1, 0).copy_(-grad_lse)  # type: ignore[operator]  # one of the two has a gradient
        d_query, d_key, _ = _backward(grad_output, output, query, key, value, lse, scaling)
        return d_query, d_key, None
    if grad_lse is not None:
        grad_output, output = shifted(grad_output, output, grad_lse)
    return _backward(grad_output, output, query, key, value, lse, scaling)


def shifted(grad_output: Tensor, output: Tensor, grad_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Return a gradient and an output (…, D) with rowsum(dO ∘ O') = rowsum(dO ∘ O) - grad_lse (…).

    A row whose gradient is nil could not carry the shift; it gets one far below what its type resolves beside
    ``grad_lse``. Not for float16, which has no room for either.
    """
    wide = torch.promote_types(output.dtype, torch.float32)
    least = (grad_lse.abs() * (torch.finfo(output.dtype).eps / 8)).clamp(min=LEAST)
    size = torch.linalg.vector_norm(grad_output, dim=-1, dtype=wide)
    nil = (size <= least) & (grad_lse != 0)
    if nil.device.type != "cpu" or nil.any():  # a GPU would have to be waited for
        first = torch.arange(output.shape[-1], device=output.device) == 0
        grad_output = torch.where(nil[..., None], (least[..., None] * first).to(output.dtype), grad_output)
        size = torch.where(nil, least, size)
    step = grad_lse / size.clamp(min=LEAST).square()
    return grad_output, torch.addcmul(output, grad_output, step[..., None].to(wide), value=-1).to(output.dtype)


def _backward(
    grad_output: Tensor, output: Tensor, query: Tensor, key: Tensor, value: Tensor, lse: Tensor, scaling: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The chosen kernel's own backward pass. Dropout is 0, so the random state it asks for is not read."""
    lse = lse.contiguous()  # CUDA kernels read it as it lies
    if query.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad_output, query, key, value, output, lse, 0.0, True, scale=scaling
        )
    length = query.shape[2]
    state = torch.zeros(2, dtype=torch.uint64, device=query.device)
    unread = torch.empty((), dtype=torch.uint64, device=query.device)
    if _chosen(query, key) == SDPBackend.CUDNN_ATTENTION.value:
        return aten._scaled_dot_product_cudnn_attention_backward(
            grad_output, query, key, value, output, lse.unsqueeze(-1), state, unread,
            None, None, None, length, length, 0.0, True, scale=scaling,
        )  # fmt: skip
    return aten._scaled_dot_product_flash_attention_backward(
        grad_output, query, key, value, output, lse, None, None, length, length, 0.0, True, state, unread, scale=scaling
    )
