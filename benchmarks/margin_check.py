"""One pass that sets what margins guarantee beside what is measured, per layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from progloc.attention.margins import MARGIN_CHANNELS
from progloc.attention.masses import MEASURED_CHANNELS, log_masses
from progloc.attention.request import AttentionRequest
from progloc.data import collate
from progloc.errors import ProglocError
from progloc.measures.definitions import Ratio, measures
from progloc.measures.guarantees import entropy_bound, guaranteed_entropy_bound, guaranteed_mass
from progloc.measures.passes import Sums, batches, evaluating
from progloc.measures.report import Figures
from progloc.measures.rows import Rows, flags

_ASKED = (*MEASURED_CHANNELS, *MARGIN_CHANNELS)


@dataclass(frozen=True)
class MarginReport:
    """Margins and what they guarantee. A layer's figures are means over its heads, the model's over its layers.

    Over tokens that see a key outside their block; the others have a mass of 1 by construction. Names, each also with
    `_no_sink` (over i > 0 and the keys without the sink; all but the first two weighted by the mass off the sink):
    `margin_nats`, `positive_share` (γ > 0), `guaranteed_mass`, `mass`, `guaranteed_entropy_bits` (the bound that
    follows from the margin), `entropy_bound_bits` (the bound that follows from the measured mass), `entropy_bits`.
    """

    tokens: int
    """How many such tokens there were, with granularities together."""
    excess: float
    """The most by which a guarantee was above the measured mass of its token; rounding, or the theory is wrong."""
    model: Figures
    layers: tuple[Figures, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers; None where there was nothing to measure."""

        def plain(figures: Mapping[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(value) else value for name, value in figures.items()}

        layers = [plain(layer) for layer in self.layers]
        return {"tokens": self.tokens, "excess": self.excess, **plain(self.model), "layers": layers}

    def to_json(self) -> str:
        """Return `to_dict` as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)


def check(
    model: Any,
    dataset: Any,
    *,
    batch_size: int = 8,
    collator: Callable[[list[Any]], Mapping[str, Any]] = collate,
    progress: Callable[[int], None] | None = None,
) -> MarginReport:
    """Check on a dataset what score margins guarantee against what is measured, in memory linear in T.

    Args:
        model: a model from `localize` or `load`. It is left in the mode (train or eval) it was in.
        dataset: as `measure` takes it.
        batch_size: sequences at a time.
        collator: makes a batch.
        progress: called with the number of sequences done after each batch.

    Raises:
        ProglocError: the model was not localised, or no token sees a key outside its block.
    """
    sums, excess, tokens, done = Sums(), -math.inf, 0, 0
    with evaluating(model):
        for batch in batches(model, dataset, batch_size, collator):
            outputs = model(
                **batch.inputs, block_ids=batch.block_ids, output_attentions=True,
                attention_request=AttentionRequest(_ASKED), use_cache=False, logits_to_keep=1,
            )  # fmt: skip
            layers = log_masses(outputs)
            marks = [[mark.double() for mark in flags(batch.documents, ids)] for ids in batch.divisions]
            checks = [_sides(layer, marks[g]) for layer, g in zip(layers, batch.granularity, strict=True)]
            sums.add([ratios for ratios, _, _ in checks], layers[0].shape[1])
            excess = max(excess, *(beyond for _, beyond, _ in checks))
            outside = {g: number for g, (_, _, number) in zip(batch.granularity, checks, strict=True)}
            tokens += sum(outside.values())
            done += len(batch.documents)
            if progress is not None:
                progress(done)
    if tokens == 0:
        raise ProglocError(
            "no token sees a key outside its block; give sequences that are longer than a block, or smaller blocks"
        )
    values = sums.values()
    return MarginReport(
        tokens,
        excess,
        Figures({name: float(value.mean()) for name, value in values.items()}),
        tuple(Figures({name: float(value[at].mean()) for name, value in values.items()}) for at in range(len(layers))),
    )


def _sides(layer: Tensor, marks: Sequence[Tensor]) -> tuple[dict[str, Ratio], float, int]:
    """Return a layer's ratios by name, the most by which a guarantee is above a measured mass, and of how many tokens.

    Args:
        layer: (B, H, T, C), log masses, numbers of keys and margins.
        marks: as `flags` returns them, as numbers.
    """
    *read, keys, block_keys, sink_keys, margin, margin_no_sink = layer.double().unbind(-1)
    real, beyond_sink, beyond_first_block = marks
    n, n_in, n_sink = (number[:, :1] for number in (keys, block_keys, sink_keys))  # (B, 1, T), as all that follows
    n_sink = n_sink * beyond_sink
    n_in_no_sink = n_in - n_sink * (1 - beyond_first_block)
    n_out, n_out_no_sink = n - n_in, n - n_sink - n_in_no_sink
    outside, outside_no_sink = real * (n_out > 0), beyond_sink * (n_out_no_sink > 0)
    rows = Rows(*read, *marks)
    off_sink = rows.off_sink * outside_no_sink
    bits, bits_no_sink = (measures[name](rows).numerator for name in ("entropy_bits", "entropy_bits_no_sink"))
    plain, beyond = _ratios(margin, rows.mass, bits * outside, n_in, n_out, outside, outside)
    no_sink, beyond_no_sink = _ratios(
        margin_no_sink, rows.log_mass_no_sink.exp(), bits_no_sink * outside_no_sink,
        n_in_no_sink, n_out_no_sink, outside_no_sink, off_sink,
    )  # fmt: skip
    ratios = plain | {f"{name}_no_sink": ratio for name, ratio in no_sink.items()}
    return ratios, max(beyond, beyond_no_sink), int(outside.sum())


def _ratios(
    margin: Tensor, mass: Tensor, entropy: Tensor, n_in: Tensor, n_out: Tensor, counted: Tensor, weight: Tensor
) -> tuple[dict[str, Ratio], float]:
    """Return one side of `_sides`.

    Args:
        margin: γ, (B, H, T) nats.
        mass: m, (B, H, T).
        entropy: bits, (B, H, T), weighted already.
        n_in: (B, 1, T), ≥ 1.
        n_out: (B, 1, T), ≥ 1 where counted.
        counted: 1 at tokens that count, (B, 1, T).
        weight: what masses and entropies of counted tokens are weighted by, 0 elsewhere.
    """
    guaranteed = guaranteed_mass(margin, n_in, n_out)
    ratios = {
        "margin_nats": Ratio(margin.masked_fill(counted == 0, 0.0), counted),
        "positive_share": Ratio((margin > 0) * counted, counted),
        "guaranteed_mass": Ratio(guaranteed * weight, weight),
        "mass": Ratio(mass * weight, weight),
        "guaranteed_entropy_bits": Ratio(guaranteed_entropy_bound(margin, n_in, n_out) * weight, weight),
        "entropy_bound_bits": Ratio(entropy_bound(mass, n_in, n_out) * weight, weight),
        "entropy_bits": Ratio(entropy, weight),
    }
    beyond = (guaranteed - mass).masked_fill(counted == 0, -math.inf)
    return ratios, float(torch.amax(beyond))
