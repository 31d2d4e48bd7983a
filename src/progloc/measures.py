"""What is measured of attention, and the one pass that measures it (SPEC §3).

A measure is a ratio of two sums over tokens, kept per layer and head; it is given the rows of one layer and returns
what to sum above and below the line. To add one::

    @register_measure("far_mass")
    def far_mass(rows: Rows) -> Ratio:
        return Ratio(1 - rows.mass, rows.real)

Its chance level is the same function given the rows of uniform causal attention on the same blocks, so no measure
states its own.
"""

from __future__ import annotations

__all__ = ["Figures", "Ratio", "Report", "Rows", "measure", "measure_names", "register_measure"]

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from progloc.attention import EXTRA_CHANNELS, log_masses
from progloc.data.collate import collate
from progloc.errors import ProglocError
from progloc.objective import locality_penalty
from progloc.registry import Registry


@dataclass(frozen=True)
class Rows:
    """One layer's attention rows, reduced to a few numbers a token and head; all but the flags are in nats.

    The flags are 0 or 1 and broadcast over heads: (B, 1, T).
    """

    log_mass: Tensor
    """log m_i, (B, H, T)."""
    log_sink: Tensor
    """log A_i,sink, (B, H, T)."""
    log_mass_no_sink: Tensor
    """log of the in-block share of what is not on the sink, (B, H, T)."""
    entropy: Tensor
    """H_i, (B, H, T)."""
    real: Tensor
    """Not padding."""
    beyond_sink: Tensor
    """Real and not the sink's own row (i > 0)."""
    beyond_first_block: Tensor
    """Real and in a block that does not hold the sink."""

    @property
    def mass(self) -> Tensor:
        """m_i."""
        return self.log_mass.exp()

    @property
    def sink(self) -> Tensor:
        """A_i,sink."""
        return self.log_sink.exp()

    @property
    def off_sink(self) -> Tensor:
        """1 - A_i,sink for i > 0, and 0 elsewhere, without cancellation."""
        return -torch.expm1(self.log_sink) * self.beyond_sink


class Ratio(NamedTuple):
    """A measure's numerator and weight for each token, (B, H, T) or broadcast to it; summed, then divided."""

    numerator: Tensor
    weight: Tensor


Measure = Callable[[Rows], Ratio]
_registry: Registry[Measure] = Registry("measure", "progloc.measures")
register_measure = _registry.register
"""Decorator: file a function `Rows -> Ratio` under a name; it then stands in every report, with its chance level."""


def measure_names() -> list[str]:
    """Return the names of all registered measures."""
    return list(_registry)


@register_measure("fidelity")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.real, rows.real)


@register_measure("fidelity_no_sink")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.log_mass_no_sink.exp() * rows.off_sink, rows.off_sink)


@register_measure("fidelity_no_first_block")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.mass * rows.beyond_first_block, rows.beyond_first_block)


@register_measure("entropy_bits")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.entropy * rows.real / math.log(2), rows.real)


@register_measure("entropy_bits_no_sink")
def _(rows: Rows) -> Ratio:
    # H + A log A + (1-A) log(1-A): the entropy of what is off the sink, times its mass
    on_off = torch.special.entr(rows.sink) + torch.special.entr(-torch.expm1(rows.log_sink))
    return Ratio((rows.entropy - on_off).clamp(min=0.0) * rows.beyond_sink / math.log(2), rows.off_sink)


@register_measure("penalty_nats")
def _(rows: Rows) -> Ratio:
    return Ratio(-rows.log_mass * rows.real, rows.real)


@register_measure("sink_mass")
def _(rows: Rows) -> Ratio:
    return Ratio(rows.sink * rows.beyond_sink, rows.beyond_sink)


class Figures(Mapping[str, float]):
    """Named numbers, as a mapping and as attributes: ``figures["fidelity"]`` is ``figures.fidelity``."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> float:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(
                f"no measure '{name}'; there are {', '.join(self.__dict__.get('_values', ()))}"
            ) from None


class LayerFigures(Figures):
    """A layer's figures (means over its heads), and those of each head."""

    def __init__(self, values: Mapping[str, float], heads: Sequence[Figures]) -> None:
        super().__init__(values)
        self.heads = tuple(heads)


@dataclass(frozen=True)
class Report:
    """What `measure` found. Every measure is an attribute (the mean over layers), and `chance_NAME` its chance level.

    ``report.fidelity``, ``report.chance_fidelity``, ``report.layers[3].fidelity`` and
    ``report.layers[3].heads[1].fidelity`` are the same measure at four places.
    """

    perplexity: float
    """exp of the mean cross-entropy over predicted tokens; no penalty in it."""
    cross_entropy: float
    """nats a predicted token."""
    tokens: int
    """Predicted tokens, which perplexity is over."""
    weighted_penalty_nats: float
    """Σ_ℓ λ(ℓ) · p^(ℓ) (or its mean over layers, as the configuration's `reduction` says)."""
    objective: float
    """cross_entropy + α · weighted_penalty_nats."""
    model: Figures
    chance: Figures
    layers: tuple[LayerFigures, ...] = field(repr=False)

    def __getattr__(self, name: str) -> float:
        if name.startswith("__") or "model" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.chance if name.startswith("chance_") else self.model, name)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, lists and dictionaries; None where there was nothing to measure."""

        def plain(figures: Mapping[str, float]) -> dict[str, Any]:
            return {name: None if math.isnan(value) else value for name, value in figures.items()}

        whole = ("perplexity", "cross_entropy", "tokens", "weighted_penalty_nats", "objective")
        return {
            **{name: getattr(self, name) for name in whole},
            **plain(self.model),
            **plain(self.chance),
            "layers": [{**plain(layer), "heads": [plain(head) for head in layer.heads]} for layer in self.layers],
        }

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)


def _flags(real: Tensor, block_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (real, beyond_sink, beyond_first_block), (B, 1, T) booleans, from (B, T) flags and block ids."""
    first = real.long().argmax(-1, keepdim=True)  # the sink: the first real token
    position = torch.arange(real.shape[1], device=real.device)
    beyond_sink = real & (position > first)
    beyond_first_block = real & (block_ids != block_ids.gather(-1, first))
    return real[:, None], beyond_sink[:, None], beyond_first_block[:, None]


def _uniform_rows(real: Tensor, block_ids: Tensor) -> Rows:
    """Return the rows that uniform causal attention gives on these blocks: the chance level of every measure."""
    flags = _flags(real, block_ids)
    causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()
    seen = (causal & real[:, None, :]) | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)  # (B, T, T)
    in_block = seen & (block_ids[:, :, None] == block_ids[:, None, :])
    n, n_block = seen.sum(-1).double(), in_block.sum(-1).double()  # (B, T)
    sink_in_block = (flags[1] & ~flags[2])[:, 0].double()
    n_other = (n - flags[1][:, 0].double()).clamp(min=1)
    rows = (
        (n_block / n).log(),
        -n.log(),
        ((n_block - sink_in_block) / n_other).log(),
        n.log(),
    )
    return Rows(*(row[:, None] for row in rows), *(flag.double() for flag in flags))


class _Sums:
    """Running numerators and weights of every measure: streaming, (L, H) numbers each, whatever the length."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, layers: Sequence[Rows]) -> None:
        for name in _registry:
            ratios = [_registry[name](rows) for rows in layers]
            pairs = torch.stack(
                [
                    torch.stack([part.expand_as(rows.log_mass).double().sum((0, 2)) for part in ratio])
                    for ratio, rows in zip(ratios, layers, strict=True)
                ]
            )  # (L, 2, H)
            self.sums[name] = self.sums[name] + pairs if name in self.sums else pairs

    def values(self) -> dict[str, Tensor]:
        """Return each measure's value per layer and head, (L, H); NaN where its weight is 0: nothing to measure."""
        return {name: (pair[:, 0] / pair[:, 1]).cpu() for name, pair in self.sums.items()}


def _means(values: Mapping[str, Tensor], prefix: str = "") -> dict[str, float]:
    return {prefix + name: float(value.mean()) for name, value in values.items()}


def measure(
    model: Any,
    dataset: Any,
    *,
    batch_size: int = 8,
    collator: Callable[[list[Any]], Mapping[str, Any]] = collate,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Measure a localised model on a dataset, in one pass that never holds more than a batch's attention.

    Args:
        model: a model from `localize` or `load`. It is left in the mode (train or eval) it was in.
        dataset: a list or map-style dataset of items with `input_ids` (T,) and, unless the partitioner needs only
            positions, `block_ids` (T,).
        batch_size: sequences at a time.
        collator: makes a batch; labels are the input ids where it makes none.
        progress: called with the number of sequences done after each batch.

    Returns:
        Perplexity over predicted tokens, and every registered measure over real tokens per model, layer and head.
        A layer's figure is the mean over its heads, the model's the mean over its layers (SPEC §3).

    Raises:
        ProglocError: the model was not localised, or there is nothing to measure.
    """
    locality = getattr(model, "locality", None)
    if locality is None:
        raise ProglocError(
            "this model has no locality; run progloc.localize(model, LocalityConfig(…)) or progloc.load first"
        )
    attention, uniform = _Sums(), _Sums()
    loss_sum, predicted, done = 0.0, 0, 0
    was_training = model.training
    model.eval()
    # a generator of its own: measuring between epochs must not move the training's random numbers
    batches: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch_size,
        collate_fn=collator,
        generator=torch.Generator(),
    )
    try:
        with torch.inference_mode():
            for batch in batches:
                batch = {name: value.to(model.device) for name, value in batch.items()}
                labels = batch.pop("labels", batch["input_ids"])
                real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
                block_ids = batch.pop("block_ids", None)
                if block_ids is None:
                    block_ids = locality.block_ids(real)
                outputs = model(
                    **batch,
                    block_ids=block_ids,
                    output_attentions=True,
                    locality_channels=EXTRA_CHANNELS,
                    use_cache=False,
                )
                logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
                loss = torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=-100, reduction="sum")
                loss_sum += loss.double().item()
                predicted += int(targets.ne(-100).sum())
                flags = [flag.to(torch.float32) for flag in _flags(real, block_ids)]
                attention.add([Rows(*layer.float().unbind(-1), *flags) for layer in log_masses(outputs)])
                uniform.add([_uniform_rows(real, block_ids)])
                done += len(real)
                if progress is not None:
                    progress(done)
    finally:
        model.train(was_training)
    if predicted == 0:
        raise ProglocError(
            "nothing to measure: the dataset has no predicted token; give sequences of at least two tokens"
        )

    values = attention.values()
    penalties = values["penalty_nats"]
    weighted = float(locality_penalty(penalties, torch.tensor(locality.lambdas), locality.config.reduction))
    cross_entropy = loss_sum / predicted
    return Report(
        perplexity=math.exp(cross_entropy),
        cross_entropy=cross_entropy,
        tokens=predicted,
        weighted_penalty_nats=weighted,
        objective=cross_entropy + locality.config.alpha * weighted,
        model=Figures(_means(values)),
        chance=Figures(_means(uniform.values(), "chance_")),
        layers=tuple(
            LayerFigures(
                _means({name: value[layer] for name, value in values.items()}),
                [
                    Figures({name: float(value[layer, head]) for name, value in values.items()})
                    for head in range(penalties.shape[1])
                ],
            )
            for layer in range(len(penalties))
        ),
    )
