"""From a suite's folder to what a person reads: `results.csv`, `tables.md`, `figures/`, `report.html`."""

from __future__ import annotations

__all__ = ["summary", "write_report"]

import shutil
import tempfile
from pathlib import Path

from progloc.errors import ProglocError
from progloc.files import write_text
from progloc.paper import published
from progloc.paper.claims import LOCALISED, answers
from progloc.paper.comparisons import at_the_end, gap, measured
from progloc.paper.figures import Drawing, drawings
from progloc.paper.provenance import made_by, settings
from progloc.paper.results import Suite, load_suite, write_csv
from progloc.paper.tables import reading, suite_tables, tables_markdown
from progloc.paper.verdicts import Answer
from progloc.report.formats import counted, interval, number
from progloc.report.statistics import mean_interval
from progloc.report.templating import templates


def summary(suite: Suite, found: list[Answer]) -> str:
    """Say in one paragraph what was run and what came out."""
    names, seeds = suite.architectures, len({run.seed for run in suite.runs})
    said = [
        f"{suite.plan.get('model', 'A model')} was fine-tuned on {suite.plan.get('corpus', 'a corpus')} in "
        f"{counted(len(names), 'architecture')} with {counted(seeds, 'seed')}."
    ]
    if suite.distributed is not None:
        perplexity = mean_interval(suite.values(suite.distributed, measured("perplexity")).values())
        before = suite.runs[0].before["perplexity"]
        said.append(
            f"Without a penalty (λ=0) perplexity is {interval(perplexity, 2)}; before fine-tuning it was "
            f"{number(before, 2)}."
        )
        if perplexity.mean > before:
            said.append(
                "Fine-tuning itself made this model worse: only ratios between fine-tuned runs say what locality costs."
            )
    gaps = {name: estimate.mean for name in suite.localised if (estimate := gap(suite, name).estimate).n}
    if gaps:
        low, high = min(gaps, key=lambda name: gaps[name]), max(gaps, key=lambda name: gaps[name])
        spread = f"between {number(gaps[low], 3)}× ({low}) and {number(gaps[high], 3)}× ({high}) that of λ=0"
        last = {name: gap(suite, name, perplexity=at_the_end("perplexity")).estimate.mean for name in (low, high)}
        said.append(
            f"With a penalty perplexity is {spread if low != high else f'{number(gaps[low], 3)}× that of λ=0 ({low})'}."
        )
        also = f" and {high} {number(last[high], 3)}×" if low != high else ""
        said.append(f"At the last epoch, whichever checkpoint was kept, {low} has {number(last[low], 3)}×{also}.")
    if names:
        local = {name: mean_interval(suite.values(name, measured("fidelity_no_sink")).values()).mean for name in names}
        low, high = min(local, key=lambda name: local[name]), max(local, key=lambda name: local[name])
        chance = number(suite.runs[0].measure("chance_fidelity_no_sink"), 3)
        said.append(
            f"Of the attention that is not on the sink, the share within the token's own block goes from "
            f"{number(local[low], 3)} ({low}) to {number(local[high], 3)} ({high}); chance is {chance}."
        )
        if suite.distributed is not None and local[high] - local[suite.distributed] < LOCALISED:
            said.append("That is hardly more than at λ=0: these runs localised little and say little about locality.")
    said += _on_other_blocks(suite)
    verdicts = [answer.verdict for answer in found]
    said.append(
        f"Of {counted(len(found), 'claim')} of the paper {verdicts.count('supported')} are supported, "
        f"{verdicts.count('not supported')} are not, and {verdicts.count('cannot tell from this run')} cannot be told "
        "from this run."
    )
    if seeds == 1:
        said.append("One seed gives no interval: no comparison here is more than an observation.")
    if suite.missing:
        said.append(f"Of {len(suite.missing) + len(suite.runs)} planned runs, {len(suite.missing)} are missing.")
    return " ".join(said)


def _on_other_blocks(suite: Suite) -> list[str]:
    """Say what the schedule that costs most costs on each partitioner's blocks; nothing with one partitioner."""
    gaps = {run.name: gap(suite, run.name).estimate for run in suite.compared if any(run.lambdas)}
    dearest = max((name for name in suite.localised if name in gaps), key=lambda name: gaps[name].mean, default=None)
    if dearest is None or len(suite.partitioners) < 2:
        return []
    schedule = suite.one(dearest).schedule
    blocks = {suite.one(name).blocks: each for name, each in gaps.items() if suite.one(name).schedule == schedule}
    costs = ", ".join(f"{number(each.mean, 3)}× on {name}" for name, each in blocks.items())
    return [
        f"All of this is of {suite.partitioners[0]}; by blocks, {schedule} costs {costs}: larger blocks less, whatever "
        "they are made of (C8)."
    ]


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


def _page(suite: Suite, pictures: list[Drawing]) -> str:
    template = templates("progloc.paper").get_template("report.html.j2")
    found = answers(suite)
    return template.render(
        suite=suite,
        summary=summary(suite, found),
        answers=found,
        reading=reading(suite),
        tables=suite_tables(suite),
        pictures=pictures,
        made_by=made_by(suite),
        settings=settings(suite),
        contradictions=published.CONTRADICTIONS,
        source=published.SOURCE,
    )


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
    page = _page(suite, pictures)
    write_csv(suite, folder / "results.csv")
    write_text(folder / "tables.md", tables_markdown(suite))
    _write_figures(folder, pictures)
    write_text(folder / "report.html", page)
    return suite
