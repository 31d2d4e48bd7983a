"""What the command line shows of single results: tables and coloured text for a terminal."""

from __future__ import annotations

__all__ = ["before_after", "claims_table", "coloured_blocks", "report_table", "schedule_table", "training_progress"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from progloc.measures.definitions import look, measures
from progloc.report.printing import visible, with_title
from progloc.report.progress import progress_bar

if TYPE_CHECKING:
    from progloc.measures.report import Report
    from progloc.paper.verdicts import Answer
    from progloc.results import RunResult

SHADES = [Style(color="black", bgcolor=f"bright_{colour}") for colour in ("cyan", "yellow", "green", "magenta")]
DIM = Style(dim=True)


def _shown() -> list[tuple[str, str, int]]:
    """Return the measures that a terminal shows: name, heading, decimals."""
    looks = ((name, look(name)) for name in measures)
    return [(name, style.label, style.digits) for name, style in looks if not style.detail]


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table


def report_table(report: Report) -> Group:
    """Return a report's figures by layer, the model's below them and chance below those."""
    said = f"{report.schedule}, in {report.blocks}"
    if report.special_tokens:
        said += f"; the text begins with {' '.join(report.special_tokens)}"
    title = f"perplexity {report.perplexity:.3f} over {report.tokens:,} predicted tokens · {said}"
    table = _table("layer", *(heading for _, heading, _ in _shown()))

    def row(name: str, figures: Mapping[str, float], prefix: str = "", style: str = "") -> None:
        table.add_row(name, *(f"{figures[prefix + key]:.{digits}f}" for key, _, digits in _shown()), style=style)

    for number, layer in enumerate(report.layers):
        row(str(number), layer)
    table.add_section()
    row("model", report.model, style="bold")
    row("chance", report.chance, "chance_", style="dim")
    return with_title(title, table)


def before_after(result: RunResult) -> Group:
    """Return a run's measures on the validation split before and after training."""
    before, final, training = result.before, result.final, result.training
    kept = f"kept: step {training['kept_step']} of {training['steps']}"
    table = _table("on validation", "before", "after", "chance")
    for key, heading, digits in (("perplexity", "perplexity", 2), *_shown()):
        chance = before.get(f"chance_{key}")
        after = f"{final[key]:.{digits}f}"
        table.add_row(heading, f"{before[key]:.{digits}f}", after, "" if chance is None else f"{chance:.{digits}f}")
    last_before, last = before["layers"][-1], final["layers"][-1]
    for key, heading in (("fidelity", "last layer F"), ("fidelity_no_sink", "last layer F without sink")):
        table.add_row(heading, f"{last_before[key]:.3f}", f"{last[key]:.3f}", f"{before['chance_' + key]:.3f}")
    if goal := result.goal:
        what = {"budget": "price in perplexity", "fidelity": "F without sink, weighted by λ"}[goal["goal"]]
        shown = "+.2%" if goal["goal"] == "budget" else ".3f"
        outcome = "held" if goal["held"] else "not held"
        table.add_row(f"{what}: asked {goal['asked']:{shown}}, {outcome}", "", f"{goal['found']:{shown}}", "")
    return with_title(f"{result.name}, seed {result.seed}; {kept}", table)


def claims_table(claims: Sequence[Answer]) -> Group:
    """Return the paper's claims with this suite's verdicts and the figures that decided."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "claim", "verdict", "figure"):
        table.add_column(heading)
    styles = {"supported": "green", "not supported": "red"}
    for claim in claims:
        verdict = Text(claim.verdict, style=styles.get(claim.verdict, "yellow"))
        table.add_row(claim.id, claim.question, verdict, claim.figure)
    return with_title("The paper's claims, put to this run", table)


def schedule_table(name: str, lambdas: Sequence[float], by_head: Sequence[Sequence[float]] | None = None) -> Group:
    """Return λ(ℓ) by layer, with bars; where heads differ, their mean, and how many have any."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer", justify="right")
    table.add_column("λ" if by_head is None else "mean λ", justify="right")
    if by_head is not None:
        table.add_column("heads with λ > 0", justify="right")
    table.add_column("")
    for layer, value in enumerate(lambdas):
        heads = [] if by_head is None else [f"{sum(head > 0 for head in by_head[layer])} of {len(by_head[layer])}"]
        table.add_row(str(layer), f"{value:.4f}", *heads, "█" * round(value * 40))
    return with_title(f"λ(ℓ), {name}", table)


@contextmanager
def training_progress(console: Console, label: str) -> Iterator[Callable[[int, int, Mapping[str, Any]], None]]:
    """Show a bar for one training, with its stage, CE, penalty and validation perplexity.

    What is yielded is told of each step and evaluation: (step, steps, what is logged).
    """
    validation = ""
    with progress_bar(console) as bar:
        task = bar.add_task(label, total=None)

        def hear(step: int, steps: int, logs: Mapping[str, Any]) -> None:
            nonlocal validation
            if "eval_perplexity" in logs:
                validation = f" · validation perplexity {logs['eval_perplexity']:.2f}"
            bar.update(task, completed=step, total=steps)
            if "ce" in logs:
                note = f"stage {logs['stage']} · CE {logs['ce']:.3f} · Σλp {logs['penalty_nats']:.3f}{validation}"
                bar.update(task, note=note)

        yield hear


def coloured_blocks(found: Mapping[str, Any]) -> Segments:
    """Return the text with a bar and another colour at each change of block, and a line that counts the blocks.

    Of a mixture, the text as often as it has parts, those of early layers first. As segments, for in rich's texts a
    tab becomes blanks, and blanks at the end of a line go.
    """
    ids = np.asarray(found["block_ids"])
    ids = ids[:, None] if ids.ndim == 1 else ids
    causal = "causal" if found["causal"] else "not causal"
    parts: list[Segment] = []
    for number, column in enumerate(ids.T, start=1):
        which = f" · part {number} of {ids.shape[1]}, from early layers to late ones" if ids.shape[1] > 1 else ""
        count = f"{len(ids)} tokens in {len(set(column))} blocks · {found['partitioner']} ({causal}){which}"
        parts += _coloured(found["text"], found["spans"], column.tolist())
        parts += [Segment.line(), Segment(visible(count), DIM), Segment.line()]
    return Segments(parts)


def _coloured(text: str, spans: Sequence[Sequence[int]], ids: Sequence[int]) -> Iterator[Segment]:
    order = {block: number for number, block in enumerate(dict.fromkeys(ids))}
    end, previous = 0, None
    for block, (_, stop) in zip(ids, spans, strict=True):
        if previous not in (None, block):
            yield Segment("│", DIM)
        yield Segment(visible(text[end : max(stop, end)]), SHADES[order[block] % len(SHADES)])
        end, previous = max(stop, end), block
