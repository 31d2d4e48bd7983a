"""docs/architecture.md draws the modules in order; imports have to follow it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "progloc"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

LINES = [re.findall(r"`(\w+)`", cell) for cell in re.findall(r"^\| ((?:`\w+` ?)+)\|", PAGE, re.MULTILINE)]
LINE_OF = {name: line for line, names in enumerate(LINES) for name in names}

# the package's __init__ gathers the public names, so it stands above every line
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def part(module: str) -> str:
    """Return the file or folder directly in the package that `progloc.a.b` is in."""
    return module.split(".")[1]


def imported(tree: ast.Module) -> set[str]:
    """Return the parts of progloc that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"progloc.{a.name}" for a in node.names} if node.module == "progloc" else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {part(name) for name in found if name.startswith("progloc.")}


def test_the_table_was_found():
    assert LINES[0] == ["errors"]
    assert LINES[-2:] == [["cli"], ["__main__"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_table(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert own in LINE_OF, f"give {own} its line in docs/architecture.md"
    others = imported(ast.parse(path.read_text(encoding="utf-8"))) - {own}
    assert {name for name in others if LINE_OF.get(name, len(LINES)) >= LINE_OF[own]} == set()


def test_every_module_has_a_docstring_and_says_what_is_public():
    for path in [SOURCE / "__init__.py", *FILES]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
        assert ast.get_docstring(tree), path
        assert "__all__" in names or len(tree.body) == 1, path


def test_every_path_the_page_names_exists():
    paths = set(re.findall(r"[`\"]((?:[\w-]+/)+(?:[\w-]+\.py)?|\w+\.py)[`\"<]", PAGE))
    assert len(paths) > 10
    missing = {name for name in paths if not (ROOT / name).exists() and not (SOURCE / name).exists()}
    assert missing - {"model/"} == set()  # model/ is a run's, not the repository's
