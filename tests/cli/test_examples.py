"""The scripts and notebooks in examples/ run as they are, without a network, and leave what they say.

A notebook's cells are run here one after the other, and what a cell ends with is shown as Jupyter would; so that no
test needs Jupyter itself.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from progloc.blocks import partitioning
from progloc.measures import definitions
from progloc.schedules import shapes

EXAMPLES = Path(__file__).parents[2] / "examples"
LEAVES = {
    "localise_a_model.py": "my-local-model/locality.json",
    "turn_the_dial.py": None,
    "audit_an_answer.py": "audit.html",
    "add_your_own.py": None,
    "localise_and_measure.ipynb": "my-local-model/locality.json",
    "audit_an_answer.ipynb": "audit.html",
}
"""Every example, and a file that it leaves where it was run."""
SCRIPTS, NOTEBOOKS = ([name for name in LEAVES if name.endswith(suffix)] for suffix in (".py", ".ipynb"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an example is run; what it registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    for registry in (shapes._registry, partitioning._registry, definitions.measures):
        monkeypatch.setattr(registry, "_known", dict(registry._known))
    monkeypatch.setattr(definitions, "_LOOKS", dict(definitions._LOOKS))
    return tmp_path


def cells(name: str) -> list[dict[str, Any]]:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]


def test_every_example_is_listed() -> None:
    listed = re.findall(r"^\| \[(\S+)\]\((\S+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [(name, name) for name in LEAVES]
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert there == {*LEAVES, "tiny_model.py"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_runs(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert "\nMODEL = tiny_model()  # or a hub name" in text
    runpy.run_path(str(EXAMPLES / name))
    assert capsys.readouterr().out
    assert LEAVES[name] is None or (folder / LEAVES[name]).stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_is_kept_without_its_outputs(name: str, folder: Path) -> None:
    names: dict[str, Any] = {}
    shown = 0
    for number, cell in enumerate(cells(name)):
        if cell["cell_type"] != "code":
            continue
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        code = ast.parse("".join(cell["source"]))
        if isinstance(code.body[-1], ast.Expr):
            code.body[-1] = ast.Assign([ast.Name("_", ast.Store())], code.body[-1].value)
        exec(compile(ast.fix_missing_locations(code), f"{name}, cell {number}", "exec"), names)
        value = names.pop("_", None)
        shown += hasattr(value, "_repr_html_") and "<" in value._repr_html_()
    assert shown >= 2
    assert (folder / str(LEAVES[name])).stat().st_size
