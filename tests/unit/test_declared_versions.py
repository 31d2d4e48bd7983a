"""What pyproject.toml says of other packages' versions holds for those that are installed and tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lowest_versions import EXTRAS, lowest_versions

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(text)
    for text in sum((PROJECT["optional-dependencies"][extra] for extra in EXTRAS), PROJECT["dependencies"])
]


def test_the_lowest_versions_are_the_declared_ones() -> None:
    lowest = lowest_versions()
    assert list(lowest) == [requirement.name for requirement in REQUIREMENTS]
    for requirement in REQUIREMENTS:
        (minimum,) = (each.version for each in requirement.specifier if each.operator == ">=")
        if requirement.name != "torch":  # whose older versions only come with CUDA
            assert lowest[requirement.name] == minimum
        assert Version(lowest[requirement.name]) in requirement.specifier


def test_every_requirement_says_which_major_version_it_was_tested_below() -> None:
    for requirement in REQUIREMENTS:
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, requirement


def pinned_versions() -> dict[str, str]:
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    return {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }


def test_the_pinned_versions_are_allowed() -> None:
    pinned = pinned_versions()
    declared = [Requirement(text) for extra in PROJECT["optional-dependencies"].values() for text in extra]
    for requirement in [*REQUIREMENTS, *declared]:
        name = canonicalize_name(requirement.name)
        if name in pinned:
            assert Version(pinned[name]) in requirement.specifier, requirement
    assert {canonicalize_name(requirement.name) for requirement in REQUIREMENTS} <= set(pinned)


def test_contributing_says_which_versions_are_tested() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) (\|.*\|)$", page, re.MULTILINE))
    assert rows["Python"].split(" | ")[0] == f"| {PROJECT['requires-python']}"
    pinned, lowest = pinned_versions(), lowest_versions()
    for name in ("torch", "transformers"):
        (declared,) = (text.removeprefix(name) for text in PROJECT["dependencies"] if re.match(rf"{name}\b", text))
        assert rows[name] == f"| {declared} | {pinned[name]} | {lowest[name]} |"
