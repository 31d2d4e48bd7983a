"""The chunked loss against `cross_entropy(linear(…))`, which holds all logits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from progloc import ProglocError
from progloc.cross_entropy import LOGITS_BYTES, _in_chunks, linear_cross_entropy

N, D, V = 21, 5, 11


def reference(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, **kwargs: Any) -> Tensor:
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, **kwargs)


def leaves(dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weight, bias and targets, a third of them ignored."""
    generator = torch.Generator().manual_seed(1)
    shapes = (N, D), (V, D), (V,)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype) for shape in shapes]
    targets = torch.randint(0, V, (N,), generator=generator)
    targets[::3] = -100
    return *(leaf.requires_grad_() for leaf in made), targets.to(device)  # type: ignore[return-value]


class Watch(TorchDispatchMode):
    """Records the largest tensor that any operation makes, and how often each is called."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "progloc":  # otherwise nothing is seen of what happens within
            with self:
                return _in_chunks(*args)
        made = func(*args, **(kwargs or {}))
        self.calls[func.__name__] += 1
        self.largest = max([self.largest, *(t.numel() for t in tree_leaves(made) if isinstance(t, Tensor))])
        return made


def assert_same(found: Tensor, expected: Tensor, by: list[Tensor], **tolerance: float) -> None:
    """The losses, and their gradients by each leaf, types included."""
    torch.testing.assert_close(found, expected, **tolerance)
    for one, other in zip(torch.autograd.grad(found, by), torch.autograd.grad(expected, by), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("chunk", [1, 4, N, 100, None])
def test_value_and_gradients(chunk: int | None, reduction: str, with_bias: bool) -> None:
    hidden, weight, bias, targets = leaves()
    by = [hidden, weight, bias] if with_bias else [hidden, weight]
    given = bias if with_bias else None
    expected = 3.7 * reference(hidden, weight, targets, given, reduction=reduction)
    assert_same(
        3.7 * linear_cross_entropy(hidden, weight, targets, given, reduction=reduction, chunk=chunk), expected, by
    )


def test_gradients_are_those_of_finite_differences() -> None:
    hidden, weight, bias, targets = leaves()
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_cross_entropy(h, w, targets, b, chunk=4), (hidden, weight, bias)
    )


def test_leading_dimensions_are_kept_apart_from_the_last() -> None:
    hidden, weight, _, targets = leaves()
    assert_same(
        linear_cross_entropy(hidden.view(3, 7, D), weight, targets.view(3, 7)),
        linear_cross_entropy(hidden, weight, targets),
        [hidden, weight],
    )


def test_where_nothing_counts_it_is_as_in_pytorch() -> None:
    hidden, weight, _, targets = leaves()
    ignored = torch.full_like(targets, -100)
    assert_same(
        linear_cross_entropy(hidden, weight, ignored),
        reference(hidden, weight, ignored),
        [hidden, weight],
        equal_nan=True,
    )
    assert linear_cross_entropy(hidden, weight, ignored, reduction="sum") == 0


@pytest.mark.parametrize("frozen", [{"weight", "bias"}, {"hidden"}, {"hidden", "weight"}, {"hidden", "weight", "bias"}])
def test_what_is_frozen_gets_no_gradient_and_costs_none(frozen: set[str]) -> None:
    hidden, weight, bias, targets = leaves()
    named = {"hidden": hidden, "weight": weight, "bias": bias}
    for name in frozen:
        named[name].requires_grad_(False)
    with Watch() as watch:
        loss = linear_cross_entropy(hidden, weight, targets, bias, chunk=4)
    assert loss.requires_grad == (len(frozen) < 3)
    # weight's gradient is made in place; the hidden states' by a product of its own for each of six chunks
    assert watch.calls["addmm_.default"] == (0 if "weight" in frozen else 6)
    assert watch.calls["mm.out"] == (0 if "hidden" in frozen else 6)
    if loss.requires_grad:
        expected = reference(hidden, weight, targets, bias)
        assert_same(loss, expected, [leaf for name, leaf in named.items() if name not in frozen])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_precise_as_unfused(dtype: torch.dtype) -> None:
    hidden, weight, bias, targets = leaves(dtype)
    found = linear_cross_entropy(hidden, weight, targets, bias, chunk=4)
    assert found.dtype == torch.float32
    assert_same(found, reference(hidden, weight, targets, bias), [hidden, weight, bias], rtol=0.02, atol=0.005)


def test_float16_survives_sums_that_pass_its_range() -> None:
    hidden = torch.full((4096, 1), 100.0, dtype=torch.float16, requires_grad=True)
    weight = torch.zeros(2, 1, dtype=torch.float16, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(4096, dtype=torch.long))
    assert torch.autograd.grad(loss, weight)[0].tolist() == [[-50.0], [50.0]]  # the sum is 4096 times that


def test_under_autocast() -> None:
    hidden, weight, bias, targets = leaves(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = (f(hidden, weight, targets, bias) for f in (linear_cross_entropy, reference))
    assert_same(found, expected, [hidden, weight, bias], rtol=0.02, atol=0.005)
    assert found.item() != linear_cross_entropy(hidden, weight, targets, bias).item()


def test_no_tensor_of_all_logits_is_made() -> None:
    many = 10 * N
    hidden = torch.randn(many, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    targets = torch.randint(0, V, (many,))
    with Watch() as whole:
        reference(hidden, weight, targets).backward()
    assert whole.largest == many * V
    with Watch() as watch:
        linear_cross_entropy(hidden, weight, targets, chunk=7).backward()
    assert watch.largest == many * D  # the hidden states' gradient; a chunk's logits are 77


def test_the_chunk_follows_from_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("progloc.cross_entropy.LOGITS_BYTES", 4 * V * 3)
    hidden, weight, _, targets = leaves(torch.float32)
    with Watch() as watch:
        linear_cross_entropy(hidden, weight, targets)
    assert watch.calls["amax.default"] == N // 3
    assert LOGITS_BYTES <= 2**28


@pytest.mark.slow
def test_it_is_one_operator_to_the_compiler() -> None:
    hidden, weight, bias, targets = leaves(torch.float32)
    compiled = torch.compile(
        lambda h: linear_cross_entropy(2 * h, weight, targets, bias), backend="aot_eager", fullgraph=True
    )
    assert_same(compiled(hidden), linear_cross_entropy(2 * hidden, weight, targets, bias), [hidden, weight, bias])
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    for wanted in ([True, True, True], [False, True, False]):
        args = (hidden, weight, bias, targets, wanted, 4)
        torch.library.opcheck(torch.ops.progloc.linear_cross_entropy, args, test_utils=tests)


def test_a_second_backward_is_the_first_and_a_second_derivative_is_refused() -> None:
    hidden, weight, _, targets = leaves()
    loss = linear_cross_entropy(hidden, weight, targets)
    once, twice = (torch.autograd.grad(loss, hidden, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(once, twice)
    slope = torch.autograd.grad(loss, hidden, create_graph=True)[0]
    with pytest.raises(ProglocError, match="no second derivative"):
        slope.square().sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "none"}, "reduction is 'none'; expected 'mean' or 'sum'"),
        ({"targets": torch.zeros(N - 1, dtype=torch.long)}, r"are \(21, 5\), \(11, 5\), \(20,\); expected"),
        ({"weight": torch.zeros(V, D + 1)}, r"\(11, 6\).*expected \(…, D\), \(V, D\) and \(…\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    hidden, weight, _, targets = leaves()
    with pytest.raises(ProglocError, match=message):
        linear_cross_entropy(**{"hidden": hidden, "weight": weight, "targets": targets, **change})


def test_a_target_outside_the_vocabulary_is_an_error() -> None:
    hidden, weight, _, targets = leaves()
    with pytest.raises((RuntimeError, IndexError), match="out of bounds"):
        linear_cross_entropy(hidden, weight, targets.clamp(min=V))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    hidden, weight, _, targets = leaves(dtype, "cuda")
    exact = dtype in (torch.float32, torch.float64)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if exact else {"rtol": 0.02, "atol": 0.005}
    found, expected = (f(hidden, weight, targets) for f in (linear_cross_entropy, reference))
    assert_same(found, expected, [hidden, weight], **tolerance)
