"""The tables of a faithfulness study, and the plain conclusion that its numbers bear."""

from __future__ import annotations

__all__ = ["conclusion", "study_tables", "write_study"]

from collections import Counter
from pathlib import Path

from progloc.auditing.report import PICTURES
from progloc.auditing.study import STUDY_FILE, StudiedRun, Study
from progloc.auditing.verdict import VERDICTS
from progloc.files import write_text
from progloc.suite.rendering import ABSENT, Column, Table, counted, interval, number, p_value, to_markdown
from progloc.suite.statistics import Comparison, holm, mean_interval, paired_difference
from progloc.suite.verdicts import SIGNIFICANT

JUDGED = "mass_no_sink, deletion"
AIM = 0.7
"""The rank correlation of mass and effect that localised late layers are meant to reach."""
Runs = dict[int, StudiedRun]


def _values(runs: Runs, figure: str) -> dict[int, float]:
    """Return a figure by seed; seeds that have none are left out."""
    return {seed: value for seed, run in runs.items() if (value := run.mean(figure)) == value}


def _to_base(study: Study, runs: Runs, blocks: str) -> Comparison:
    return paired_difference(_values(runs, JUDGED), _values(study.beside(blocks), JUDGED))


def _compared(study: Study) -> dict[tuple[str, str], tuple[Comparison, float | None]]:
    """Return every localised row's difference in ρ to λ=0 on the same blocks, and its p after Holm."""
    rows = {key: runs for key, runs in study.rows.items() if not next(iter(runs.values())).distributed}
    found = {key: _to_base(study, runs, key[1]) for key, runs in rows.items()}
    return dict(zip(found, zip(found.values(), holm([each.p for each in found.values()]), strict=True), strict=True))


def _above(study: Study, runs: Runs, blocks: str) -> str:
    own, base = _values(runs, JUDGED), _values(study.beside(blocks), JUDGED)
    seeds = [seed for seed in own if seed in base]
    return f"{sum(own[seed] > base[seed] for seed in seeds)} of {len(seeds)}" if seeds else ABSENT


def _faithfulness(study: Study) -> Table:
    compared = _compared(study)
    rows = []
    for (name, blocks), runs in study.rows.items():
        difference, p = compared.get((name, blocks), (None, None))
        verdicts = Counter(each for run in runs.values() for each in run.verdicts())
        rows.append(
            (
                name,
                blocks,
                interval(mean_interval(_values(runs, JUDGED).values()), 3),
                ABSENT if difference is None else interval(difference.estimate, 3),
                ABSENT if difference is None else p_value(p),
                ABSENT if difference is None else _above(study, runs, blocks),
                *(interval(mean_interval(_values(runs, name).values()), 3) for name in ("overlap", "beaten")),
                " / ".join(str(verdicts[each]) for each in VERDICTS),
            )
        )
    layers = ", ".join(map(str, study.layers))
    return Table(
        "Is the picture true?",
        f"Layers {layers}. ρ: Spearman's, of blocks' mass without the sink with the effect of deleting them, the mean "
        "over passages; means over seeds with 95% t-intervals. To λ=0: paired by seed, on the same blocks; p after "
        "Holm. Overlap: the share of the picture that is where the effects are. Random sets beaten: by the blocks "
        f"shown first. Verdicts: {' / '.join(VERDICTS)}, over passages and seeds.",
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
        (name, blocks, *(number(mean_interval(_values(runs, ", ".join(kind)).values()).mean, 2) for kind in kinds))
        for (name, blocks), runs in study.rows.items()
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
    compared = _compared(study)
    told = {key: each for key, (each, p) in compared.items() if p is not None and p < SIGNIFICANT}
    better = [key for key, each in told.items() if each.estimate.above(0.0)]
    worse = [key for key in told if key not in better]
    reached = [key for key in compared if mean_interval(_values(study.rows[key], JUDGED).values()).mean >= AIM]

    def named(keys: list[tuple[str, str]]) -> str:
        return ", ".join(f"{name} on {blocks}" if blocks not in name else name for name, blocks in keys) or "none"

    seeds = max(len(runs) for runs in study.rows.values())
    open_ones = len(compared) - len(told)
    return (
        f"Of {counted(len(compared), 'localised row')} ({counted(seeds, 'seed')}), the picture is more faithful than "
        f"at λ=0 in {len(better)} ({named(better)}), less in {len(worse)} ({named(worse)}), and {open_ones} cannot be "
        "told (after Holm's correction). "
        f"A rank correlation of {AIM} is reached by {len(reached)} ({named(reached)})."
    )


def write_study(study: Study, out: Path) -> list[Path]:
    """Write `tables.md` beside `study.json`, and return both paths."""
    page = out / "tables.md"
    write_text(page, "\n".join([*map(to_markdown, study_tables(study)), conclusion(study), ""]))
    return [out / STUDY_FILE, page]
