"""A suite's runs, audited on the same passages: what that came to, and what it says of claim C10.

The audits are made by `progloc audit RESULTS --study CORPUS`, which leaves them in the suite's folder.
"""

from __future__ import annotations

__all__ = [
    "AIM",
    "JUDGED",
    "STUDY_FILE",
    "STUDY_FOLDER",
    "Row",
    "StudiedRun",
    "Study",
    "compared",
    "faithful",
    "found_in",
    "titled",
]

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from progloc.errors import ProglocError
from progloc.files import read_mapping
from progloc.suite.rendering import layers_named, number, p_text, span
from progloc.suite.results import Suite
from progloc.suite.statistics import Comparison, Values, holm, mean_interval, paired_difference
from progloc.suite.verdicts import SIGNIFICANT, Finding, decide, seeds_text

STUDY_FOLDER, STUDY_FILE = "audit-study", "study.json"
JUDGED = "mass_no_sink, deletion"
"""The rank correlation that is judged: of mass without the sink with the effect of deletion."""
AIM = 0.7
"""What it has to be for localised late layers to be said to show what an output rested on."""
Row = tuple[str, str]
"""A run's name and its blocks."""


@dataclass(frozen=True)
class StudiedRun:
    """What the audits of one run came to."""

    name: str
    blocks: str
    seed: int
    distributed: bool
    passages: tuple[Mapping[str, Any], ...] = field(repr=False)
    """For each passage its verdict, its rank correlations by "picture, effect", and the other figures."""

    def mean(self, figure: str) -> float:
        """Return a figure's mean over the passages that have it; NaN where none has."""
        found = [value for each in self.passages if (value := each.get(figure)) is not None]
        return fmean(found) if found else float("nan")

    def verdicts(self) -> list[str]:
        """Return the verdict on each passage."""
        return [each["verdict"] for each in self.passages]


@dataclass(frozen=True)
class Study:
    """Every run of a suite, audited."""

    runs: tuple[StudiedRun, ...]
    layers: tuple[int, ...]
    about: dict[str, Any] = field(repr=False)
    """Suite, text, passages, and what made it."""

    @property
    def rows(self) -> dict[Row, dict[int, StudiedRun]]:
        """The runs by name and blocks, then by seed, in planned order."""
        found: dict[Row, dict[int, StudiedRun]] = {}
        for run in self.runs:
            found.setdefault((run.name, run.blocks), {})[run.seed] = run
        return found

    def values(self, row: Row, figure: str) -> Values:
        """Return a figure of a row by seed, the mean over passages; seeds that have none are left out."""
        return {seed: value for seed, run in self.rows[row].items() if (value := run.mean(figure)) == value}

    def beside(self, blocks: str, figure: str) -> Values:
        """Return a figure of λ=0 on these blocks by seed; nothing where there is no such run."""
        rows = [row for row, runs in self.rows.items() if row[1] == blocks and next(iter(runs.values())).distributed]
        return self.values(rows[0], figure) if rows else {}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `study.json` has it."""
        return {**self.about, "layers": list(self.layers), "runs": [asdict(run) for run in self.runs]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Study:
        """Return the study that `to_dict` wrote."""
        about = {key: value for key, value in content.items() if key not in ("layers", "runs")}
        runs = tuple(StudiedRun(**{**run, "passages": tuple(run["passages"])}) for run in content["runs"])
        return cls(runs, tuple(content["layers"]), about)


def found_in(folder: Path) -> Study | None:
    """Return the study in a suite's folder; None where none was made.

    Raises:
        ProglocError: what is there is damaged.
    """
    path = folder / STUDY_FOLDER / STUDY_FILE
    if not path.exists():
        return None
    try:
        return Study.from_dict(read_mapping(path))
    except (KeyError, TypeError) as error:
        raise ProglocError(
            f"{path} is damaged; delete it and run progloc audit {folder} --study CORPUS, which keeps what is done"
        ) from error


def compared(study: Study) -> dict[Row, tuple[Comparison, float | None]]:
    """Return every localised row's difference in ρ to λ=0 on the same blocks, and its p after Holm over the rows."""
    rows = [row for row, runs in study.rows.items() if not next(iter(runs.values())).distributed]
    found = {row: paired_difference(study.values(row, JUDGED), study.beside(row[1], JUDGED)) for row in rows}
    return dict(zip(found, zip(found.values(), holm([each.p for each in found.values()]), strict=True), strict=True))


def titled(row: Row) -> str:
    """Write a row's name with its blocks, once."""
    name, blocks = row
    return name if blocks in name else f"{name} on {blocks}"


def faithful(suite: Suite) -> Finding:
    """Return what claim C10 finds; the rule is the claim's docstring."""
    study = found_in(suite.folder)
    if study is None:
        reason = "It takes an audit of every run's model: progloc audit RESULTS_DIR --study CORPUS."
        return Finding("cannot tell from this run", "—", "—", reason)
    parts: list[bool | None] = []
    figures, intervals = [], []
    differences = compared(study)
    for row, (difference, p) in differences.items():
        own = mean_interval(study.values(row, JUDGED).values())
        parts += [own.above(AIM), difference.estimate.above(0) if p is not None and p < SIGNIFICANT else None]
        before = number(mean_interval(study.beside(row[1], JUDGED).values()).mean, 2)
        figures.append(f"{titled(row)} {number(own.mean, 2)} (λ=0 {before})")
        intervals.append(f"{titled(row)} {span(own, 2)}, to λ=0 {span(difference.estimate, 2)}, {p_text(p)}")
    seeds = min(difference.estimate.n for difference, _ in differences.values())
    return Finding(
        decide(parts),
        f"rank correlation of mass (without the sink, {layers_named(study.layers)}) with what deletion costs: "
        + "; ".join(figures),
        f"{'; '.join(intervals)}; {seeds_text(seeds)}",
        f"Over {study.about['texts']} passages of {study.about['corpus']}. Asked: {AIM}, and more than without a "
        f"penalty; every test and picture is in {STUDY_FOLDER}/tables.md.",
    )
