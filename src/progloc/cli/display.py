"""What the command line shows of single results: tables and coloured text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from progloc.measures.definitions import look, measures
from progloc.report.formats import counted
from progloc.report.printing import visible, with_title
from progloc.report.progress import progress_bar

if TYPE_CHECKING:
    from progloc.files import JsonObject
    from progloc.measures.report import Report
    from progloc.paper.verdicts import Answer
    from progloc.results import RunResult

SHADES = [Style(color="black", bgcolor=f"bright_{colour}") for colour in ("cyan", "yellow", "green", "magenta")]
DIM = Style(dim=True)


def _shown_measures() -> list[tuple[str, str, int]]:
    """Return the measures that a terminal shows: name, heading, decimals."""
    looks = ((name, look(name)) for name in measures)
    return [(name, style.label, style.digits) for name, style in looks if not style.detail]


def _table(*headings: str, words: int = 1) -> Table:
    """Return an empty table whose first columns hold words, and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < words else "right")
    return table


def report_table(report: Report) -> Group:
    """Return a report's figures by layer, the model's below them and chance below those."""
    measured = f"perplexity {report.perplexity:.3f} over {report.tokens:,} predicted tokens"
    title = f"{measured} · {report.schedule}, in {report.blocks}"
    if report.special_tokens:
        title += f"; the text begins with {' '.join(report.special_tokens)}"
    shown = _shown_measures()
    table = _table("layer", *(heading for _, heading, _ in shown))

    def add_row(name: str, figures: Mapping[str, float], prefix: str = "", style: str = "") -> None:
        table.add_row(name, *(f"{figures[prefix + key]:.{digits}f}" for key, _, digits in shown), style=style)

    for number, layer in enumerate(report.layers):
        add_row(str(number), layer)
    table.add_section()
    add_row("model", report.model, style="bold")
    add_row("chance", report.chance, "chance_", style="dim")
    return with_title(title, table)


def before_after(result: RunResult) -> Group:
    """Return a run's measures on the validation split before and after training."""
    before, final, training = result.before, result.final, result.training
    table = _table("on validation", "before", "after", "chance")
    for key, heading, digits in (("perplexity", "perplexity", 2), *_shown_measures()):
        chance = before.get(f"chance_{key}")
        after = f"{final[key]:.{digits}f}"
        table.add_row(heading, f"{before[key]:.{digits}f}", after, "" if chance is None else f"{chance:.{digits}f}")
    last_before, last = before["layers"][-1], final["layers"][-1]
    for key, heading in (("fidelity", "last layer F"), ("fidelity_no_sink", "last layer F without sink")):
        table.add_row(heading, f"{last_before[key]:.3f}", f"{last[key]:.3f}", f"{before['chance_' + key]:.3f}")
    if off := result.isolation_off:
        table.add_row("perplexity with isolation off", "", f"{off['perplexity']:.2f}", "")
    if goal := result.goal:
        quantity, written = {
            "budget": ("price in perplexity", "+.2%"),
            "fidelity": ("F without sink, weighted by λ", ".3f"),
            "layers": (f"price of sources kept apart in the first {goal.get('layers')} layers", "+.2%"),
        }[goal["goal"]]
        outcome = "held" if goal["held"] else "not held"
        table.add_row(f"{quantity}: asked {goal['asked']:{written}}, {outcome}", "", f"{goal['found']:{written}}", "")
    title = f"{result.name}, seed {result.seed}; kept: step {training['kept_step']} of {training['steps']}"
    return with_title(title, table)


def claims_table(claims: Sequence[Answer]) -> Group:
    """Return the paper's claims with this suite's verdicts and the figures that decided."""
    table = _table("", "claim", "verdict", "figure", words=4)
    styles = {"supported": "green", "not supported": "red"}
    for claim in claims:
        verdict = Text(claim.verdict, style=styles.get(claim.verdict, "yellow"))
        table.add_row(claim.id, claim.question, verdict, claim.figure)
    return with_title("The paper's claims, put to this run", table)


def schedule_table(name: str, lambdas: Sequence[float], by_head: Sequence[Sequence[float]] | None = None) -> Group:
    """Return λ(ℓ) by layer, with bars; where heads differ, their mean, and how many have any."""
    table = _table("layer", *(["λ"] if by_head is None else ["mean λ", "heads with λ > 0"]), words=0)
    table.add_column("")
    for layer, value in enumerate(lambdas):
        heads = [] if by_head is None else [f"{sum(head > 0 for head in by_head[layer])} of {len(by_head[layer])}"]
        table.add_row(str(layer), f"{value:.4f}", *heads, "█" * round(value * 40))
    return with_title(f"λ(ℓ), {name}", table)


@contextmanager
def training_progress(console: Console, label: str) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """Show a bar for one training, with its stage, CE, penalty and validation perplexity.

    Yields a function to call at each step and evaluation: (step, steps, logs).
    """
    validation = ""
    with progress_bar(console) as bar:
        task = bar.add_task(label, total=None)

        def advance(step: int, steps: int, logs: Mapping[str, float]) -> None:
            nonlocal validation
            if "eval_perplexity" in logs:
                validation = f" · validation perplexity {logs['eval_perplexity']:.2f}"
            bar.update(task, completed=step, total=steps)
            if "ce" in logs:
                note = f"stage {logs['stage']} · CE {logs['ce']:.3f} · Σλp {logs['penalty_nats']:.3f}{validation}"
                bar.update(task, note=note)

        yield advance


def coloured_blocks(division: JsonObject) -> Segments:
    """Return a text with a bar and another colour at each change of block, and a line that counts the blocks.

    For a mixture, the text is repeated for each of its parts, those of early layers first. These are segments because
    rich's texts turn tabs into blanks and drop blanks at the end of a line.

    Args:
        division: from `progloc.evaluation.partition_text`.
    """
    ids = np.asarray(division["block_ids"])
    ids = ids[:, None] if ids.ndim == 1 else ids
    causal = "causal" if division["causal"] else "not causal"
    segments: list[Segment] = []
    for number, column in enumerate(ids.T, start=1):
        part = f" · part {number} of {ids.shape[1]}, from early layers to late ones" if ids.shape[1] > 1 else ""
        count = f"{counted(len(ids), 'token')} in {counted(len(set(column)), 'block')}"
        count += f" · {division['partitioner']} ({causal}){part}"
        segments += _coloured(division["text"], division["spans"], column.tolist())
        segments += [Segment.line(), Segment(visible(count), DIM), Segment.line()]
    return Segments(segments)


def _coloured(text: str, spans: Sequence[Sequence[int]], ids: Sequence[int]) -> Iterator[Segment]:
    order = {block: number for number, block in enumerate(dict.fromkeys(ids))}
    start, previous = 0, None
    for block, (_, stop) in zip(ids, spans, strict=True):
        if previous not in (None, block):
            yield Segment("│", DIM)
        end = max(stop, start)
        yield Segment(visible(text[start:end]), SHADES[order[block] % len(SHADES)])
        start, previous = end, block
