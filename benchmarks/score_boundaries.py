"""Write the examples in docs/blocks.md, and the scores of sentences and phrases against hand-made gold passages.

    python benchmarks/score_boundaries.py [--missed]

A gold file (tests/gold/) holds passages, each under a line `== name`; | stands where a block opens, except at the very
start. Passages `held out: …` were not used to mend the rules. Tokens are words and marks, each with a
character of the white space before it. Boundaries are pooled over the passages: precision is the share of those found
that are gold, recall the share of gold that is found, F1 their harmonic mean. `--missed` prints every passage with what
was found (|), what was missed ([-|-]) and what was put where none is ([+|+]).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from progloc.blocks import Partitioner, TokenisedText, partitioner
from progloc.blocks.spans import token_places
from progloc.files import write_text
from scripts import script_parser

ROOT = Path(__file__).parents[1]
GOLD = ROOT / "tests" / "gold"
PAGE = ROOT / "docs" / "blocks.md"
SCORED = {"sentences": "sentences", "phrases": "phrases", "phrases:punctuation": "phrases"}
"""Partitioners, and the gold file each is scored on."""
HELD_OUT = "held out"
EXAMPLE = (
    "Dr. Ito walked 5 km on 3 May 2021, because the map (see Fig. 2) was wrong. “Was it?” asked Ann Lee. If so, she "
    "would write to ito@example.org."
)
EXAMPLES = ("fixed:5", "sentences", "phrases", "phrases:punctuation", "entities", "arguments")
BY = "written by benchmarks/score_boundaries.py"


@dataclass(frozen=True)
class Passage:
    """A text and the places where its blocks open, the first one's not counted."""

    name: str
    text: str
    openings: frozenset[int]


@dataclass(frozen=True)
class Score:
    """How many boundaries were found, how many of them are gold, and how many gold ones there are."""

    found: int
    right: int
    gold: int

    @property
    def precision(self) -> float:
        """The share of the boundaries found that are gold."""
        return self.right / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """The share of the gold boundaries that were found."""
        return self.right / self.gold if self.gold else float("nan")

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.found + self.gold) if self.found + self.gold else float("nan")


def read_gold(name: str) -> list[Passage]:
    """Return the passages of tests/gold/NAME.txt."""
    parts = re.split(r"^== (.+)\n", (GOLD / f"{name}.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    passages = []
    for title, marked in zip(parts[1::2], parts[2::2], strict=True):
        pieces = marked.strip().split("|")
        lengths = [len(piece) for piece in pieces]
        indents = [len(piece) - len(piece.lstrip()) for piece in pieces]
        places = np.cumsum(lengths)[:-1] + indents[1:]  # a mark before indentation means what is indented
        passages.append(Passage(title, "".join(pieces), frozenset(places[places > 0].tolist())))
    return passages


def word_tokens(text: str) -> TokenisedText:
    """Return a text in tokens: words and single marks, each with one character of the white space before it."""
    spans = [match.span() for match in re.finditer(r"\s?\w+|\s?[^\w\s]|\s", text)]
    return TokenisedText(text, np.arange(len(spans)), np.array(spans, dtype=np.int64).reshape(-1, 2))


def found_openings(chosen: Partitioner, text: str) -> frozenset[int]:
    """Return where the blocks of a text open, the first one's not counted."""
    tokens = word_tokens(text)
    opens = np.flatnonzero(np.diff(chosen(tokens))) + 1
    return frozenset(token_places(tokens)[opens].tolist())


def score(chosen: Partitioner, passages: Iterable[Passage]) -> Score:
    """Return a partitioner's score over passages, their boundaries pooled."""
    return score_of([(found_openings(chosen, passage.text), passage.openings) for passage in passages])


def score_of(pairs: Sequence[tuple[frozenset[int], frozenset[int]]]) -> Score:
    """Return the score of boundaries found, each with the gold ones of the same passage, pooled."""
    return Score(
        found=sum(len(found) for found, _ in pairs),
        right=sum(len(found & gold) for found, gold in pairs),
        gold=sum(len(gold) for _, gold in pairs),
    )


def table() -> str:
    """Return the scores of every partitioner that has gold passages, as a Markdown table."""
    rows = ["| blocks | passages | gold boundaries | precision | recall | F1 |", "|---|---|---:|---:|---:|---:|"]
    for name, gold in SCORED.items():
        for held_out in (False, True):
            passages = [passage for passage in read_gold(gold) if passage.name.startswith(HELD_OUT) == held_out]
            reached = score(partitioner(name), passages)
            shares = " | ".join(f"{share:.3f}" for share in (reached.precision, reached.recall, reached.f1))
            kind = "held out" if held_out else "seen while the rule was made"
            rows.append(f"| `{name}` | {len(passages)}, {kind} | {reached.gold} | {shares} |")
    return "\n".join(rows)


def examples() -> str:
    """Return one text as different partitioners cut it."""
    width = max(map(len, EXAMPLES)) + 2
    rows = []
    for name in EXAMPLES:
        cut = marked(partitioner(name), Passage("", EXAMPLE, found_openings(partitioner(name), EXAMPLE)))
        rows.append(textwrap.fill(f"{name:{width}}{cut}", width=110, subsequent_indent=" " * width))
    return "```text\n" + "\n\n".join(rows) + "\n```"


def page() -> str:
    """Return docs/blocks.md as it is, with examples and scores made anew."""
    page = PAGE.read_text(encoding="utf-8")
    for kind, made in (("examples", examples()), ("scores", table())):
        page = replaced(page, kind, BY, made)
    return page


def replaced(page: str, kind: str, by: str, made: str) -> str:
    """Return a page with what stands between the marks of a kind made anew."""
    begin, end = f"<!-- begin: {kind}, {by} -->", f"<!-- end: {kind} -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}"


def marked(chosen: Partitioner, passage: Passage) -> str:
    """Return a passage with the boundaries found, missed and wrongly put."""
    found, gold = found_openings(chosen, passage.text), passage.openings
    shown, done = [], 0
    for place in sorted(found | gold):
        mark = "|" if place in found & gold else "[-|-]" if place in gold else "[+|+]"
        shown.append(passage.text[done:place] + mark)
        done = place
    return f"{''.join(shown)}{passage.text[done:]}"


def main() -> None:
    """Write the table, or show what was missed."""
    parser = script_parser(__doc__)
    parser.add_argument("--missed", action="store_true", help="show the passages instead, with every mistake")
    if parser.parse_args().missed:
        for name, gold in SCORED.items():
            print(f"\n# {name}\n")
            for passage in read_gold(gold):
                print(f"== {passage.name}\n{marked(partitioner(name), passage)}\n")
    else:
        write_text(PAGE, page())
        print(table())


if __name__ == "__main__":
    main()
