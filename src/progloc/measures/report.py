"""The result of measuring: the same figures for the model, each layer and each head."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from progloc.files import JsonObject
from progloc.measures.definitions import look

if TYPE_CHECKING:
    import pandas as pd


class _Measures:
    """Measures as attributes: the promised ones, which type checkers and editors know, and any other by its name."""

    def _by_name(self) -> Mapping[str, float]:
        raise NotImplementedError

    def __getattr__(self, name: str) -> float:
        figures = self._by_name()
        if name not in figures:
            raise AttributeError(f"no measure '{name}'; there are {', '.join(figures)}")
        return figures[name]

    @property
    def fidelity(self) -> float:
        """F, the share of attention within the token's own block, in [0, 1]."""
        return self.__getattr__("fidelity")

    @property
    def fidelity_no_sink(self) -> float:
        """F°, the same of what is not on the sink, in [0, 1]."""
        return self.__getattr__("fidelity_no_sink")

    @property
    def entropy_bits(self) -> float:
        """H, the entropy of attention, in bits, ≥ 0."""
        return self.__getattr__("entropy_bits")

    @property
    def entropy_bits_no_sink(self) -> float:
        """H°, the same of what is not on the sink, in bits, ≥ 0."""
        return self.__getattr__("entropy_bits_no_sink")

    @property
    def penalty_nats(self) -> float:
        """p, −log of the in-block mass, in nats, ≥ 0."""
        return self.__getattr__("penalty_nats")

    @property
    def sink_mass(self) -> float:
        """The attention on the document's first token, in [0, 1]."""
        return self.__getattr__("sink_mass")

    @property
    def chance_fidelity(self) -> float:
        """What `fidelity` would be if attention were uniform, in [0, 1]: of a model and of a layer."""
        return self.__getattr__("chance_fidelity")


class Figures(_Measures, Mapping[str, float]):
    """Named numbers, as a mapping and as attributes: ``figures["fidelity"]`` is ``figures.fidelity``."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _by_name(self) -> Mapping[str, float]:
        return self.__dict__.get("_values", {})  # it is not there yet while a copy is made


class LayerFigures(Figures):
    """A layer's figures (means over its heads) with their chance levels, and those of each head."""

    def __init__(self, values: Mapping[str, float], heads: Sequence[Figures]) -> None:
        super().__init__(values)
        self.heads = tuple(heads)


@dataclass(frozen=True)
class Report(_Measures):
    """The result of `measure`: every measure is an attribute (its mean over layers), and so is its `chance_NAME`.

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
    paid_nats: tuple[float, ...]
    """What each layer pays, (L,), unweighted: the configuration's own penalty, where `penalty_nats` is the paper's."""
    schedule: str
    """The name of λ(ℓ), "explicit" for listed numbers, or "not localised"."""
    blocks: str
    """The partitioner of the blocks that all of this is measured in."""
    model: Figures
    chance: Figures
    layers: tuple[LayerFigures, ...] = field(repr=False)
    special_tokens: tuple[str, ...] | None = None
    """What the tokenizer put before the text; None where that is not known."""

    def _by_name(self) -> Mapping[str, float]:
        return {**self.__dict__.get("model", {}), **self.__dict__.get("chance", {})}

    def penalised_fidelity(self, lambdas: Sequence[float] | Sequence[Sequence[float]]) -> float:
        """Return F° weighted by λ(ℓ) over layers, or by λ(ℓ, h) over heads; NaN where every λ is 0."""
        fidelities = np.array([[head.fidelity_no_sink for head in layer.heads] for layer in self.layers])  # (L, H)
        weights = np.asarray(lambdas, dtype=float)
        weights = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], fidelities.shape)
        return float(np.average(fidelities, weights=weights)) if weights.any() else math.nan

    def to_dict(self) -> JsonObject:
        """Return everything as plain numbers, lists and dictionaries; None where there was nothing to measure."""

        def plain(figures: Mapping[str, float]) -> JsonObject:
            return {name: None if math.isnan(value) else value for name, value in figures.items()}

        names = ("perplexity", "cross_entropy", "tokens", "weighted_penalty_nats", "objective", "schedule", "blocks")
        return {
            **{name: getattr(self, name) for name in names},
            **({} if self.special_tokens is None else {"special_tokens": list(self.special_tokens)}),
            **plain(self.model),
            **plain(self.chance),
            "layers": [{**plain(layer), "heads": [plain(head) for head in layer.heads]} for layer in self.layers],
        }

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each layer and head, (L · H rows, indexed by both), and a column for each measure."""
        import pandas as pd

        layers = {number: pd.DataFrame(map(dict, layer.heads)) for number, layer in enumerate(self.layers)}
        return pd.concat(layers, names=["layer", "head"])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the measures by layer, the model's and chance below."""
        import pandas as pd

        names = [name for name in self.model if not look(name).detail]
        rows = {str(number): layer for number, layer in enumerate(self.layers)}
        chance = {name: self.chance.get(f"chance_{name}", math.nan) for name in names}
        cells = {
            row: {look(name).label: f"{figures[name]:.{look(name).digits}f}" for name in names}
            for row, figures in {**rows, "model": self.model, "chance": chance}.items()
        }
        table = pd.DataFrame.from_dict(cells, orient="index").rename_axis(index="layer").to_html()
        summary = f"perplexity {self.perplexity:.3f} over {self.tokens:,} predicted tokens"
        return f"<p>{html.escape(f'{summary} · {self.schedule}, {self.blocks}')}</p>{table}"
