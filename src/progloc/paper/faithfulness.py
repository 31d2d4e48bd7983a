"""A faithfulness study: a suite's runs audited on the same passages, its tables, and what it says of claim C10.

The audits are made by `progloc audit RESULTS --study CORPUS`, which leaves them in the suite's folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from progloc.accounts.pictures import PICTURES
from progloc.accounts.schema import BASELINES, EFFECTS, OPERATORS
from progloc.accounts.verdict import VERDICTS
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_text
from progloc.paper.suite import Suite
from progloc.paper.verdicts import SIGNIFICANT, Finding, decide
from progloc.report.formats import ABSENT, counted, interval, layers_named, number, p_text, p_value, span
from progloc.report.statistics import Comparison, common_seeds, crossed, holm
from progloc.report.table import Column, Table, to_markdown

STUDY_FOLDER, STUDY_FILE = "audit-study", "study.json"
STUDY_VERSION = 2
"""Of the rule by which passages are drawn and audited; a study by another one answers nothing."""
IN_PLACE, CLOSED_UP = OPERATORS
"""The two ways to take a source away under which a picture has to hold."""
JUDGED = f"mass_no_sink, {IN_PLACE}"
"""The rank correlation that is judged: of mass without the sink with what removing a source costs."""
AIM = 0.7
"""What it has to be for localised late layers to be said to show what an output rested on."""
BEFORE = "before localising"
"""The name and the role of the model that all runs started from."""
_UNIT = (
    "Unit: passages × seeds of one base model, resampled independently (crossed bootstrap). Only passages with ten "
    "sources or more count, on which every model compared has a rank correlation."
)
Row = tuple[str, str]
"""A run's name and its blocks."""


@dataclass(frozen=True)
class StudiedRun:
    """The audits of one run."""

    name: str
    blocks: str
    seed: int
    role: str
    """"localised", "distributed" for λ=0, or `BEFORE`."""
    figures: Mapping[str, Sequence[Any]] = field(repr=False)
    """By name one value a passage, the same passages in the same order for all runs on the same blocks: verdicts, rank
    correlations by "picture, effect", and others; None where it has none."""

    @property
    def row(self) -> Row:
        """The row of the tables that it stands in, with its other seeds."""
        return self.name, self.blocks

    @property
    def label(self) -> str:
        """Its name with its blocks or, where it has one, its seed: a file's."""
        return f"{self.name}-{self.blocks}" if self.role == BEFORE else f"{self.name}-seed{self.seed}"

    def values(self, figure: str) -> np.ndarray:
        """Return a figure of every passage, (passages,); NaN where it has none."""
        return np.array([np.nan if value is None else value for value in self.figures.get(figure, ())], dtype=float)


@dataclass(frozen=True)
class RowTests:
    """How a localised row compares, with sources taken away in one way: everything over passages × seeds."""

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
    def resolved(self) -> bool:
        """Whether ρ differs from that of λ=0."""
        return self.p is not None and self.p < SIGNIFICANT

    @property
    def nearest(self) -> str:
        """The rival that leaves the least."""
        return min(self.to_rivals, key=lambda rival: self.to_rivals[rival].estimate.mean)

    @property
    def parts(self) -> list[bool | None]:
        """What of claim C10 holds; see the claim's docstring."""
        return [
            self.own.estimate.above(AIM),
            self.to_distributed.estimate.above(0) if self.resolved else None,
            *(other.estimate.above(0) for other in (self.to_before, *self.to_rivals.values())),
        ]


@dataclass(frozen=True)
class Study:
    """Every run of a suite, audited."""

    runs: tuple[StudiedRun, ...]
    layers: tuple[int, ...]
    about: dict[str, Any] = field(repr=False)
    """Suite, text, passages, and what made it."""

    @cached_property
    def rows(self) -> dict[Row, dict[int, StudiedRun]]:
        """The runs by name and blocks, then by seed, in planned order."""
        rows: dict[Row, dict[int, StudiedRun]] = {}
        for run in self.runs:
            rows.setdefault(run.row, {})[run.seed] = run
        return rows

    def row_of(self, role: str, blocks: str) -> Row | None:
        """Return the first row of a role on these blocks."""
        return next((run.row for run in self.runs if (run.role, run.blocks) == (role, blocks)), None)

    def cells(self, row: Row | None, figure: str) -> dict[int, np.ndarray]:
        """Return a figure by seed, each (passages,)."""
        return {seed: run.values(figure) for seed, run in self.rows.get(row, {}).items()} if row else {}

    def mean(self, row: Row | None, figure: str) -> float:
        """Return a figure's mean over the passages and seeds that have it; NaN where none has."""
        values = np.concatenate([np.empty(0), *self.cells(row, figure).values()])
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    def interval(self, row: Row, figure: str = JUDGED) -> Comparison:
        """Return a figure's mean with its interval over passages and seeds."""
        return crossed(_complete(self.cells(row, figure))[0])

    def difference(self, row: Row, other: Row | None, figure: str = JUDGED, of_other: str | None = None) -> Comparison:
        """Return how much more of a figure a row has than another on the same passages, seed by seed.

        Args:
            row: the one.
            other: the other, on the same blocks; of the model before localising there is one run for all seeds.
            figure: what is compared.
            of_other: what of the other it is compared with, where that is something else.
        """
        ours, theirs = self.cells(row, figure), self.cells(other, of_other or figure)
        if other is not None and other[0] == BEFORE:
            theirs = dict.fromkeys(ours, theirs[0])
        tables = _complete(ours, theirs)
        return crossed(tables[0] - tables[1])

    def counted(self, row: Row, figure: str = JUDGED) -> int:
        """Return on how many passages every seed of a row has a figure."""
        return int(_complete(self.cells(row, figure))[0].shape[1])

    @cached_property
    def tests(self) -> dict[str, dict[Row, RowTests]]:
        """By operator, the tests of every localised row that has λ=0 on its blocks."""
        localised = dict.fromkeys(run.row for run in self.runs if run.role == "localised")
        bases = {row: base for row in localised if (base := self.row_of("distributed", row[1])) is not None}
        to_distributed = {
            (operator, row): self.difference(row, base, f"mass_no_sink, {operator}")
            for operator in OPERATORS
            for row, base in bases.items()
        }
        adjusted = holm([comparison.p for comparison in to_distributed.values()])
        tests: dict[str, dict[Row, RowTests]] = {operator: {} for operator in OPERATORS}
        for ((operator, row), comparison), p in zip(to_distributed.items(), adjusted, strict=True):
            figure = f"mass_no_sink, {operator}"
            tests[operator][row] = RowTests(
                own=self.interval(row, figure),
                to_distributed=comparison,
                p=p,
                to_before=self.difference(row, self.row_of(BEFORE, row[1]), figure),
                to_rivals={rival: self.difference(row, row, figure, f"{rival}, {operator}") for rival in BASELINES},
            )
        return tests

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `study.json` has it."""
        return {**self.about, "layers": list(self.layers), "runs": [asdict(run) for run in self.runs]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Study:
        """Return the study that `to_dict` wrote."""
        about = {key: value for key, value in content.items() if key not in ("layers", "runs")}
        return cls(tuple(StudiedRun(**run) for run in content["runs"]), tuple(content["layers"]), about)


def _complete(*cells: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return figures as tables (cells, seeds, passages), of the seeds and passages that all of them have."""
    seeds = common_seeds(*cells)
    if not seeds:
        return np.empty((len(cells), 0, 0))
    tables = np.array([[by_seed[seed] for seed in seeds] for by_seed in cells])
    return tables[..., np.isfinite(tables).all((0, 1))]


def read_study(folder: Path) -> Study | None:
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


def _titled(row: Row) -> str:
    """Write a row's name with its blocks, once."""
    name, blocks = row
    return name if blocks in name else f"{name} on {blocks}"


def faithful(suite: Suite) -> Finding:
    """Return what claim C10 finds; the rule is the claim's docstring."""
    study = read_study(suite.folder)
    if study is None:
        reason = "It takes an audit of every run's model: progloc audit RESULTS_DIR --study CORPUS."
        return Finding("cannot tell from this run", "—", "—", reason)
    figures, intervals = [], []
    for row, tests in study.tests[IN_PLACE].items():
        base, before = (number(study.mean(study.row_of(role, row[1]), JUDGED), 2) for role in ("distributed", BEFORE))
        rival = number(study.mean(row, f"{tests.nearest}, {IN_PLACE}"), 2)
        figures.append(
            f"{_titled(row)} {number(tests.own.estimate.mean, 2)} (λ=0 {base}, before {before}, "
            f"{tests.nearest.replace('_', ' ')} {rival}), closed up "
            f"{number(study.tests[CLOSED_UP][row].own.estimate.mean, 2)}"
        )
        intervals.append(
            f"{_titled(row)} {span(tests.own.estimate, 2)}, to λ=0 {span(tests.to_distributed.estimate, 2)}, "
            f"{p_text(tests.p)}, to before {span(tests.to_before.estimate, 2)}, "
            f"{counted(study.counted(row), 'passage')} × {counted(tests.own.estimate.n, 'seed')}"
        )
    return Finding(
        decide([part for by_row in study.tests.values() for tests in by_row.values() for part in tests.parts]),
        f"rank correlation of mass (without the sink, {layers_named(study.layers)}) with what removing a source costs: "
        + "; ".join(figures),
        "; ".join(intervals),
        f"Over {counted(study.about['texts'], 'held-out passage')} of {study.about['corpus']}. Asked, under both ways "
        f"of removing: {AIM}, more than without a penalty and than before localising, and more than recency, the last "
        f"block and length have; every test and picture is in {STUDY_FOLDER}/tables.md.",
    )


_ROW = (Column("Architecture", text=True), Column("Blocks", text=True))


def _faithfulness(study: Study, operator: str) -> Table:
    """Return every row's ρ by one way of taking sources away, and what it is compared with."""
    figure = f"mass_no_sink, {operator}"
    rows = []
    for row in study.rows:
        tests, own = study.tests[operator].get(row), study.interval(row, figure).estimate
        compared = (ABSENT,) * 5
        if tests is not None:
            compared = (
                interval(tests.to_distributed.estimate, 3), p_value(tests.p), interval(tests.to_before.estimate, 3),
                tests.nearest.replace("_", " "), interval(tests.to_rivals[tests.nearest].estimate, 3),
            )  # fmt: skip
        rows.append((*row, str(study.counted(row, figure)), str(own.n), interval(own, 3), *compared))
    return Table(
        f"Is the picture true? Sources {'removed in place' if operator == IN_PLACE else 'closed up'}",
        f"{layers_named(study.layers).capitalize()}. ρ: Spearman's rank correlation, over the whole blocks before the "
        "answer (the same in every model), of a block's mass without the sink with what removing it costs the answer; "
        "means over passages and seeds. Differences are on the same passages and blocks, seed by seed. p: of the "
        "difference to λ=0, after Holm's correction over all rows and both ways of removing. Rival: of recency, the "
        f"last block and length, the one with the smallest difference. {_UNIT}",
        (
            *_ROW, Column("Passages"), Column("Seeds", detail=True), Column("ρ"), Column("ρ − λ=0's"), Column("p"),
            Column("ρ − before's"), Column("Rival", text=True, detail=True), Column("ρ − rival's"),
        ),
        tuple(rows),
        detail=operator != IN_PLACE,
    )  # fmt: skip


def _verdicts(study: Study) -> Table:
    """Return the verdicts by row, and the figures that go into them."""
    means = {"Sources": "sources", "Overlap": "overlap", "Sets beaten": "beaten", "On the answer": "answer_share",
             "On the sink": "sink_mass"}  # fmt: skip
    rows = []
    for row, runs in study.rows.items():
        counts = Counter(verdict for run in runs.values() for verdict in run.figures.get("verdict", ()))
        figures = (number(study.mean(row, name), 2) for name in means.values())
        rows.append((*row, *(str(counts[verdict]) for verdict in VERDICTS), *figures))
    return Table(
        "Verdicts, passage by passage",
        "Counts of verdicts over all passages and seeds, and means over the same: sources ranked; the overlap of "
        "picture and effects; the share of random sets beaten by the sources shown first; the share of the mass off "
        "the sink that was on the answer itself; mass on the sink. Nothing is tested here.",
        (*_ROW, *map(Column, (*VERDICTS, *means))),
        tuple(rows),
        detail=True,
    )


def _pictures(study: Study) -> Table:
    """Return the mean ρ of every picture and rival with every effect."""
    labels = {"mass": "m", "mass_no_sink": "m°", "value_mass": "value"}
    kinds = {f"{labels[picture]}, {effect}": f"{picture}, {effect}" for effect in EFFECTS for picture in PICTURES}
    kinds |= {f"{rival}, {operator}": f"{rival}, {operator}" for operator in OPERATORS for rival in BASELINES}
    return Table(
        "Other pictures, other tests",
        "ρ of three pictures (mass with the sink, without it, weighted by the norm of values) with four effects "
        "(removal in place; deletion, closed up; attention cut in these layers, renormalised; and not), and of three "
        "rivals that know nothing of the model. Means over passages and seeds, without a test.",
        (*_ROW, *(Column(label.replace("_", " ")) for label in kinds)),
        tuple((*row, *(number(study.mean(row, kind), 2) for kind in kinds.values())) for row in study.rows),
        detail=True,
    )


def study_tables(study: Study) -> list[Table]:
    """Return the study's tables, the one that answers the question first."""
    return [*(_faithfulness(study, operator) for operator in OPERATORS), _verdicts(study), _pictures(study)]


def conclusion(study: Study) -> str:
    """Return in plain words what the numbers say, and what they do not."""
    by_row = study.tests[IN_PLACE]
    differ = [row for row, tests in by_row.items() if tests.resolved]
    better = [row for row in differ if by_row[row].to_distributed.estimate.above(0.0)]
    worse = [row for row in differ if row not in better]
    above_before = [row for row, tests in by_row.items() if tests.to_before.estimate.above(0.0)]
    beating = [row for row, tests in by_row.items() if all(to.estimate.above(0.0) for to in tests.to_rivals.values())]
    reached = [row for row, tests in by_row.items() if tests.own.estimate.above(AIM)]

    def named(rows: list[Row]) -> str:
        return f"{len(rows)} ({', '.join(map(_titled, rows)) or 'none'})"

    seeds = max((len(study.rows[row]) for row in by_row), default=0)
    passages = max((study.counted(row) for row in by_row), default=0)
    return (
        f"Of {counted(len(by_row), 'localised row')} (at most {counted(passages, 'held-out passage')} × "
        f"{counted(seeds, 'seed')}), the picture is more faithful than at λ=0 in {named(better)}, less faithful in "
        f"{named(worse)} and undecided in {len(by_row) - len(differ)} (after Holm's correction). It is more faithful "
        f"than before localising in {named(above_before)}, and better than recency, the last block and length in "
        f"{named(beating)}. The whole interval of the rank correlation is above {AIM} in {named(reached)}."
    )


def write_study(study: Study, out: Path) -> list[Path]:
    """Write `tables.md` beside `study.json`, and return both paths."""
    page = out / "tables.md"
    write_text(page, "\n".join([*map(to_markdown, study_tables(study)), conclusion(study), ""]))
    return [out / STUDY_FILE, page]
