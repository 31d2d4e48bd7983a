"""The tables of a faithfulness study, and the plain conclusion that its numbers bear."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from progloc.accounts.pictures import PICTURES
from progloc.accounts.schema import BASELINES, EFFECTS
from progloc.accounts.verdict import VERDICTS
from progloc.files import write_text
from progloc.paper.faithfulness import (
    AIM,
    STUDY_FILE,
    STUDY_UNIT,
    WAYS,
    Row,
    Study,
    compared,
    titled,
)
from progloc.paper.verdicts import SIGNIFICANT
from progloc.report.formats import ABSENT, counted, interval, layers_named, number, p_value
from progloc.report.table import Column, Table, to_markdown

_MEANS = ("sources", "overlap", "beaten", "answer_share", "sink_mass")
_WAYS = {"removal": "removed in place", "deletion": "closed up"}


def _faithfulness(study: Study, way: str) -> Table:
    """Return every row's ρ by one way of taking sources away, and what it is compared with."""
    figure, to_base = f"mass_no_sink, {way}", compared(study, way)
    rows = []
    for row in study.rows:
        found = to_base.get(row)
        beside = (ABSENT,) * 5
        if found is not None:
            nearest = found.to_rivals[found.nearest].estimate
            beside = (
                interval(found.to_distributed.estimate, 3), p_value(found.p), interval(found.to_before.estimate, 3),
                found.nearest.replace("_", " "), interval(nearest, 3),
            )  # fmt: skip
        own = study.interval(row, figure).estimate
        rows.append((*row, str(study.counted(row, figure)), str(own.n), interval(own, 3), *beside))
    return Table(
        f"Is the picture true? Sources {_WAYS[way]}",
        f"{layers_named(study.layers).capitalize()}. ρ: Spearman's rank correlation, over the whole blocks before the "
        "answer (the same in every model), of a block's mass without the sink with what removing it costs the answer; "
        "means over passages and seeds. Differences are on the same passages and blocks, seed by seed. p: of the "
        "difference to λ=0, after Holm's correction over all rows and both ways of removing. Rival: of recency, the "
        f"last block and length, the one with the smallest difference. {STUDY_UNIT}",
        (
            Column("Architecture", text=True), Column("Blocks", text=True), Column("Passages"),
            Column("Seeds", detail=True), Column("ρ"), Column("ρ − λ=0's"), Column("p"), Column("ρ − before's"),
            Column("Rival", text=True, detail=True), Column("ρ − rival's"),
        ),
        tuple(rows),
        detail=way != WAYS[0],
    )  # fmt: skip


def _verdicts(study: Study) -> Table:
    """Return the verdicts by row, and the figures that go into them."""
    rows = []
    for row, runs in study.rows.items():
        verdicts = Counter(verdict for run in runs.values() for verdict in run.figures.get("verdict", ()))
        rows.append((
            *row, *(str(verdicts[each]) for each in VERDICTS),
            *(number(study.mean(row, name), 2) for name in _MEANS),
        ))  # fmt: skip
    return Table(
        "Verdicts, passage by passage",
        "Counts of verdicts over all passages and seeds, and means over the same: sources ranked; the overlap of "
        "picture and effects; the share of random sets beaten by the sources shown first; the share of the mass off "
        "the sink that was on the answer itself; mass on the sink. Nothing is tested here.",
        (
            Column("Architecture", text=True), Column("Blocks", text=True), *map(Column, VERDICTS), Column("Sources"),
            Column("Overlap"), Column("Sets beaten"), Column("On the answer"), Column("On the sink"),
        ),
        tuple(rows),
        detail=True,
    )  # fmt: skip


def _pictures(study: Study) -> Table:
    """Return the mean ρ of every picture and rival with every effect."""
    kinds = [(picture, effect) for effect in EFFECTS for picture in PICTURES]
    kinds += [(picture, effect) for effect in WAYS for picture in BASELINES]
    rows = tuple((*row, *(number(study.mean(row, ", ".join(kind)), 2) for kind in kinds)) for row in study.rows)
    labels = {"mass": "m", "mass_no_sink": "m°", "value_mass": "value"}
    return Table(
        "Other pictures, other tests",
        "ρ of three pictures (mass with the sink, without it, weighted by the norm of values) with four effects "
        "(removal in place; deletion, closed up; attention cut in these layers, renormalised; and not), and of three "
        "rivals that know nothing of the model. Means over passages and seeds, without a test.",
        (
            Column("Architecture", text=True),
            Column("Blocks", text=True),
            *(Column(f"{labels.get(picture, picture)}, {effect}".replace("_", " ")) for picture, effect in kinds),
        ),
        rows,
        detail=True,
    )


def study_tables(study: Study) -> list[Table]:
    """Return the study's tables, the one that answers the question first."""
    return [*(_faithfulness(study, way) for way in WAYS), _verdicts(study), _pictures(study)]


def conclusion(study: Study) -> str:
    """Return in plain words what the numbers say, and what they do not."""
    found = compared(study)
    told = {row: each for row, each in found.items() if each.p is not None and each.p < SIGNIFICANT}
    better = [row for row, each in told.items() if each.to_distributed.estimate.above(0.0)]
    worse = [row for row in told if row not in better]
    above_before = [row for row, each in found.items() if each.to_before.estimate.above(0.0)]
    beating = [row for row, each in found.items() if all(to.estimate.above(0.0) for to in each.to_rivals.values())]
    reached = [row for row, each in found.items() if each.own.estimate.above(AIM)]

    def named(rows: list[Row]) -> str:
        return f"{len(rows)} ({', '.join(map(titled, rows)) or 'none'})"

    localised = [runs for row, runs in study.rows.items() if row in found]
    seeds = max((len(runs) for runs in localised), default=0)
    passages = max((study.counted(row) for row in found), default=0)
    return (
        f"Of {counted(len(found), 'localised row')} (at most {counted(passages, 'held-out passage')} × "
        f"{counted(seeds, 'seed')}), the picture is more faithful than at λ=0 in {named(better)}, less faithful in "
        f"{named(worse)} and undecided in {len(found) - len(told)} (after Holm's correction). It is more faithful than "
        f"before localising in {named(above_before)}, and better than recency, the last block and length in "
        f"{named(beating)}. The whole interval of the rank correlation is above {AIM} in {named(reached)}."
    )


def write_study(study: Study, out: Path) -> list[Path]:
    """Write `tables.md` beside `study.json`, and return both paths."""
    page = out / "tables.md"
    write_text(page, "\n".join([*map(to_markdown, study_tables(study)), conclusion(study), ""]))
    return [out / STUDY_FILE, page]
