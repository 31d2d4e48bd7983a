"""A suite's runs, audited on the same passages: what that came to, and what it says of claim C10.

The audits are made by `progloc audit RESULTS --study CORPUS`, which leaves them in the suite's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from progloc.errors import ProglocError
from progloc.files import read_mapping
from progloc.paper.suite import Suite
from progloc.paper.verdicts import SIGNIFICANT, Finding, decide
from progloc.report.formats import layers_named, number, p_text, span
from progloc.report.statistics import Comparison, common_seeds, crossed, holm

STUDY_FOLDER, STUDY_FILE = "audit-study", "study.json"
STUDY_VERSION = 2
"""Of the rule by which passages are drawn and audited; a study by another one answers nothing."""
WAYS = ("removal", "deletion")
"""The two ways to take a source away under which a picture has to hold: positions kept, and closed up."""
JUDGED = f"mass_no_sink, {WAYS[0]}"
"""The rank correlation that is judged: of mass without the sink with what removing a source costs."""
RIVALS = ("recency", "last_block", "length")
"""Pictures that know nothing of the model, which one has to beat."""
AIM = 0.7
"""What it has to be for localised late layers to be said to show what an output rested on."""
BEFORE = "before localising"
"""The name and the role of the model that all runs started from."""
STUDY_UNIT = (
    "Unit: passages × seeds of one base model, resampled independently (crossed bootstrap). Only passages with ten "
    "sources or more count, on which every model compared has a rank correlation."
)
"""What was drawn, and so what an interval or a p is over."""
Row = tuple[str, str]
"""A run's name and its blocks."""


@dataclass(frozen=True)
class StudiedRun:
    """What the audits of one run came to."""

    name: str
    blocks: str
    seed: int
    role: str
    """"localised", "distributed" for λ=0, or `BEFORE`."""
    figures: Mapping[str, Sequence[Any]] = field(repr=False)
    """By name one value a passage, the same passages in the same order for all runs on the same blocks: verdicts, rank
    correlations by "picture, effect", and others; None where it has none."""

    @property
    def named(self) -> str:
        """Its name with its blocks and, where it has one, its seed: a file's."""
        return f"{self.name}-{self.blocks}" if self.role == BEFORE else f"{self.name}-seed{self.seed}"

    def values(self, figure: str) -> np.ndarray:
        """Return a figure of every passage, (passages,); NaN where it has none."""
        return np.array([np.nan if value is None else value for value in self.figures.get(figure, ())], dtype=float)

    def mean(self, figure: str) -> float:
        """Return a figure's mean over the passages that have it; NaN where none has."""
        values = [value for value in self.values(figure).tolist() if value == value]
        return fmean(values) if values else float("nan")


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

    def of_role(self, role: str, blocks: str | None = None) -> list[Row]:
        """Return the rows of a role, of these blocks alone where they are given."""
        return [
            row
            for row, runs in self.rows.items()
            if next(iter(runs.values())).role == role and blocks in (None, row[1])
        ]

    def cells(self, row: Row, figure: str) -> dict[int, np.ndarray]:
        """Return a figure by seed, each (passages,)."""
        return {seed: run.values(figure) for seed, run in self.rows[row].items()}

    def mean(self, row: Row, figure: str) -> float:
        """Return a figure's mean over the passages and seeds that have it; NaN where none has."""
        values = np.concatenate(list(self.cells(row, figure).values()))
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")

    def interval(self, row: Row, figure: str = JUDGED) -> Comparison:
        """Return a figure's mean with its interval over passages and seeds."""
        return crossed(_whole(self.cells(row, figure))[0])

    def difference(self, row: Row, other: Row, figure: str = JUDGED, of_other: str | None = None) -> Comparison:
        """Return how much more of a figure a row has than another on the same passages, seed by seed.

        Args:
            row: the one.
            other: the other, on the same blocks; of the model before localising there is one run for all seeds.
            figure: what is compared.
            of_other: what of the other it is compared with, where that is something else.
        """
        ours, theirs = self.cells(row, figure), self.cells(other, of_other or figure)
        if other in self.of_role(BEFORE):
            theirs = dict.fromkeys(ours, next(iter(theirs.values())))
        tables = _whole(ours, theirs)
        return crossed(tables[0] - tables[1])

    def counted(self, row: Row, figure: str = JUDGED) -> int:
        """Return on how many passages every seed of a row has a figure."""
        return int(_whole(self.cells(row, figure))[0].shape[1])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `study.json` has it."""
        return {**self.about, "layers": list(self.layers), "runs": [asdict(run) for run in self.runs]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Study:
        """Return the study that `to_dict` wrote."""
        about = {key: value for key, value in content.items() if key not in ("layers", "runs")}
        return cls(tuple(StudiedRun(**run) for run in content["runs"]), tuple(content["layers"]), about)


def _whole(*cells: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """Return figures as tables (seeds, passages) of the seeds that all have and the passages on which all are known."""
    seeds = common_seeds(*cells)
    tables = [np.array([each[seed] for seed in seeds]).reshape(len(seeds), -1) for each in cells]
    known = np.isfinite(np.concatenate(tables)).all(0) if seeds else np.zeros(0, dtype=bool)
    return [table[:, known] if seeds else table for table in tables]


def found_in(folder: Path) -> Study | None:
    """Return the study in a suite's folder; None where none was made by the rule that holds now.

    Raises:
        ProglocError: what is there is damaged.
    """
    path = folder / STUDY_FOLDER / STUDY_FILE
    if not path.exists():
        return None
    try:
        content = read_mapping(path)
        return Study.from_dict(content) if content.get("version", 1) == STUDY_VERSION else None
    except (KeyError, TypeError) as error:
        raise ProglocError(
            f"{path} is damaged; delete it and run progloc audit {folder} --study CORPUS, which keeps what is done"
        ) from error


@dataclass(frozen=True)
class Tested:
    """A localised row, by one way of taking sources away: everything over passages × seeds."""

    own: Comparison
    """ρ itself."""
    to_distributed: Comparison
    """ρ − that of λ=0 on the same blocks, seed by seed."""
    p: float | None
    """Its p after Holm's correction over all rows and both ways."""
    to_before: Comparison
    """ρ − that of the model before localising."""
    to_rivals: Mapping[str, Comparison]
    """ρ − that of each picture that knows nothing of the model, in the same runs."""

    @property
    def nearest(self) -> str:
        """The rival that leaves the least."""
        return min(self.to_rivals, key=lambda rival: self.to_rivals[rival].estimate.mean)


def compared(study: Study, way: str = WAYS[0]) -> dict[Row, Tested]:
    """Return every localised row that has λ=0 beside it, by one way of taking sources away."""
    pairs = [(row, base) for row in study.of_role("localised") for base in study.of_role("distributed", row[1])[:1]]
    every = {(row, each): study.difference(row, base, f"mass_no_sink, {each}") for row, base in pairs for each in WAYS}
    adjusted = dict(zip(every, holm([found.p for found in every.values()]), strict=True))
    figure = f"mass_no_sink, {way}"
    return {
        row: Tested(
            own=study.interval(row, figure),
            to_distributed=every[row, way],
            p=adjusted[row, way],
            to_before=study.difference(row, study.of_role(BEFORE, row[1])[0], figure),
            to_rivals={rival: study.difference(row, row, figure, f"{rival}, {way}") for rival in RIVALS},
        )
        for row, _ in pairs
    }


def titled(row: Row) -> str:
    """Write a row's name with its blocks, once."""
    name, blocks = row
    return name if blocks in name else f"{name} on {blocks}"


def _parts(found: Tested) -> list[bool | None]:
    """Return what of the claim holds for a row; see the claim's docstring."""
    resolved = found.p is not None and found.p < SIGNIFICANT
    return [
        found.own.estimate.above(AIM),
        found.to_distributed.estimate.above(0) if resolved else None,
        found.to_before.estimate.above(0),
        *(each.estimate.above(0) for each in found.to_rivals.values()),
    ]


def faithful(suite: Suite) -> Finding:
    """Return what claim C10 finds; the rule is the claim's docstring."""
    study = found_in(suite.folder)
    if study is None:
        reason = "It takes an audit of every run's model: progloc audit RESULTS_DIR --study CORPUS."
        return Finding("cannot tell from this run", "—", "—", reason)
    by_way = {way: compared(study, way) for way in WAYS}
    figures, intervals = [], []
    for row, found in by_way[WAYS[0]].items():
        base, before = (study.of_role(role, row[1])[0] for role in ("distributed", BEFORE))
        closed = by_way[WAYS[1]][row]
        rival = number(study.mean(row, f"{found.nearest}, {WAYS[0]}"), 2)
        figures.append(
            f"{titled(row)} {number(found.own.estimate.mean, 2)} (λ=0 {number(study.mean(base, JUDGED), 2)}, before "
            f"{number(study.mean(before, JUDGED), 2)}, {found.nearest.replace('_', ' ')} {rival}), closed up "
            f"{number(closed.own.estimate.mean, 2)}"
        )
        intervals.append(
            f"{titled(row)} {span(found.own.estimate, 2)}, to λ=0 {span(found.to_distributed.estimate, 2)}, "
            f"{p_text(found.p)}, to before {span(found.to_before.estimate, 2)}, {study.counted(row)} passages × "
            f"{found.own.estimate.n} seeds"
        )
    return Finding(
        decide([part for each in by_way.values() for found in each.values() for part in _parts(found)]),
        f"rank correlation of mass (without the sink, {layers_named(study.layers)}) with what removing a source costs: "
        + "; ".join(figures),
        "; ".join(intervals),
        f"Over {study.about['texts']} held-out passages of {study.about['corpus']}. Asked, under both ways of "
        f"removing: {AIM}, more than without a penalty and than before localising, and more than recency, the last "
        "block and "
        f"length have; every test and picture is in {STUDY_FOLDER}/tables.md.",
    )
