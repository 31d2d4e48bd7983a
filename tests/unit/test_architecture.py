"""docs/architecture.md says where everything is, and import-linter's contract says the same."""

import ast
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "progloc"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

LINES = [re.findall(r"`(\w+)`", cell) for cell in re.findall(r"^\| ((?:`\w+` ?)+)\|", PAGE, re.MULTILINE)]

# the package's __init__ gathers the public names, so it stands above every line
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def test_the_contract_is_the_table():
    """`make lint` holds imports to the contract in pyproject.toml, which is written from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = settings["contracts"]
    assert settings["root_package"] == "progloc"
    assert (contract["type"], contract["containers"], contract["exhaustive"]) == ("layers", ["progloc"], True)
    assert LINES[0][0] == "errors"
    assert [layer.split(" | ") for layer in reversed(contract["layers"])] == LINES


def test_every_part_has_a_line():
    parts = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert parts == {name for line in LINES for name in line}, "give each its line in docs/architecture.md"


def test_every_module_has_a_docstring():
    for path in [SOURCE / "__init__.py", *FILES]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_every_path_the_page_names_exists():
    paths = set(re.findall(r"[`\"]((?:[\w-]+/)+(?:[\w-]+\.py)?|\w+\.py)[`\"<]", PAGE))
    assert len(paths) > 10
    missing = {name for name in paths if not (ROOT / name).exists() and not (SOURCE / name).exists()}
    assert missing - {"model/"} == set()  # model/ is a run's, not the repository's


def test_the_walks_lead_where_they_say():
    walks = re.findall(r"`([\w/]+\.py):(\d+)` `(\w+)`", PAGE)
    assert len(walks) > 15
    for path, number, name in walks:
        lines = (SOURCE / path).read_text(encoding="utf-8").splitlines()
        starts = rf"(?:\s*(?:def|class) )?{name}\b|@register_measure\(\"{name}\""
        places = [place for place, line in enumerate(lines, 1) if re.match(starts, line) or f" = {name} = " in line]
        assert int(number) in places, f"{path}: {name} is at line {places}, and docs/architecture.md says {number}"


def cited_names() -> dict[str, Path]:
    """Return every dotted name of progloc that a page or a docstring cites, with a file that cites it."""

    def texts() -> Iterator[tuple[Path, str]]:
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
            yield path, path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Expr(ast.Constant(str(docstring))):
                        yield path, docstring

    return {name: path for path, text in texts() for name in re.findall(r"\bprogloc(?:\.[A-Za-z_]\w*)+", text)}


@pytest.mark.filterwarnings(r"error:progloc\.:DeprecationWarning")  # an old name of a module that moved
def test_every_name_that_is_cited_exists():
    cited = cited_names()
    assert len(cited) > 20
    for name, path in cited.items():
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError, DeprecationWarning) as error:
            pytest.fail(f"{path.relative_to(ROOT)} cites {name}: {error}")
