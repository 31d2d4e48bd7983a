"""What every pass over a dataset shares: the model in evaluation mode, batches with their blocks, and running sums."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from progloc.attention.segments import documents_in
from progloc.data.collate import Item, Items
from progloc.errors import ProglocError
from progloc.measures.definitions import Ratio
from progloc.model import Locality


class Batch(NamedTuple):
    """One batch, on the model's device."""

    inputs: dict[str, Tensor]
    """What the model is called with, but for labels and block ids."""
    labels: Tensor
    """(B, T); the input ids where the collator made none."""
    documents: Tensor
    """(B, T), from `documents_in`."""
    block_ids: Tensor
    """(B, T), or (B, T, G)."""
    divisions: tuple[Tensor, ...]
    """The block ids of every granularity, G × (B, T)."""
    granularity: tuple[int, ...]
    """Which of them each of the L layers has."""


def locality_of(model: nn.Module) -> Locality:
    """Return the locality of a model, or of the one that it wraps; raises ProglocError where it was not localised."""
    models = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    locality: Locality | None = getattr(next(models, model), "locality", None)  # a wrapper's may be outdated
    if locality is None:
        raise ProglocError(
            "this model has no locality; run progloc.localize(model, LocalityConfig(…)) or progloc.load first"
        )
    return locality


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, then put the model back into the mode, train or eval, that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def batches(
    model: nn.Module, dataset: Items, batch_size: int, collator: Callable[[list[Item]], Mapping[str, Tensor]]
) -> Iterator[Batch]:
    """Yield a dataset's batches in order, with block ids from positions where the items have none.

    Raises:
        ProglocError: the model was not localised.
    """
    locality = locality_of(model)
    # a generator of its own: measuring between epochs must not move the training's random numbers
    loader: DataLoader[Item] = DataLoader(
        dataset,  # type: ignore[arg-type]  # of a list it needs no more than of a dataset
        batch_size=batch_size,
        collate_fn=collator,
        generator=torch.Generator(),
    )
    for items in loader:
        inputs = {name: value.to(model.device) for name, value in items.items()}
        if "attention_mask" in inputs:
            documents = documents_in(inputs["attention_mask"])
        else:
            documents = documents_in(torch.ones_like(inputs["input_ids"]), inputs.get("position_ids"))
        labels = inputs.pop("labels", inputs["input_ids"])
        block_ids = inputs.pop("block_ids", None)
        if block_ids is None:
            block_ids = locality.block_ids(documents)
        if block_ids.ndim == 3:
            divisions, granularity = block_ids.unbind(-1), locality.granularity
        else:
            divisions, granularity = (block_ids,), (0,) * len(locality.lambdas)
        yield Batch(inputs, labels, documents, block_ids, divisions, granularity)


class Sums:
    """Running numerators and weights of ratios: streaming, (L, H) numbers each, whatever the length."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, layers: Sequence[Mapping[str, Ratio]], heads: int) -> None:
        """Add a batch's ratios by name for each layer; ``heads`` is H, for ratios that broadcast over heads."""
        for name in layers[0]:
            sums = torch.stack(
                [
                    torch.stack([part.double().expand(-1, heads, -1).sum((0, 2)) for part in ratios[name]])
                    for ratios in layers
                ]
            )  # (L, 2, H)
            self.sums[name] = self.sums[name] + sums if name in self.sums else sums

    def values(self) -> dict[str, Tensor]:
        """Return each ratio's value per layer and head, (L, H); NaN where its weight is 0: nothing to measure."""
        return {name: (pair[:, 0] / pair[:, 1]).cpu() for name, pair in self.sums.items()}
