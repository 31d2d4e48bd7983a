"""The calls of kernels that this machine may not have, by what torch says of their arguments and results."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend

from progloc.attention import ops, stock


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION])
def test_cuda_kernels_take_and_give_what_is_expected(kernel: SDPBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "_chosen", lambda *given: kernel.value)
    monkeypatch.setattr(stock, "shifted", lambda gradient, output, grad_lse: (gradient, output))  # plain arithmetic
    with FakeTensorMode():  # shapes and types alone, so no such device is needed
        q, k = (torch.empty(2, 7, n, 64, dtype=torch.bfloat16, device="cuda").transpose(1, 2) for n in (4, 2))
        output, lse = stock.stock_forward(q, k, k, 0.1)
        assert (output.shape, lse.shape, lse.dtype) == (q.shape, q.shape[:3], torch.float32)
        found = stock.stock_backward(torch.empty_like(output), torch.empty_like(lse), q, k, k, output, lse, 0.1)
    assert [(x.shape, x.dtype) for x in found if x is not None] == [(x.shape, q.dtype) for x in (q, k, k)]


def test_what_the_fast_path_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "HAS_TRITON", True)
    with FakeTensorMode():

        def served(device: str, dtype: torch.dtype, width: int = 64, of_values: int = 64) -> bool:
            query, value = (torch.empty(1, 1, 2, n, dtype=dtype, device=device) for n in (width, of_values))
            return ops.fast_serves(query, query, value)

        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            assert served("cpu", dtype)
            assert served("cuda", dtype)
        assert served("cpu", torch.float64)
        assert not served("cuda", torch.float64)
        assert not served("cpu", torch.float32, of_values=32)
        assert not served("cpu", torch.float32, 512, 512)
        monkeypatch.setattr(ops, "HAS_TRITON", False)
        assert not served("cuda", torch.bfloat16)
