"""Causal language models that compute their loss from hidden states, so that no logits are made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import NoReturn

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutput

from progloc.cross_entropy import IGNORED, linear_cross_entropy
from progloc.errors import ProglocError


class CannotFuse(ProglocError):
    """A model's loss cannot be computed without its logits; the message says why."""


def _causal_model(model: nn.Module) -> PreTrainedModel:
    """Return the model with a language-model head that ``model`` is, or wraps (PEFT, DDP, torch.compile)."""
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            raise CannotFuse("nn.DataParallel copies the model in every step; run one process a device (torchrun)")
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise CannotFuse(f"{type(model).__name__} has no language-model head; expected a causal language model")


def _replace(part: nn.Module, name: str, value: object) -> Callable[[], object]:
    """Set an attribute on ``part`` itself, over its class's, and return the function that undoes it."""
    own = vars(part)
    undo = functools.partial(own.__setitem__, name, own[name]) if name in own else functools.partial(own.pop, name)
    own[name] = value
    return undo


class FusedLoss:
    """Makes a causal language model compute its loss from hidden states, within a `with` statement.

        fused = FusedLoss(model)
        with fused:
            model(**inputs, labels=labels).loss.backward()

    The loss and its gradients are those of transformers' `ForCausalLMLoss`, to rounding; `logits` in the output are
    (B, T, 0). The head returns these empty logits, and the model's loss function computes the loss from the hidden
    states that the head received. All of it happens in the model's own forward pass, so wrappers of the model need no
    change. It may be entered repeatedly and nested; one thread at a time may use the model.

    Args:
        model: a transformers causal language model, or a wrapper around one.

    Raises:
        CannotFuse: the head is no plain `nn.Linear` (an adapter, quantised weights, hooks), or the model has another
            loss. While running: the model changes its logits (scales, soft-caps) before the loss.
    """

    def __init__(self, model: nn.Module) -> None:
        self.outer = model
        self.model = _causal_model(model)
        self._forward: tuple[Tensor, Tensor] | None = None  # the head's hidden states and empty logits
        self._entered: list[ExitStack] = []
        self._check()

    def _refuse(self, reason: str) -> NoReturn:
        raise CannotFuse(f"the loss of {type(self.model).__name__} cannot be fused: {reason}; leave fused_loss off")

    def _check(self) -> None:
        head = self.head = self.model.get_output_embeddings()  # as it is now: resizing embeddings makes another
        # what `loss_function` would give, which warns wherever a class's name does not name its loss (GPT-2's)
        named = LOSS_MAPPING.get(getattr(self.model, "loss_type", None), ForCausalLMLoss)
        loss = getattr(self.model, "_loss_function", named)
        # the function under a bound method: FusedLoss's own where one is entered within another
        runs = getattr(head.forward, "__func__", head.forward)
        if not isinstance(head, nn.Linear) or runs not in (nn.Linear.forward, FusedLoss._keep_hidden):
            self._refuse(f"its head is not a plain nn.Linear but {type(head).__name__} with a forward of its own")
        if head._forward_hooks or head._forward_pre_hooks:
            self._refuse("its head has hooks")
        if getattr(loss, "__func__", loss) not in (ForCausalLMLoss, FusedLoss.loss):
            self._refuse(f"its loss function is {getattr(loss, '__name__', loss)}, not ForCausalLMLoss")

    def __enter__(self) -> FusedLoss:
        self._check()
        undo = ExitStack()
        undo.callback(_replace(self.head, "forward", self._keep_hidden))
        undo.callback(_replace(self.model, "_loss_function", self.loss))
        self._entered.append(undo)
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.pop().close()
        self._forward = None

    def _keep_hidden(self, hidden: Tensor) -> Tensor:
        """The head's forward: (…, D) to empty logits (…, 0)."""
        # in float32, so that they stay the very tensor where the model or accelerate only widens its logits
        empty = hidden.new_empty((*hidden.shape[:-1], 0), dtype=torch.float32)
        self._forward = hidden, empty
        return empty

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        vocab_size: int | None = None,
        num_items_in_batch: Tensor | int | None = None,
        ignore_index: int = IGNORED,
        shift_labels: Tensor | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Compute `ForCausalLMLoss` for the forward pass just made, with its arguments and result.

        Raises:
            CannotFuse: ``logits`` are not those that the head returned.
        """
        forward, self._forward = self._forward, None
        if forward is None or logits is not forward[1]:
            self._refuse("it changes its logits before the loss (scales or soft-caps them, say)")
        hidden, _ = forward
        if shift_labels is None:
            shift_labels = nn.functional.pad(labels, (0, 1), value=ignore_index)[..., 1:]
        targets = shift_labels.to(hidden.device)
        if ignore_index != IGNORED:
            targets = targets.masked_fill(targets == ignore_index, IGNORED)
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = linear_cross_entropy(hidden, self.head.weight, targets, self.head.bias, reduction=reduction)
        if isinstance(num_items_in_batch, Tensor):
            num_items_in_batch = num_items_in_batch.to(loss.device)
        return loss if num_items_in_batch is None else loss / num_items_in_batch


class SummedLoss:
    """Calls a causal language model and sums its cross-entropy, without logits where its loss can be fused.

    Where it cannot be (`CannotFuse`), the first call finds out, and every call uses the logits.

    Args:
        model: as for `FusedLoss`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._fused: FusedLoss | None = None
        with suppress(CannotFuse):
            self._fused = FusedLoss(model)

    def __call__(self, labels: Tensor, **inputs: object) -> tuple[CausalLMOutput, Tensor]:
        """Return the output for ``inputs``, and the sum over labels (B, T) other than -100, in nats, as a scalar.

        The label of a token is predicted from the tokens before it, as everywhere in transformers.
        """
        if self._fused is not None:
            with self._fused as fused, suppress(CannotFuse):
                outputs = self._model(**inputs)
                return outputs, fused.loss(outputs.logits, labels, num_items_in_batch=1)
            self._fused = None
        outputs = self._model(**inputs)
        return outputs, ForCausalLMLoss(outputs.logits, labels, outputs.logits.shape[-1], num_items_in_batch=1)
