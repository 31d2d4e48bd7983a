"""How pages are compared: other words are the same page; another number, name, verdict, row or column is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from page_numbers import figures_of, numbers, tables

ROOT = Path(__file__).parents[2]
WRITTEN = ("results", "audit", "pretrained", "theory", "performance")
PAGE = """# Results

Perplexity is 290.20 ± 1.38 without a penalty.

| Schedule | Gap | Verdict |
| --- | ---: | --- |
| quintic | 1.002× [1.000, 1.003] | supported |
| localist (λ=1) | −0.33, 4,000 tokens | not supported |
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Perplexity is", "We found a perplexity of"), ("# Results", "# What was found"), ("| Gap |", "| Price |"),
        ("localist (λ=1)", "local everywhere (λ=1)"), ("4,000 tokens", "4000 of them"),
    ],
)  # fmt: skip
def test_words_may_change(old: str, new: str) -> None:
    assert PAGE.replace(old, new) != PAGE
    assert figures_of(PAGE.replace(old, new)) == figures_of(PAGE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("290.20", "290.21"), ("1.002×", "1.003×"), ("1.003]", "1.004]"), ("−0.33", "0.33"), ("4,000", "4"),
        ("| quintic |", "| cubic |"), ("not supported", "supported"), ("(λ=1)", "(λ=0)"), ("| Gap ", ""),
        ("| quintic | 1.002× [1.000, 1.003] | supported |\n", ""),
    ],
)  # fmt: skip
def test_figures_may_not(old: str, new: str) -> None:
    assert PAGE.replace(old, new, 1) != PAGE
    assert figures_of(PAGE.replace(old, new, 1)) != figures_of(PAGE)


@pytest.mark.parametrize("name", WRITTEN)
def test_no_number_in_a_table_of_the_pages_can_be_changed_unseen(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    figures, places = figures_of(page), [at.start() for at in re.finditer(r"\d(?=[^\n]*\|$)", page, re.MULTILINE)]
    assert len(places) > 100
    for place in places[:: len(places) // 50]:
        altered = page[:place] + str((int(page[place]) + 1) % 10) + page[place + 1 :]
        assert figures_of(altered) != figures, page[place - 20 : place + 20]


def test_numbers_are_read_as_they_are_written() -> None:
    assert numbers("gap 1.014× [−1.5, 27%], 4,000 tokens, p < 1e-05; T=128, c7") == (
        1.014,
        -1.5,
        27,
        4000,
        1e-5,
        128,
        7,
    )
    assert tables(r"| a | \|b\| 2 |" + "\n|---|---|\n| x | 1 |") == [[[(), (2.0,)], ["x", (1.0,)]]]
