"""Write the faithfulness studies into docs/audit.md, from those that benchmarks/measured/audits/ keeps.

    python benchmarks/write_audit.py [NAME=STUDY …]

STUDY is a `study.json` that `progloc audit RESULTS --study CORPUS` made, and NAME what it is kept as; without any, the
page is written again from what is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from progloc.auditing.study import Study
from progloc.auditing.study_tables import conclusion, study_tables
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json, write_text
from progloc.suite.rendering import filled, to_markdown

ROOT = Path(__file__).parents[1]
KEPT, PAGE = Path("benchmarks/measured/audits"), Path("docs/audit.md")
BY = "benchmarks/write_audit.py"


def section(name: str, study: Study) -> str:
    """Return a study as a part of the page."""
    about, versions = study.about, study.about["environment"]
    made = (
        f"{about['texts']} passages of {about['prompt_tokens']} + {about['answer_tokens']} tokens, spread over "
        f"{about['corpus']}, by `progloc audit RESULTS --study {about['corpus']} --texts {about['texts']} "
        f"--prompt-tokens {about['prompt_tokens']} --answer-tokens {about['answer_tokens']}` on the suite "
        f"{about['suite']} with {about['model']}; progloc {versions['progloc']}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}."
    )
    tables = [to_markdown(table).replace("## ", "#### ", 1) for table in study_tables(study)]
    return "\n".join([f"### {name}", "", made, "", f"**{conclusion(study)}**", "", *tables])


def written(root: Path) -> str:
    """Return every kept study as the page has them."""
    kept = sorted((root / KEPT).glob("*.json"))
    return "\n".join(section(path.stem, Study.from_dict(read_mapping(path))) for path in kept)


def write(studies: Mapping[str, Path], root: Path = ROOT) -> None:
    """Keep the studies given, then write the page."""
    for name, path in studies.items():
        write_json(root / KEPT / f"{name}.json", read_mapping(path))
    page = root / PAGE
    write_text(page, filled(page.read_text(encoding="utf-8"), BY, written(root)))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", metavar="NAME=STUDY", nargs="*")
    given = parser.parse_args()
    pairs = [each.partition("=") for each in given.studies]
    if any(not (name and path) for name, _, path in pairs):
        raise ProglocError("expected NAME=STUDY, as in pretrained=results/mine/audit-study/study.json")
    write({name: Path(path) for name, _, path in pairs})


if __name__ == "__main__":
    try:
        main()
    except ProglocError as error:
        raise SystemExit(str(error)) from None
