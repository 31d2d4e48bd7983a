"""What `progloc dial` does: measure models over the dial, and write the curves as JSON, tables and a figure."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from progloc.config import SCHEMA_VERSION, LocalityConfig
from progloc.data import load_corpus
from progloc.dial_curve.curve import DELTAS, Agreement, Curve, Point, dial_curve, layer_effects
from progloc.dialling import odds_outside
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import JsonObject, one_writer, write_bytes, write_json, write_text
from progloc.model import LocalModel, localize
from progloc.report.formats import ABSENT, number
from progloc.report.plot import COLOURS, png, scale_by_ratio, styled
from progloc.report.printing import visible
from progloc.report.progress import print_note, progress_bar
from progloc.report.statistics import gap_at
from progloc.report.table import Column, Table, escaped, to_markdown
from progloc.resolve import NamedModel, check_length, open_sequences, resolve

SINK = {True: "kept", False: "dialled"}


@dataclass(frozen=True)
class DialReport:
    """The curves of a model and of those it is compared with, and the effect of each layer alone on the first."""

    curves: tuple[Curve, ...]
    lambdas: tuple[float, ...]
    layers: tuple[Agreement, ...]
    about: JsonObject = field(repr=False)

    def tables(self) -> list[Table]:
        """Return every table; those marked as detail are left out of a terminal."""
        first, *others = self.curves
        return [
            *map(_curve_table, self.curves),
            *([_matched_table(first, others)] if others else []),
            _layers_by_delta(first),
            _layer_table(first.name, self.lambdas, self.layers),
        ]

    def conclusion(self) -> str:
        """Return in a few sentences what the numbers are, and no more."""
        first, *others = self.curves
        part, other_part = first.part(), first.part(not first.keep_sink)
        start, end = part[0].report, part[-1].report
        sentences = [
            f"From δ = 0 to {part[-1].delta:g}, {first.name} goes from perplexity {number(start.perplexity, 2)} to "
            f"{number(end.perplexity, 2)} ({_price(part)}) and from F° "
            f"{number(start.fidelity_no_sink, 3)} to {number(end.fidelity_no_sink, 3)}, the sink "
            f"{SINK[first.keep_sink]}: {_trend([p.report.fidelity_no_sink for p in part], 'F°')}, "
            f"{_trend([p.report.perplexity for p in part], 'perplexity')}.",
            f"With the sink {SINK[not first.keep_sink]} it ends at {_price(other_part)}.",
        ]
        for curve in others:
            undialled = curve.part()[0].report
            sentences.append(
                f"{curve.name} costs {_price(curve.part())} over the same dial, from {number(undialled.perplexity, 2)}."
            )
            perplexity = _perplexity_at(part, undialled.fidelity_no_sink)
            if not math.isnan(perplexity) and undialled.fidelity_no_sink > start.fidelity_no_sink:
                sentences.append(
                    f"At the F° it has undialled ({number(undialled.fidelity_no_sink, 3)}), {first.name} dialled has "
                    f"{number(perplexity / undialled.perplexity, 3)}× its perplexity."
                )
        return " ".join(sentences)

    def to_dict(self) -> JsonObject:
        """Return everything as plain numbers, as `dial.json` holds it."""
        return {
            **self.about,
            "curves": [
                {"model": curve.name, "points": [point.to_dict() for point in curve.points]} for curve in self.curves
            ],
            "one_layer_alone": [
                {"lambda": strength, **dataclasses.asdict(agreement)}
                for strength, agreement in zip(self.lambdas, self.layers, strict=True)
            ],
            "conclusion": self.conclusion(),
        }


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
    """Measure a model over the dial, and others for comparison, on the same sequences.

    Args:
        model: a run's folder, a Hugging Face folder, or a hub name. One that is not localised is dialled in every layer
            alike (λ = 1), unless a schedule is given.
        corpus: see `progloc.data.load_corpus`.
        against: other models with the same tokenizer: one that was never localised is dialled with the first one's
            schedule and blocks, a localised one with its own.
        deltas: numbers in [0, 1]; 0 is added.
        schedule: instead of the model's own.
        blocks: instead of the model's own.
        sequences: how many sequences of the text, spread evenly over it.
        sequence_length: tokens a sequence; by default what the model was trained at, else 128.
        console: where a progress bar and an estimate are shown.

    Raises:
        ProglocError: a model, corpus, schedule, partitioner or length that cannot be used.
    """
    deltas = sorted({0.0, *deltas})
    for delta in deltas:
        odds_outside(delta, (1.0,))  # refused before a model is opened
    if sequences < 1:
        raise ProglocError(f"--sequences {sequences}; expected a whole number ≥ 1")
    loaded, text, special_tokens = open_sequences(
        resolve(model, schedule=schedule, blocks=blocks), corpus, sequence_length
    )
    localised = loaded.locality.localised
    if not localised:
        loaded = localize(loaded, dataclasses.replace(loaded.locality.config, schedule="localist"))
        print_note(console, f"'{model}' is not localised: it is dialled in every layer alike")
    config = loaded.locality.config
    source = load_corpus(corpus)
    lambdas = loaded.locality.lambdas
    if not any(lambdas):
        raise ProglocError(
            f"'{model}' has λ = 0 in every layer ({config.schedule}), and the dial is δ·λ(ℓ); "
            "say by which λ to dial it, as in --schedule quintic"
        )
    length = len(text[0]["input_ids"])
    compared = [resolve(name) for name in against]
    for named in compared:  # before the minutes that measuring takes
        check_length(named.folder, length)
    spread = np.linspace(0, len(text) - 1, min(sequences, len(text))).round().astype(int)
    dataset = text.select(spread.tolist())
    names = [model, *against]
    labels = [Path(name).name for name in names]
    if len(set(labels)) < len(names):
        labels = names
    with progress_bar(console) as bar:
        passes = len(names) * 4 * len(deltas) + len(lambdas)
        task = bar.add_task("turning the dial", total=passes * len(dataset))
        advance = partial(bar.advance, task)
        started = time.monotonic()
        effects = layer_effects(loaded, dataset, advance)
        seconds = (time.monotonic() - started) / len(effects) * (passes - len(effects))
        print_note(console, f"about {max(seconds / 60, 0.1):.1f} min to go")
        curves = [dial_curve(labels[0], loaded, dataset, deltas, advance)]
        for named, label in zip(compared, labels[1:], strict=True):
            curves.append(dial_curve(label, _open_compared(named, config), dataset, deltas, advance))
    about = {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "corpus": source.name,
        "corpus_sha256": source.sha256,
        "blocks": config.blocks,
        "schedule": config.schedule,
        "localised": localised,
        "sequences": len(dataset),
        "sequence_length": length,
        "special_tokens": list(special_tokens),
        "environment": describe_environment(),
    }
    return DialReport(tuple(curves), lambdas, tuple(effects), about)


def _open_compared(named: NamedModel, config: LocalityConfig) -> LocalModel:
    """Return a model to compare with: with its own λ, or, where it was trained without any, the first model's.

    Raises:
        ProglocError: no such model, or it was localised with other blocks.
    """
    own = named.config if named.stored else config
    model = dataclasses.replace(named, config=own).load()
    if not any(model.locality.lambdas):
        model = localize(model, config)
    if model.locality.config.blocks != config.blocks:
        raise ProglocError(
            f"'{named.name}' has the blocks {own.blocks} and the first model {config.blocks}; "
            "expected the same, to compare"
        )
    return model


def write_dial(report: DialReport, out: Path) -> list[Path]:
    """Write `dial.json`, `tables.md` and `dial.png` into a folder, and return their paths."""
    paths = [out / name for name in ("dial.json", "tables.md", "dial.png")]
    with one_writer(out, wait=True):  # or the figure might be of another report than the tables
        write_json(paths[0], report.to_dict())
        write_text(paths[1], "\n".join([*map(to_markdown, report.tables()), escaped(report.conclusion()), ""]))
        write_bytes(paths[2], _draw(report.curves))
    return paths


def _price(points: Sequence[Point]) -> str:
    return f"{number(points[-1].report.perplexity / points[0].report.perplexity, 3)}×"


def _agreement_cells(agreement: Agreement) -> tuple[str, str]:
    return number(agreement.kl_nats, 4), f"{number(100 * agreement.same_top, 1)}%"


def _curve_table(curve: Curve) -> Table:
    rows = []
    for point in curve.points:
        report = point.report
        rows.append((
            SINK[point.keep_sink], f"{point.delta:g}", number(report.perplexity, 2),
            _price([curve.part(point.keep_sink)[0], point]), number(report.fidelity, 3),
            number(report.fidelity_no_sink, 3), number(report.entropy_bits, 2), number(report.entropy_bits_no_sink, 2),
            number(report.sink_mass, 3), *_agreement_cells(point.agreement),
        ))  # fmt: skip
    return Table(
        f"The dial: {curve.name}",
        "δ: out-of-block attention odds are multiplied by 1 − δ·λ(ℓ) in layer ℓ. Sink kept: the first token's odds "
        "stay as they are. Price: perplexity ÷ that at δ = 0. KL of the next-token distribution at δ = 0 from that at "
        "δ, and how often both have the same most likely token.",
        (
            Column("Sink", text=True), Column("δ"), Column("Perplexity"), Column("Price"), Column("F", detail=True),
            Column("F°"), Column("H (bits)", detail=True), Column("H° (bits)"), Column("Sink mass"),
            Column("KL (nats)"), Column("Same top-1"),
        ),
        tuple(rows),
    )  # fmt: skip


def _layers_by_delta(curve: Curve) -> Table:
    """Return F° of every layer at every δ, the sink treated as the model's configuration says."""
    part = curve.part()
    rows = tuple(
        (str(layer), *(number(point.report.layers[layer].fidelity_no_sink, 3) for point in part))
        for layer in range(len(part[0].report.layers))
    )
    return Table(
        f"F° by layer: {curve.name}",
        "Of the attention not on the sink, the share in the token's own block.",
        (Column("Layer"), *(Column(f"δ = {point.delta:g}") for point in part)),
        rows,
        detail=True,
    )


def _layer_table(name: str, lambdas: Sequence[float], effects: Sequence[Agreement]) -> Table:
    rows = tuple(
        (str(layer), number(strength, 3), *_agreement_cells(effect))
        for layer, (strength, effect) in enumerate(zip(lambdas, effects, strict=True))
    )
    columns = tuple(map(Column, ("Layer", "λ", "KL (nats)", "Same top-1")))
    return Table(f"One layer alone at δ = 1: {name}", "All other layers are as trained.", columns, rows, detail=True)


def _perplexity_at(points: Sequence[Point], fidelity: float) -> float:
    """Return perplexity where a curve has that F°, interpolated as gaps are; NaN outside the curve's range."""
    marks = [(point.report.fidelity_no_sink, point.report.perplexity) for point in points]
    low, high = min(mark[0] for mark in marks), max(mark[0] for mark in marks)
    return gap_at(marks, fidelity) if low <= fidelity <= high and low < high else math.nan


def _matched_table(first: Curve, others: Sequence[Curve]) -> Table:
    """Return the first model's perplexity at the F° that each other one has undialled and at the end of its dial."""
    rows = []
    for curve in others:
        for point in (curve.part()[0], curve.part()[-1]):
            fidelity, perplexity = point.report.fidelity_no_sink, point.report.perplexity
            matched = _perplexity_at(first.part(), fidelity)
            rows.append((
                curve.name, f"{point.delta:g}", number(fidelity, 3), number(perplexity, 2), number(matched, 2),
                ABSENT if math.isnan(matched) else f"{number(matched / perplexity, 3)}×",
            ))  # fmt: skip
    return Table(
        f"At equal F°: {first.name}, dialled, and the others",
        f"Ours: of {escaped(first.name)}, interpolated between its points; a dash where its dial does not reach "
        "that F°.",
        (Column("Model", text=True), *map(Column, ("δ", "F°", "Its perplexity", "Ours there", "Ratio"))),
        tuple(rows),
    )


def _trend(values: Sequence[float], name: str) -> str:
    steps = np.diff(values)
    if (steps >= 0).all():
        return f"{name} rises at every step"
    if (steps <= 0).all():
        return f"{name} falls at every step"
    return f"{name} rises at {(steps > 0).sum()} of {len(steps)} steps"


def _draw(curves: Sequence[Curve]) -> bytes:
    """Return the figure as a PNG: full lines keep the sink, dashed ones dial it too."""
    with styled():
        figure = Figure(figsize=(12.5, 4.2), layout="constrained")
        by_delta, by_fidelity, by_layer = figure.subplots(1, 3)
        lines, labels = [], []
        for curve, colour in zip(curves, itertools.cycle(COLOURS)):
            for keep_sink in (True, False):
                part = curve.part(keep_sink)
                perplexity = [point.report.perplexity for point in part]
                look = {"color": colour, "linestyle": "-" if keep_sink else "--", "marker": "o", "markersize": 3.5}
                by_delta.plot([point.delta for point in part], perplexity, **look)
                lines += by_fidelity.plot([point.report.fidelity_no_sink for point in part], perplexity, **look)
                labels.append(visible(f"{curve.name}, sink {SINK[keep_sink]}"))
        for axes in (by_delta, by_fidelity):
            scale_by_ratio(axes)
            axes.set_ylabel("perplexity")
        by_delta.set(xlabel="dial δ", title="Over the dial")
        by_fidelity.set(xlabel="fidelity without the sink F°", title="Over locality")
        # named here, because matplotlib leaves out a line whose own label begins with _
        figure.legend(lines, labels, loc="outside lower center", ncols=max(2, len(curves)), fontsize=8)
        part = curves[0].part()
        values = np.array([[layer.fidelity_no_sink for layer in point.report.layers] for point in part]).T
        image = by_layer.imshow(values, aspect="auto", origin="lower", cmap="cividis", vmin=0, vmax=1)
        by_layer.set_xticks(range(len(part)), [f"{point.delta:g}" for point in part])
        by_layer.grid(visible=False)
        by_layer.yaxis.set_major_locator(MaxNLocator(integer=True))
        by_layer.set(xlabel="dial δ", ylabel="layer", title=visible(f"F° by layer: {curves[0].name}"))
        figure.colorbar(image, ax=by_layer, label="F°")
        return png(figure)
