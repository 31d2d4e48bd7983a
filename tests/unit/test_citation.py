"""CITATION.cff says of progloc what pyproject.toml does, and GitHub can read it and the templates."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_the_citation_agrees_with_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation), "what the format requires"
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["keywords"] == PROJECT["keywords"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["url"] == PROJECT["urls"]["Paper"]
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in paper["url"]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_a_form_has_what_github_asks_of_it(name: str) -> None:
    form = yaml.safe_load((TEMPLATES / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    names = [element["id"] for element in form["body"]]
    assert len(names) == len(set(names))
    for element in form["body"]:
        assert element["type"] in {"textarea", "dropdown"}
        assert element["attributes"]["label"]
        options = element["attributes"].get("options", [])
        assert all(isinstance(option, str) for option in options), options
        assert bool(options) == (element["type"] == "dropdown")
