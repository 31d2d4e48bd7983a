"""Tables and figure of docs/frontier.md, from what benchmarks/frontier.py has measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from progloc.files import read_json, write_bytes
from progloc.report.formats import ABSENT, interval, number, ratio
from progloc.report.plot import COLOURS, png, styled
from progloc.report.statistics import Comparison, Estimate, crossed, mean_interval
from progloc.report.table import Column, Table
from scripts import write_tables

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "measured" / "frontier"
PAGE = ROOT / "docs" / "frontier.md"
PICTURE = ROOT / "docs" / "images" / "frontier.png"
BY = "benchmarks/frontier.py"
MAIN = "frontier"
"""The kept data that the figure shows."""
PLAIN = "isolated:0"
SIDES = ("isolated", "local")
Parts = list[dict[str, Any]]


def losses(parts: Parts, blocks: str, trained: str, point: str, rate: float | None = None) -> np.ndarray | None:
    """Return nats a token by seed and passage, (seeds, passages), of a checkpoint at a point; None if it has none."""
    rows = [
        np.array(part["points"][point]["nats"])
        for part in sorted(parts, key=lambda part: part["seed"])
        if (part["blocks"], part["trained"], part["learning_rate"]) == (blocks, trained, rate)
        and point in part["points"]
    ]
    return np.stack(rows) if rows else None


def control(parts: Parts, blocks: str) -> tuple[str, str]:
    """Return what trained checkpoints are compared with: the plain one trained as long, or else the model as it is."""
    trained = losses(parts, blocks, PLAIN, PLAIN) is not None
    return PLAIN if trained else "", PLAIN


def price(parts: Parts, blocks: str, trained: str, point: str, base: tuple[str, str]) -> Estimate | None:
    """Return perplexity at a point ÷ that of a base (trained, point), paired by seed and passage."""
    ours, theirs = losses(parts, blocks, trained, point), losses(parts, blocks, *base)
    if ours is None or theirs is None:
        return None
    difference = ours - theirs
    return over_draws(difference).estimate.map(np.exp)


def over_draws(table: np.ndarray) -> Comparison:
    """Return the mean of a table (seeds, passages) over what was drawn: both, or passages where there is one seed."""
    return crossed(table) if len(table) > 1 else Comparison(mean_interval(table[0]))


def pictures(parts: Parts, trained: str, point: str, read: Callable[[dict[str, Any]], float | None]) -> Estimate | None:
    """Return a figure of the pictures at a point over seeds and passages; passages without it are left out."""
    rows = [
        [read(passage) for passage in part["points"][point]["pictures"]]
        for part in sorted(parts, key=lambda part: part["seed"])
        if part["trained"] == trained and "pictures" in part["points"].get(point, {})
    ]
    if not rows:
        return None
    table = np.array(rows, dtype=float)
    table = table[:, np.isfinite(table).all(0)]
    return over_draws(table).estimate if table.size else None


def drop_share(parts: Parts, trained: str, point: str, k: int) -> float | None:
    """Return what leaving out attention's top sources costs ÷ what leaving out those of most effect does, in sums."""
    drops = [
        (passage["drops"]["attention"][k], passage["drops"]["effects"][k])
        for part in parts
        if part["trained"] == trained
        for passage in part["points"].get(point, {}).get("pictures", [])
    ]
    ours, best = np.array(drops).sum(0) if drops else (0.0, 0.0)
    return float(ours / best) if best > 0 else None


def price_table(data: dict[str, Any], blocks: str) -> Table:
    """Return the price of each number of layers in which blocks may mix."""
    parts, layers = data["parts"], data["layers"]
    rows = []
    for mixing in range(layers, -1, -1):
        cells = []
        for side in SIDES:
            point = f"{side}:{layers - mixing}" if mixing < layers else PLAIN
            for trained, base in (("", ("", PLAIN)), (point, control(parts, blocks))):
                estimate = price(parts, blocks, trained, point, base)
                cells.append(ABSENT if estimate is None or point == base[1] else ratio(estimate))
        serving = price(parts, blocks, "sampled", f"isolated:{layers - mixing}", control(parts, blocks))
        cells.append(ABSENT if serving is None else ratio(serving))
        rows.append((str(mixing), *cells))
    keep = [place for place in range(6) if place == 0 or any(row[place] != ABSENT for row in rows)]
    columns = (
        Column("layers in which blocks may mix"), Column("isolated, as it is"), Column("isolated, trained for it"),
        Column("local, as it is"), Column("local, trained for it"), Column("isolated, one checkpoint for all"),
    )  # fmt: skip
    plain = losses(parts, blocks, "", PLAIN)
    assert plain is not None
    as_long = ", for trained checkpoints one trained as long" if control(parts, blocks)[0] else ""
    drawn = f", of trained checkpoints over {data['seeds']} seeds crossed with them" if len(keep) > 3 else ""
    drawn += "; the last column is of one seed" if keep[-1] == 5 else ""
    note = (
        f"Perplexity of the last {data['answer']} of {data['length']} tokens of {plain.shape[1]} held-out passages ÷ "
        f"that of the plain model{as_long}, {np.exp(plain.mean()):.2f} as it is. 95% intervals over passages{drawn}. "
        f"{data['model']}, {data['corpus']}."
    )
    return Table(
        f"Price, {blocks}", note, tuple(columns[place] for place in keep),
        tuple(tuple(row[place] for place in keep) for row in rows),
    )  # fmt: skip


def checkpoints(parts: Parts) -> Iterable[tuple[str, str]]:
    """Yield what was trained and at which point its pictures were tested, the model as it is first."""
    seen = {(part["trained"], point): None for part in parts for point in part["pictures"]}
    yield from sorted(seen, key=lambda pair: (pair[0] != "", list(seen).index(pair)))


def truth_table(data: dict[str, Any]) -> Table | None:
    """Return how true pictures are, by checkpoint and point."""
    parts, layers = data["parts"], data["layers"]
    rows = []
    for trained, point in checkpoints(parts):

        def lds(name: str, trained: str = trained, point: str = point) -> str:
            estimate = pictures(parts, trained, point, lambda passage: passage["lds"][name])
            return ABSENT if estimate is None else interval(estimate, 2)

        rho, top = (
            pictures(parts, trained, point, lambda passage, key=key: passage[key]) for key in ("rho", "same_top")
        )
        blocks = parts[0]["blocks"]
        paid = price(parts, blocks, trained, point, control(parts, blocks) if trained else ("", PLAIN))
        rows.append(
            (
                trained or "as it is", named(point, layers), ABSENT if paid is None else f"{paid.mean:.3f}×",
                lds("attention"), lds("effects"), lds("recency"), lds("length"),
                ABSENT if rho is None else interval(rho, 2), ABSENT if top is None else number(top.mean, 2),
                *(number(drop_share(parts, trained, point, k), 2) for k in (0, 1)),
            )
        )  # fmt: skip
    if not rows:
        return None
    chances = [1 / p["sources"] for part in parts for v in part["points"].values() for p in v.get("pictures", [])]
    passages = max(len(v["pictures"]) for part in parts for v in part["points"].values() if "pictures" in v)
    return Table(
        "Truth of the picture",
        f"Over {passages} held-out passages and the seeds, with 95% intervals (`sampled` and `truth`: one seed). LDS "
        f"over {data['halves']} random halves of the sources, for the answer's mean attention, for exact leave-one-out "
        "effects (the ceiling), and for two rules; Spearman's ρ of attention and effects; how often attention's first "
        f"source is that of most effect (chance {np.mean(chances):.2f}); what leaving out attention's top 1 and top 3 "
        "costs ÷ the same for effects. Price: as above.",
        (
            Column("trained for", text=True), Column("measured at", text=True), Column("price"), Column("attention"),
            Column("effects"), Column("recency"), Column("length"), Column("ρ"), Column("same first"), Column("top 1"),
            Column("top 3"),
        ),
        tuple(rows),
    )  # fmt: skip


def named(point: str, layers: int) -> str:
    """Return a point in words."""
    side, _, count = point.partition(":")
    if count == "0":
        return "plain"
    where = "all" if int(count) == layers else f"{'first' if side == 'isolated' else 'last'} {count}"
    return f"{side}, {where} layers"


def off_table(data: dict[str, Any]) -> Table | None:
    """Return what checkpoints trained for a point cost as plain models."""
    parts = data["parts"]
    rows = []
    for blocks, trained in dict.fromkeys((part["blocks"], part["trained"]) for part in parts if part["trained"]):
        estimate = price(parts, blocks, trained, PLAIN, control(parts, blocks))
        if trained != PLAIN and estimate is not None:
            rows.append((blocks, trained, ratio(estimate)))
    return Table(
        "Trained checkpoints with isolation and dial off",
        "Perplexity of the same answers by the checkpoint used plainly ÷ that of the same plain model as above.",
        (Column("blocks", text=True), Column("trained for", text=True), Column("perplexity")),
        tuple(rows),
    ) if rows else None  # fmt: skip


def rates_table(data: dict[str, Any]) -> Table | None:
    """Return what strict isolation costs at other learning rates, one seed each."""
    parts, blocks = data["parts"], data["parts"][0]["blocks"]
    strict, (trained, _) = f"isolated:{data['layers']}", control(data["parts"], blocks)
    rates = {part["learning_rate"] for part in parts if part["learning_rate"] is not None}
    rows = []
    for rate in sorted(rates | {data["learning_rate"]}) if rates else ():
        asked = None if rate == data["learning_rate"] else rate
        ours = losses(parts, blocks, strict, strict, asked)
        theirs = losses(parts, blocks, trained, PLAIN, asked if trained else None)
        if ours is not None and theirs is not None:
            rows.append((f"{rate:g}", ratio(over_draws(ours[:1] - theirs[:1]).estimate.map(np.exp))))
    return Table(
        "Strict isolation at other learning rates",
        "Perplexity of answers ÷ that of the plain model, as above; seed 0, 95% intervals over passages.",
        (Column("learning rate"), Column("price")),
        tuple(rows),
    ) if rows else None  # fmt: skip


def draw_prices(axes: Axes, data: dict[str, Any], blocks: str) -> None:
    """Draw the price by the number of layers in which blocks may mix."""
    layers, parts = data["layers"], data["parts"]
    for colour, side in zip(COLOURS[1:3], SIDES, strict=True):
        label = "early layers isolated" if side == "isolated" else "late layers local"
        points = {mixing: f"{side}:{layers - mixing}" if mixing < layers else PLAIN for mixing in range(layers + 1)}
        base = control(parts, blocks)
        lines = (
            (", as it is", "o:", {k: price(parts, blocks, "", point, ("", PLAIN)) for k, point in points.items()}),
            (", trained for it", "D", {k: price(parts, blocks, point, point, base) for k, point in points.items()}),
        )
        for what, form, prices in lines:
            marks = [(mixing, estimate.mean) for mixing, estimate in prices.items() if estimate is not None]
            if marks:
                axes.plot(*zip(*marks, strict=True), form, color=colour, markersize=5, label=label + what)
    axes.axhline(1.0, color="#888888", linewidth=0.8)
    axes.set_xticks(range(layers + 1))
    axes.set_xlabel("layers in which blocks may mix")
    axes.set_title(f"Price: perplexity ÷ plain ({blocks})")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}×")
    axes.yaxis.set_minor_formatter("{x:g}×")
    axes.legend(fontsize=8)


def trained_in_words(trained: str, point: str) -> str:
    """Return how a checkpoint was trained, to follow the point at which it is measured."""
    kind, _, value = trained.partition(":")
    return {
        "": "", "sampled": ", one checkpoint for all", "truth": f", trained with truth {value}"
    }.get(kind, ", trained for it" if trained == point else f", trained for {trained}")  # fmt: skip


def draw_truth(axes: Axes, data: dict[str, Any]) -> None:
    """Draw the LDS of attention and of exact effects, by checkpoint."""
    labels = []
    for row, (trained, point) in enumerate(checkpoints(data["parts"])):
        labels.append(named(point, data["layers"]) + trained_in_words(trained, point))
        for name, colour, marker in (("attention", COLOURS[2], "o"), ("effects", COLOURS[1], "D")):
            estimate = pictures(data["parts"], trained, point, lambda passage, name=name: passage["lds"][name])
            if estimate is None:
                continue
            error = None if estimate.low is None else [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
            axes.errorbar(
                estimate.mean, row, xerr=error, color=colour, marker=marker, markersize=5, linestyle="none",
                label={"attention": "mean attention", "effects": "leaving one out"}[name] if not row else None,
            )  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(-0.35, 1.02)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_title("Truth: does it predict what leaving out half costs? (LDS)")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)


def figure(data: dict[str, Any]) -> bytes:
    """Return the figure of the frontier, a PNG."""
    with styled():
        drawing = Figure(figsize=(11.5, 4.6), layout="constrained")
        prices, truth = drawing.subplots(1, 2)
        draw_prices(prices, data, data["parts"][0]["blocks"])
        draw_truth(truth, data)
        return png(drawing)


def tables_of(data: dict[str, Any]) -> list[Table]:
    """Return the tables of one suite."""
    tables = [price_table(data, blocks) for blocks in dict.fromkeys(part["blocks"] for part in data["parts"])]
    further = (truth_table(data), off_table(data), rates_table(data))
    return [*tables, *(table for table in further if table is not None)]


def kept() -> dict[str, dict[str, Any]]:
    """Return what is kept, by name, the suite of the figure first."""
    return {path.stem: read_json(path) for path in sorted(DATA.glob("*.json"), key=lambda path: path.stem != MAIN)}


def write_page(console: Console) -> None:
    """Write the page's tables and its figure from what is kept."""
    suites = kept()
    if MAIN in suites:
        write_bytes(PICTURE, figure(suites[MAIN]))
    write_tables(PAGE, BY, [table for data in suites.values() for table in tables_of(data)], console)
