"""The tables of a faithfulness study, and the plain conclusion that its numbers bear."""

from __future__ import annotations

__all__ = ["conclusion", "study_tables", "write_study"]

from collections import Counter
from pathlib import Path

from progloc.auditing.report import PICTURES
from progloc.auditing.verdict import VERDICTS
from progloc.files import write_text
from progloc.suite.faithfulness import AIM, JUDGED, STUDY_FILE, Row, Study, compared, titled
from progloc.suite.rendering import ABSENT, Column, Table, counted, interval, layers_named, number, p_value, to_markdown
from progloc.suite.statistics import mean_interval
from progloc.suite.verdicts import SIGNIFICANT


def _above(study: Study, row: Row) -> str:
    own, base = study.values(row, JUDGED), study.beside(row[1], JUDGED)
    seeds = [seed for seed in own if seed in base]
    return f"{sum(own[seed] > base[seed] for seed in seeds)} of {len(seeds)}" if seeds else ABSENT


def _faithfulness(study: Study) -> Table:
    to_base = compared(study)
    rows = []
    for row, runs in study.rows.items():
        difference, p = to_base.get(row, (None, None))
        verdicts = Counter(each for run in runs.values() for each in run.verdicts())
        rows.append(
            (
                *row,
                interval(mean_interval(study.values(row, JUDGED).values()), 3),
                ABSENT if difference is None else interval(difference.estimate, 3),
                ABSENT if difference is None else p_value(p),
                ABSENT if difference is None else _above(study, row),
                *(interval(mean_interval(study.values(row, name).values()), 3) for name in ("overlap", "beaten")),
                " / ".join(str(verdicts[each]) for each in VERDICTS),
            )
        )
    return Table(
        "Is the picture true?",
        f"{layers_named(study.layers).capitalize()}. ρ: Spearman's, of blocks' mass without the sink with the effect "
        "of deleting them, the mean over passages; means over seeds with 95% t-intervals. To λ=0: paired by seed, on "
        "the same blocks; p after Holm. Overlap: the share of the picture that is where the effects are. Random sets "
        f"beaten: by the blocks shown first. Verdicts: {' / '.join(VERDICTS)}, over passages and seeds.",
        (
            Column("Architecture", text=True), Column("Blocks", text=True), Column("ρ"), Column("ρ − λ=0's"),
            Column("p"), Column("seeds above λ=0"), Column("Overlap", detail=True),
            Column("Random sets beaten", detail=True), Column("Verdicts", text=True),
        ),
        tuple(rows),
    )  # fmt: skip


def _pictures(study: Study) -> Table:
    kinds = [(picture, effect) for effect in ("deletion", "knockout", "knockout_raw") for picture in PICTURES]
    rows = tuple(
        (*row, *(number(mean_interval(study.values(row, ", ".join(kind)).values()).mean, 2) for kind in kinds))
        for row in study.rows
    )
    labels = {"mass": "m", "mass_no_sink": "m°", "value_mass": "value"}
    effects = {"deletion": "deletion", "knockout": "knockout", "knockout_raw": "knockout, raw"}
    return Table(
        "Other pictures, other tests",
        "ρ of three pictures (mass with the sink, without it, weighted by the norm of values) with three effects "
        "(deletion; attention cut in these layers, renormalised; and not). Means over passages and seeds.",
        (
            Column("Architecture", text=True),
            Column("Blocks", text=True),
            *(Column(f"{labels[picture]}, {effects[effect]}") for picture, effect in kinds),
        ),
        rows,
        detail=True,
    )


def study_tables(study: Study) -> list[Table]:
    """Return the study's tables, the one that answers the question first."""
    return [_faithfulness(study), _pictures(study)]


def conclusion(study: Study) -> str:
    """Return in plain words what the numbers say, and what they do not."""
    to_base = compared(study)
    told = {row: each for row, (each, p) in to_base.items() if p is not None and p < SIGNIFICANT}
    better = [row for row, each in told.items() if each.estimate.above(0.0)]
    worse = [row for row in told if row not in better]
    reached = [row for row in to_base if mean_interval(study.values(row, JUDGED).values()).mean >= AIM]

    def named(rows: list[Row]) -> str:
        return ", ".join(map(titled, rows)) or "none"

    seeds = max(len(runs) for runs in study.rows.values())
    open_ones = len(to_base) - len(told)
    return (
        f"Of {counted(len(to_base), 'localised row')} ({counted(seeds, 'seed')}), the picture is more faithful than "
        f"at λ=0 in {len(better)} ({named(better)}), less in {len(worse)} ({named(worse)}), and {open_ones} cannot be "
        "told (after Holm's correction). "
        f"A rank correlation of {AIM} is reached by {len(reached)} ({named(reached)})."
    )


def write_study(study: Study, out: Path) -> list[Path]:
    """Write `tables.md` beside `study.json`, and return both paths."""
    page = out / "tables.md"
    write_text(page, "\n".join([*map(to_markdown, study_tables(study)), conclusion(study), ""]))
    return [out / STUDY_FILE, page]
