"""From a suite's folder to what a person reads: `results.csv`, `tables.md`, `figures/`, `report.html`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from progloc.errors import ProglocError
from progloc.files import write_text
from progloc.paper import published
from progloc.paper.claims import LOCALISED, answers
from progloc.paper.comparisons import at_the_end, gap, measured
from progloc.paper.figures import Drawing, drawings
from progloc.paper.provenance import made_by, settings
from progloc.paper.suite import Suite, load_suite, write_csv
from progloc.paper.tables import reading, suite_tables, tables_markdown
from progloc.paper.verdicts import Answer
from progloc.report.formats import counted, interval, number
from progloc.report.statistics import mean_interval
from progloc.report.templating import templates


def summary(suite: Suite, claims: list[Answer] | None = None) -> str:
    """Return one paragraph on what was run and what came out, with a count of the claims if they are given."""
    seeds = len({run.seed for run in suite.runs})
    verdicts = [answer.verdict for answer in claims or ()]
    sentences = [
        f"{suite.plan.get('model', 'A model')} was fine-tuned on {suite.plan.get('corpus', 'a corpus')}: "
        f"{counted(len(suite.architectures), 'architecture')}, {counted(seeds, 'seed')}.",
        *_without_a_penalty(suite),
        *_price(suite),
        *_locality(suite),
        *_on_other_blocks(suite),
    ]
    if claims:
        sentences.append(
            f"Of the paper's {counted(len(claims), 'claim')}, this suite supports {verdicts.count('supported')}, does "
            f"not support {verdicts.count('not supported')} and cannot decide "
            f"{verdicts.count('cannot tell from this run')}."
        )
    if seeds == 1:
        sentences.append("One seed gives no interval, so every comparison here is only an observation.")
    if suite.missing:
        sentences.append(f"Of {len(suite.missing) + len(suite.runs)} planned runs, {len(suite.missing)} are missing.")
    return " ".join(sentences)


def _ends(means: dict[str, float]) -> tuple[str, str]:
    """Return the names of the lowest and of the highest mean."""
    return min(means, key=means.__getitem__), max(means, key=means.__getitem__)


def _without_a_penalty(suite: Suite) -> Iterator[str]:
    if suite.distributed is None:
        return
    perplexity = mean_interval(suite.values(suite.distributed, measured("perplexity")).values())
    before = suite.runs[0].before["perplexity"]
    yield (f"Without a penalty (λ=0) perplexity is {interval(perplexity, 2)}, before fine-tuning {number(before, 2)}.")
    if perplexity.mean > before:
        yield "Fine-tuning itself made the model worse, so compare only fine-tuned runs."


def _price(suite: Suite) -> Iterator[str]:
    gaps = {name: estimate.mean for name in suite.localised if (estimate := gap(suite, name).estimate).n}
    if not gaps:
        return
    low, high = _ends(gaps)
    last = {name: gap(suite, name, perplexity=at_the_end("perplexity")).estimate.mean for name in (low, high)}
    end = f"at the last epoch it is {number(last[low], 3)}×"
    if low == high:
        yield f"With a penalty perplexity is {number(gaps[low], 3)}× that of λ=0 ({low}); {end}."
    else:
        yield (
            f"With a penalty perplexity is {number(gaps[low], 3)}× ({low}) to {number(gaps[high], 3)}× ({high}) that "
            f"of λ=0; {end} and {number(last[high], 3)}×."
        )


def _locality(suite: Suite) -> Iterator[str]:
    local = measured("fidelity_no_sink")
    means = {name: mean_interval(suite.values(name, local).values()).mean for name in suite.architectures}
    if not means:
        return
    low, high = _ends(means)
    chance = number(suite.runs[0].measure("chance_fidelity_no_sink"), 3)
    yield (
        f"The share of attention within the token's own block, without the sink, is {number(means[low], 3)} ({low}) to "
        f"{number(means[high], 3)} ({high}); chance is {chance}."
    )
    if suite.distributed is not None and means[high] - means[suite.distributed] < LOCALISED:
        yield "That is hardly more than at λ=0, so these runs say little about locality."


def _on_other_blocks(suite: Suite) -> Iterator[str]:
    """Say what the schedule that costs most costs on each partitioner's blocks; nothing with one partitioner."""
    gaps = {run.name: gap(suite, run.name).estimate.mean for run in suite.compared if not run.is_distributed}
    dearest = max((name for name in suite.localised if name in gaps), key=gaps.__getitem__, default=None)
    if dearest is None or len(suite.partitioners) < 2:
        return
    schedule = suite.one(dearest).schedule
    by_blocks = {suite.one(name).blocks: mean for name, mean in gaps.items() if suite.one(name).schedule == schedule}
    costs = ", ".join(f"{number(mean, 3)}× on {blocks}" for blocks, mean in by_blocks.items())
    yield (
        f"All of this is on blocks {suite.partitioners[0]}. By blocks, {schedule} costs {costs}: larger blocks cost "
        "less, whatever they are made of (C8)."
    )


def _write_figures(folder: Path, pictures: list[Drawing]) -> None:
    """Replace `figures/` by these pictures: written beside it, then renamed."""
    part = Path(tempfile.mkdtemp(prefix=".figures.", dir=folder))
    try:
        part.chmod(0o755)  # mkdtemp's own is 0700
        for picture in pictures:
            (part / f"{picture.name}.png").write_bytes(picture.png)
        shutil.rmtree(folder / "figures", ignore_errors=True)
        part.rename(folder / "figures")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_report(folder: Path) -> Suite:
    """Write a suite's `results.csv`, `tables.md`, `figures/` and `report.html` from its finished runs.

    Args:
        folder: the suite's, with `suite.json` and `runs/`.

    Returns:
        The suite that was read.

    Raises:
        ProglocError: no suite is there, no run of it is finished, or a file is damaged.
    """
    suite = load_suite(folder)
    if not suite.runs:
        raise ProglocError(f"{folder} has no finished run yet; run 'progloc reproduce' until one is")
    pictures = drawings(suite)
    claims = answers(suite)
    page = (
        templates("progloc.paper")
        .get_template("report.html.j2")
        .render(
            suite=suite,
            summary=summary(suite, claims),
            answers=claims,
            reading=reading(suite),
            tables=suite_tables(suite),
            pictures=pictures,
            made_by=made_by(suite),
            settings=settings(suite),
            contradictions=published.CONTRADICTIONS,
            source=published.SOURCE,
        )
    )
    write_csv(suite, folder / "results.csv")
    write_text(folder / "tables.md", tables_markdown(suite))
    _write_figures(folder, pictures)
    write_text(folder / "report.html", page)
    return suite
