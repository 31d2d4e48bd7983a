"""Write the faithfulness studies into docs/audit.md, from those that benchmarks/measured/suites/ keeps.

    python benchmarks/write_audit.py [RESULTS …]

RESULTS are suites' folders in which `progloc audit RESULTS --study CORPUS` left its study. It is first kept under the
folder's name; without any, the page is written again from what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measurements import SUFFIX, SUITES, by_name, changed, unpacked
from progloc.errors import ProglocError
from progloc.files import write_json, write_text
from progloc.paper.faithfulness import STUDY_FILE, STUDY_FOLDER, Study, conclusion, read_study, study_tables
from progloc.report.formats import layers_named
from progloc.report.table import Table, filled, to_markdown
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/audit.md")
BY = "benchmarks/write_audit.py"


def _without(table: Table, *labels: str) -> Table:
    """Return a table without those of its columns that say the same in every row but that of the base model."""
    constant = {
        place for place, column in enumerate(table.columns)
        if column.label in labels and len({row[place] for row in table.rows[1:]}) == 1
    }  # fmt: skip
    shown = [place for place in range(len(table.columns)) if place not in constant]
    rows = tuple(tuple(row[place] for place in shown) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in shown), rows=rows)


def section(name: str, study: Study) -> str:
    """Return a study as a part of the page."""
    about, versions = study.about, study.about["environment"]
    length = about["sequence_length"] - about["answer_tokens"]
    made = (
        f"{about['texts']} passages of {about['corpus']} that no run was trained on, of at most "
        f"{about['prompt_tokens'] or length} + {about['answer_tokens']} tokens, cut at the ends of blocks; "
        f"{layers_named(study.layers)}. Made by `progloc audit RESULTS --study {about['corpus']} --texts "
        f"{about['texts']}` on the suite {about['suite']} with {about['model']} (progloc {versions['progloc']}, torch "
        f"{versions['torch']}, transformers {versions['transformers']}, {versions['device']})."
    )
    # the page explains the columns once; the last table is in the study's own tables.md
    tables = [_without(replace(table, note=""), "Blocks", "Seeds") for table in study_tables(study)[:3]]
    written = [to_markdown(table).replace("## ", "#### ", 1) for table in tables]
    return "\n".join([f"### {name}", "", made, "", f"**{conclusion(study)}**", "", *written])


def written(root: Path) -> str:
    """Return every kept study as the page has them."""
    with unpacked(by_name(root / SUITES)) as folder:
        studies = {path.name: read_study(path) for path in sorted(folder.iterdir())}
    sections = [section(name, study) for name, study in studies.items() if study is not None]
    return "\n".join(sections or ["No study is kept yet.\n"])


def write(results: Sequence[Path], root: Path = ROOT) -> None:
    """Keep the studies given, then write the page."""
    for folder in results:
        study = read_study(folder)
        if study is None:
            raise ProglocError(f"{folder} holds no study; run progloc audit {folder} --study CORPUS first")
        with changed(root / SUITES / f"{folder.name}{SUFFIX}") as suite:
            write_json(suite / STUDY_FOLDER / STUDY_FILE, study.to_dict())
    page = root / PAGE
    write_text(page, filled(page.read_text(encoding="utf-8"), BY, written(root)))


def main() -> None:
    """Read the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="*")
    write(parser.parse_args().results)


if __name__ == "__main__":
    run_script(main)
