"""From a model's name and a text to its curve: what `progloc dial` does."""

from __future__ import annotations

__all__ = ["CURVE_FILE", "DialReport", "dial_report", "write_dial"]

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from progloc.config import SCHEMA_VERSION, LocalityConfig
from progloc.data import load_corpus
from progloc.dial_curve.curve import DELTAS, Agreement, Curve, dial_curve, layer_effects
from progloc.dial_curve.figure import drawing
from progloc.dial_curve.tables import conclusion, curve_table, layer_table, layers_by_delta, matched_table
from progloc.dialling import odds_outside
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import one_writer, write_bytes, write_json, write_text
from progloc.model import load, localize
from progloc.report.progress import progress_bar
from progloc.report.table import Table, escaped, to_markdown
from progloc.resolve import check_length, open_sequences, resolve

CURVE_FILE, TABLES_FILE, FIGURE_FILE = "dial.json", "tables.md", "dial.png"


@dataclass(frozen=True)
class DialReport:
    """The curves of a model and of those it is compared with, and what each layer alone does to the first."""

    curves: tuple[Curve, ...]
    lambdas: tuple[float, ...]
    layers: tuple[Agreement, ...]
    about: dict[str, Any] = field(repr=False)

    def tables(self) -> list[Table]:
        """Return every table; those marked as detail are left out of a terminal."""
        first, *others = self.curves
        return [
            *map(curve_table, self.curves),
            *([matched_table(first, others)] if others else []),
            layers_by_delta(first),
            layer_table(first.name, self.lambdas, self.layers),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers, as `dial.json` holds it."""
        layers = [
            {"lambda": strength, "kl_nats": each.kl_nats, "same_top": each.same_top}
            for strength, each in zip(self.lambdas, self.layers, strict=True)
        ]
        return {
            **self.about,
            "curves": [
                {"model": curve.name, "points": [point.to_dict() for point in curve.points]} for curve in self.curves
            ],
            "one_layer_alone": layers,
            "conclusion": conclusion(self.curves),
        }


def _beside(name: str, config: LocalityConfig) -> Any:
    """Return a model to compare with: with its own λ, or, where it was trained without any, the first model's.

    Raises:
        ProglocError: no such model, or it was localised with other blocks.
    """
    named = resolve(name)
    own = named.config if named.stored else config
    model = load(named.folder, own)
    if not any(model.locality.lambdas):
        model = localize(model, config)
    if model.locality.config.blocks != config.blocks:
        raise ProglocError(
            f"'{name}' has the blocks {own.blocks} and the first model {config.blocks}; expected the same, to compare"
        )
    return model


def dial_report(
    model: str,
    corpus: str,
    against: Sequence[str] = (),
    *,
    deltas: Sequence[float] = DELTAS,
    schedule: str | tuple[float, ...] | None = None,
    blocks: str | None = None,
    sequences: int = 32,
    sequence_length: int | None = None,
    console: Console | None = None,
) -> DialReport:
    """Measure a model over the dial, and others beside it, on the same sequences.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. One that is not localised is dialled in every layer
            alike (λ = 1), unless a schedule is given.
        corpus: see `progloc.data.load_corpus`.
        against: other models with the same tokenizer: one that was never localised is dialled with the first one's
            schedule and blocks, a localised one with its own.
        deltas: numbers in [0, 1], 0 among them.
        schedule: instead of the model's own.
        blocks: instead of the model's own.
        sequences: how many sequences of the text, spread evenly over it.
        sequence_length: tokens a sequence; by default what the model was trained at, else 128.
        console: where a progress bar and an estimate are shown.

    Raises:
        ProglocError: a model, corpus, schedule, partitioner or length that cannot be used.
    """
    chosen = sorted({0.0, *deltas})
    for delta in chosen:
        odds_outside(delta, (1.0,))  # refused before a model is opened
    if sequences < 1:
        raise ProglocError(f"--sequences {sequences}; expected a whole number ≥ 1")
    named = resolve(model, schedule=schedule, blocks=blocks)
    loaded, whole, before = open_sequences(named, corpus, sequence_length)
    localised = loaded.locality.localised
    if not localised:
        loaded = localize(loaded, dataclasses.replace(loaded.locality.config, schedule="localist"))
        if console is not None:
            console.print(f"'{model}' is not localised: it is dialled in every layer alike", style="dim")
    config, text = loaded.locality.config, load_corpus(corpus)
    if not any(loaded.locality.lambdas):
        raise ProglocError(
            f"'{model}' has λ = 0 in every layer ({config.schedule}), and the dial is δ·λ(ℓ); "
            "say by which λ to dial it, as in --schedule quintic"
        )
    length = len(whole[0]["input_ids"])
    for name in against:  # before the minutes that measuring takes
        check_length(resolve(name).folder, length)
    spread = np.linspace(0, len(whole) - 1, min(sequences, len(whole))).round().astype(int)
    dataset = whole.select(spread.tolist())
    names = [model, *against]
    short = [Path(name).name for name in names]
    label = dict(zip(names, short if len(set(short)) == len(names) else names, strict=True)).__getitem__
    with progress_bar(console) as bar:
        passes = len(names) * 4 * len(chosen) + len(loaded.locality.lambdas)
        task = bar.add_task("turning the dial", total=passes * len(dataset))

        def advance(done: int) -> None:
            bar.update(task, advance=done)

        started = time.monotonic()
        effects = layer_effects(loaded, dataset, progress=advance)
        if console is not None:
            seconds = (time.monotonic() - started) / len(effects) * (passes - len(effects))
            console.print(f"about {max(seconds / 60, 0.1):.1f} min to go", style="dim")
        curves = [dial_curve(label(model), loaded, dataset, chosen, progress=advance)]
        for name in against:
            curves.append(dial_curve(label(name), _beside(name, config), dataset, chosen, progress=advance))
    about = {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "corpus": text.name,
        "corpus_sha256": text.sha256,
        "blocks": config.blocks,
        "schedule": config.schedule,
        "localised": localised,
        "sequences": len(dataset),
        "sequence_length": length,
        "special_tokens": list(before),
        "environment": describe_environment(),
    }
    return DialReport(tuple(curves), loaded.locality.lambdas, tuple(effects), about)


def write_dial(report: DialReport, out: Path) -> list[Path]:
    """Write `dial.json`, `tables.md` and `dial.png` into a folder, and return their paths."""
    paths = [out / name for name in (CURVE_FILE, TABLES_FILE, FIGURE_FILE)]
    with one_writer(out, wait=True):  # or the figure were of another report than the tables
        write_json(paths[0], report.to_dict())
        write_text(paths[1], "\n".join([*map(to_markdown, report.tables()), escaped(conclusion(report.curves)), ""]))
        write_bytes(paths[2], drawing(report.curves))
    return paths
