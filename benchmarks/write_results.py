"""Write docs/results.md and its figures, from the suites that benchmarks/measured/suites/ keeps.

    python benchmarks/write_results.py [RESULTS …]

RESULTS are folders that `progloc reproduce --out RESULTS` made. Each suite is first kept under its folder's name,
without single heads; without any, the page is written again from what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from progloc.errors import ProglocError
from progloc.files import write_bytes, write_text
from progloc.paper.figures import Drawing, drawings
from progloc.paper.page import keep, kept_in, suite_markdown
from progloc.paper.suite import load_suite
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
KEPT, PAGE, IMAGES = Path("benchmarks/measured/suites"), Path("docs/results.md"), Path("docs/images")
SHOWN = ("frontier", "frontier-by-blocks", "learned-schedules", "fidelity-by-layer")
"""The figures that the page shows of a suite, where it has them."""
HEAD = """# Results

Look up here what each suite of runs found: the table that decides its question, the claims of the paper that it can
test, and the command that repeats it. The audits of *faithfulness* and *faithfulness-stories* are in
[audit.md](audit.md#does-localising-make-attention-more-faithful). Every other table, every test and all figures of a
suite are in its full report, made from the runs in `benchmarks/measured/suites/`:

```bash
mkdir -p results && cp -r benchmarks/measured/suites/quick results/
progloc report results/quick    # report.html, tables.md, results.csv, figures/
```

| term | meaning |
| --- | --- |
| gap | perplexity ÷ that of the λ=0 run of the same data, budget and seed; a geometric mean over seeds |
| F, H | fidelity (the share of attention within the token's own block) and entropy, over all keys |
| F°, H° | the same of the attention that is not on the sink, the first token |
| chance | what uniform attention on the same blocks has; read every fidelity beside it |
| final penalty | what α multiplies in the loss, Σλp, on validation |
| ±, [ ] | 95% t-interval over seeds; a seed is another order of the training text ([statistics.md](statistics.md)) |
| above chance | (F° − chance) ÷ (1 − chance) |
| lowest | of the layers with λ ≥ 0.5, in each seed |

In the figures large marks are means over seeds, small ones single runs; of two panels the left one counts the sink, the
right one does not.

Every run keeps the checkpoint with the best validation objective of stage 2 ([method.md §6](method.md#6-training)). The
claims and their decision rules are in [method.md §11](method.md#11-statistics-and-claims), the definitions in
[method.md §3](method.md#3-what-is-reported). `python benchmarks/write_results.py` writes this page; a test compares.
"""


def _pictures(root: Path, name: str) -> dict[str, Drawing]:
    """Return the figures that are shown of a kept suite by their path, seen from the page."""
    suite = load_suite(root / KEPT / name)
    return {f"images/results-{name}-{d.name}.png": d for d in drawings(suite) if d.name in SHOWN}


def kept_suites(root: Path) -> list[str]:
    """Return the names of the suites that are kept."""
    return [path.name for path in kept_in(root / KEPT)]


def page(root: Path) -> str:
    """Return docs/results.md, made from what is kept."""
    sections = [
        suite_markdown(name, load_suite(root / KEPT / name), _pictures(root, name)) for name in kept_suites(root)
    ]
    return "\n".join([HEAD, *sections])


def write(results: Sequence[Path], root: Path = ROOT) -> None:
    """Keep the suites given, then write the page and the figures of every suite kept."""
    for folder in results:
        keep(folder, root / KEPT / folder.name)
    if not kept_suites(root):
        raise ProglocError("no suite is kept yet; give a folder that 'progloc reproduce' wrote")
    for name in kept_suites(root):
        for path, drawing in _pictures(root, name).items():
            write_bytes(root / PAGE.parent / path, drawing.png)
    write_text(root / PAGE, page(root))


def main() -> None:
    """Read the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("results", metavar="RESULTS", type=Path, nargs="*")
    write(parser.parse_args().results)


if __name__ == "__main__":
    run_script(main)
