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
from progloc.paper.results import load_suite
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
KEPT, PAGE, IMAGES = Path("benchmarks/measured/suites"), Path("docs/results.md"), Path("docs/images")
HEAD = """# Results

Every figure here is written by `python benchmarks/write_results.py RESULTS` from the runs that
`benchmarks/measured/suites/` keeps, and a test writes the page again from there and compares. What is computed:
[method.md](method.md); what an interval and a p mean: [statistics.md](statistics.md).
"""


def _pictures(root: Path, name: str) -> dict[str, Drawing]:
    """Return a kept suite's figures by their path, seen from the page."""
    suite = load_suite(root / KEPT / name)
    return {f"images/results-{name}-{drawing.name}.png": drawing for drawing in drawings(suite)}


def kept_suites(root: Path) -> list[str]:
    """Return the names of the suites that are kept."""
    return [path.name for path in kept_in(root / KEPT)]


def page(root: Path) -> str:
    """Return docs/results.md, made from what is kept."""
    sections = [suite_markdown(load_suite(root / KEPT / name), _pictures(root, name)) for name in kept_suites(root)]
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
