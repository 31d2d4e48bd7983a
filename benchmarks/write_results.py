"""Write docs/results.md and its figures, from the suites that benchmarks/measured/suites/ keeps.

    python benchmarks/write_results.py [RESULTS …]

RESULTS are folders that `progloc reproduce --out RESULTS` made. Each suite is first kept under its folder's name,
without single heads; without any, the page is written again from what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from measurements import SUFFIX, SUITES, by_name, changed, unpacked
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_bytes, write_json, write_text
from progloc.paper.claims import answers
from progloc.paper.figures import Drawing, drawings
from progloc.paper.provenance import made_by
from progloc.paper.suite import SUITE_FILE, Suite, load_suite
from progloc.paper.suite_report import summary
from progloc.paper.tables import suite_tables
from progloc.report.formats import ABSENT
from progloc.report.table import Column, Table, brief, to_markdown
from progloc.run_folder import RESULT_FILE
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = Path("docs/results.md"), Path("docs/images")
SHOWN = ("frontier", "frontier-by-blocks", "learned-schedules", "fidelity-by-layer")
"""The figures that the page shows of a suite, where it has them; in the repository the first, and what others show."""
_DECIDING = ("Table 7:", "Table 5, tested: gap at equal F°,", "Table 1:")
"""The tables that a page shows of a suite, by how their titles begin: the first one that there is."""
_WITH_SINK = ("Entropy H (bits)", "Fidelity F")
"""Columns of Table 1 that the page leaves to the full report."""
_ARITHMETIC = "C9"
"""The claim that no run decides: its answer is the same for every suite."""
HEAD = """# Results

Look up here the results of each suite of runs: its verdicts on the paper's claims, the table that decides its question,
and the command that repeats it. The audits of *faithfulness* and *faithfulness-stories* are in
[audit.md](audit.md#does-localising-make-attention-more-faithful). The full report of a suite has every other table,
test and figure; make it from the runs in `benchmarks/measured/suites/`:

```bash
python benchmarks/measurements.py quick results/quick
progloc report results/quick    # report.html, tables.md, results.csv, figures/
```

| term | meaning |
| --- | --- |
| gap | perplexity ÷ that of the λ=0 run with the same data, budget and seed; geometric mean over seeds |
| F°, H° | fidelity (attention's share within the token's own block) and entropy, without the sink, the first token |
| chance | the figure for uniform attention on the same blocks; compare every fidelity with it |
| final penalty | Σλp on validation, the term that α multiplies in the loss |
| ±, [ ] | 95% t-interval over seeds; a seed is another order of the training text ([statistics.md](statistics.md)) |
| above chance | (F° − chance) ÷ (1 − chance) |
| lowest | the lowest layer of those with λ ≥ 0.5, in each seed |

In the figures, large marks are means over seeds and small marks single runs. Of two panels, the left one includes the
sink and the right one leaves it out. The site that `make docs` builds shows further figures of each suite.

Every run keeps the checkpoint with the best validation objective of stage 2 ([method.md §6](method.md#6-training)).
[method.md §11](method.md#11-statistics-and-claims) states the claims and their decision rules,
[paper.md](paper.md#the-ten-claims) has the figures of the suite *quick*; C9 is arithmetic, the same for every suite,
and is answered in [theory.md](theory.md). [method.md §3](method.md#3-what-is-reported) has the
definitions. `python benchmarks/write_results.py` writes this page.
"""


def _without_heads(report: Mapping[str, Any]) -> dict[str, Any]:
    layers = [{key: value for key, value in layer.items() if key != "heads"} for layer in report["layers"]]
    return {**report, "layers": layers}


def keep(folder: Path, kept: Path) -> None:
    """Copy a suite's `suite.json` and every `result.json`, without single heads and without epochs' layers.

    What `load_suite` reads and every table and figure needs is all there.

    Args:
        folder: a suite's folder.
        kept: where the copy goes, with the same layout; runs that are there and not in ``folder`` stay.

    Raises:
        ProglocError: ``folder`` holds no suite, or a file of it is damaged.
    """
    suite = load_suite(folder)
    for run in suite.runs:
        path = Path("runs") / f"{run.name}-seed{run.seed}" / RESULT_FILE
        result = read_mapping(folder / path)
        epochs = [
            {key: value for key, value in epoch.items() if not isinstance(value, list)} for epoch in result["epochs"]
        ]
        reports = {key: _without_heads(result[key]) for key in ("before", "final", "elsewhere") if result.get(key)}
        write_json(kept / path, {**result, **reports, "epochs": epochs})
    write_json(kept / SUITE_FILE, dict(suite.plan))


@contextmanager
def kept_suites(root: Path = ROOT) -> Iterator[dict[str, Suite]]:
    """Unpack the suites for a while and yield them by name; of others there may be no more than their audits."""
    with unpacked(by_name(root / SUITES)) as folder:
        yield {path.parent.name: load_suite(path.parent) for path in sorted(folder.glob(f"*/{SUITE_FILE}"))}


def _claims(suites: Mapping[str, Suite]) -> str:
    """Return the verdict of every suite on every claim that its runs can test."""
    verdicts = {
        name: {claim.id: ABSENT if claim.figure == ABSENT else claim.verdict for claim in answers(suite)}
        for name, suite in suites.items()
    }
    ids = [claim for claim in next(iter(verdicts.values())) if claim != _ARITHMETIC]
    rows = tuple((name, *(of_suite[claim] for claim in ids)) for name, of_suite in verdicts.items())
    return to_markdown(
        Table(
            "The paper's claims",
            f"{ABSENT}: these runs cannot test it. The figures behind each verdict are in a suite's full report.",
            (Column("suite", text=True), *(Column(claim, text=True) for claim in ids)),
            rows,
        )
    )


def _deciding_table(suite: Suite) -> list[Table]:
    """Return the table that answers what the suite was made for, without details; none before a run has finished."""
    tables = suite_tables(suite)
    deciding = [brief(table) for start in _DECIDING for table in tables if table.title.startswith(start)]
    # the page's head explains the columns of Table 1 once
    return [
        replace(_without_sink(table), note="") if table.title.startswith(_DECIDING[-1]) else table
        for table in deciding[:1]
    ]


def _without_sink(table: Table) -> Table:
    """Return Table 1 with entropy and fidelity off the sink alone."""
    places = [place for place, column in enumerate(table.columns) if column.label not in _WITH_SINK]
    rows = tuple(tuple(row[place] for place in places) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in places), rows=rows)


def suite_markdown(title: str, suite: Suite, pictures: Mapping[str, Drawing], elsewhere: Collection[str] = ()) -> str:
    """Return a suite's section of a page: summary, the deciding table, figures, and what made it.

    Args:
        title: the section's.
        suite: with at least one finished run.
        pictures: its figures, by where the page finds them.
        elsewhere: where other pages find theirs; what is not among them, and not the first of ``SHOWN``, is in the
            repository a comment, of which docs/site_hooks.py makes a picture.
    """
    made = dict(made_by(suite))
    versions = ", ".join(f"{key} {made[key]}" for key in ("torch", "transformers"))
    missing = [f"Missing runs: {', '.join(run.folder for run in suite.missing)}.", ""] if suite.missing else []
    return "\n".join(
        [
            f"## {title}",
            "",
            summary(suite),
            "",
            *(f"#{to_markdown(table)}" for table in _deciding_table(suite)),
            *(
                f"![{picture.title}]({path})\n"
                if picture.name == SHOWN[0] or path in elsewhere
                else f"<!-- on the site: {path} {picture.title} -->\n"
                for path, picture in pictures.items()
            ),
            *missing,
            f"Made by `{made['command']}` ({versions}; {made['device']}).",
            "",
        ]
    )


def pictures_of(name: str, suite: Suite) -> dict[str, Drawing]:
    """Return the figures that are shown of a kept suite by their path, seen from the page."""
    return {f"images/results-{name}-{d.name}.png": d for d in drawings(suite) if d.name in SHOWN}


def page_and_pictures(root: Path = ROOT) -> tuple[str, dict[str, Drawing]]:
    """Return docs/results.md, and by their path the figures that it and other pages show in the repository.

    Raises:
        ProglocError: no suite is kept.
    """
    others = (path.read_text("utf-8") for path in (root / PAGE.parent).glob("*.md") if path.name != PAGE.name)
    elsewhere = {path for text in others for path in re.findall(r"\]\((images/[^)]+)\)", text)}
    with kept_suites(root) as suites:
        if not suites:
            raise ProglocError("no suite is kept yet; give a folder that 'progloc reproduce' wrote")
        pictures = {name: pictures_of(name, suite) for name, suite in suites.items()}
        sections = [suite_markdown(name, suite, pictures[name], elsewhere) for name, suite in suites.items()]
        claims = _claims(suites)
    page = "\n".join([HEAD, claims, *sections])
    return page, {path: d for of in pictures.values() for path, d in of.items() if f"]({path})" in page}


def site_pictures() -> dict[str, bytes]:
    """Return every figure of the page as a PNG by its path, seen from the page."""
    with kept_suites() as suites:
        return {path: d.png for name, suite in suites.items() for path, d in pictures_of(name, suite).items()}


def write(results: Sequence[Path], root: Path = ROOT) -> None:
    """Keep the suites given, then write the page and the figures that the repository shows."""
    for folder in results:
        with changed(root / SUITES / f"{folder.name}{SUFFIX}") as suite:
            keep(folder, suite)
    page, pictures = page_and_pictures(root)
    for path, drawing in pictures.items():
        write_bytes(root / PAGE.parent / path, drawing.png)
    write_text(root / PAGE, page)


def main() -> None:
    """Read the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="*")
    write(parser.parse_args().results)


if __name__ == "__main__":
    run_script(main)
