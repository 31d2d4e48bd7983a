"""The calls of kernels that this machine may not have, by what torch says of their arguments and results."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend

from progloc.attention import stock


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


def test_what_stock_kernels_serve() -> None:
    half, single = torch.zeros(1, 1, 2, 64, dtype=torch.bfloat16), torch.zeros(1, 1, 2, 64)
    assert stock.stock_serves(half)
    assert stock.stock_serves(single)
    with FakeTensorMode():
        on_cuda = torch.empty(1, 1, 2, 64, dtype=torch.bfloat16, device="cuda")
        assert stock.stock_serves(on_cuda)
        assert not stock.stock_serves(on_cuda.float())
        assert not stock.stock_serves(torch.empty(1, 1, 2, 68, dtype=torch.bfloat16, device="cuda"))
