"""Compare the rule of `sentences` with libraries that split text into sentences, and write the table in docs/blocks.md.

    pip install pysbd sentencex blingfire syntok pyicu spacy
    python benchmarks/sentence_libraries.py            # measure, keep the numbers, write the table
    python benchmarks/sentence_libraries.py --table    # write the table from the numbers kept

All read the gold passages of tests/gold/sentences.txt. A library is given the paragraphs, list items and lines of
code that `paragraphs` finds, one at a time and with line breaks as spaces, and is told the language where it takes one;
the rule is not told. *moved* is the share of boundaries that come or go once more text is read, the word after them
being there already: held-out passages are cut after every word, and a causal rule has 0. *growth* is how many times
longer one line of numbers takes when it is twice as long: 2 is linear time. A library that is not installed is left
out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from progloc.blocks import partitioner
from progloc.blocks.paragraphs import read_lines
from progloc.blocks.spans import whole_text
from progloc.files import write_text
from score_boundaries import HELD_OUT, PAGE, Passage, Score, found_openings, read_gold, replaced, score_of, word_tokens
from scripts import script_parser

MEASURED = Path(__file__).parent / "measured" / "blocks" / "sentence_libraries.json"
OURS = "`sentences`"
BY = "written by benchmarks/sentence_libraries.py"
SIDES = {"seen": False, "held_out": True}
"""Of the passages, and whether they are held out."""
LANGUAGES = {
    "German": "de", "French": "fr", "Spanish": "es", "Italian": "it", "Portuguese": "pt", "Dutch": "nl",
    "Swedish": "sv", "Danish": "da", "Finnish": "fi", "Hungarian": "hu", "Polish": "pl", "Croatian": "hr",
    "Turkish": "tr", "Czech": "cs", "Russian": "ru", "Ukrainian": "uk", "Greek": "el", "Armenian": "hy",
    "Georgian": "ka", "Hebrew": "he", "Arabic": "ar", "Persian": "fa", "Urdu": "ur", "Hindi": "hi",
    "Marathi": "mr", "Bengali": "bn", "Tamil": "ta", "Amharic": "am", "Ethiopic": "am", "Tibetan": "bo",
    "Khmer": "km", "Burmese": "my", "Chinese": "zh", "Japanese": "ja", "full": "ja", "Korean": "ko",
    "Vietnamese": "vi", "Romanian": "ro",
}  # fmt: skip
"""By the first word of a passage's name; all others are English."""

Split = Callable[[str, str], Iterable[int]]
"""From a text and its language to where its sentences start, or end, as positions of characters."""


def ours() -> Split:
    """Return the rule, on words as tokens."""
    rule = partitioner("sentences")
    return lambda text, language: found_openings(rule, text)


def pysbd() -> Split:
    """Return pysbd's rules for a language, English ones for one it has none for."""
    from pysbd import Segmenter
    from pysbd.languages import LANGUAGE_CODES

    def split(text: str, language: str) -> Iterable[int]:
        known = language if language in LANGUAGE_CODES else "en"
        return [span.start for span in Segmenter(language=known, clean=False, char_span=True).segment(text)]

    return split


def sentencex() -> Split:
    """Return sentencex's rules."""
    from sentencex import get_sentence_boundaries

    return lambda text, language: [found["start_index"] for found in get_sentence_boundaries(language, text)]


def blingfire() -> Split:
    """Return Bling Fire's finite automaton."""
    from blingfire import text_to_sentences_and_offsets

    return lambda text, language: [start for start, _ in text_to_sentences_and_offsets(text)[1]]


def syntok() -> Split:
    """Return syntok's segmenter, on its own tokens."""
    from syntok.segmenter import segment
    from syntok.tokenizer import Tokenizer

    tokenizer = Tokenizer(replace_not_contraction=False)

    def split(text: str, language: str) -> Iterable[int]:
        return [sentence[0].offset for sentence in segment(tokenizer.tokenize(text)) if sentence]

    return split


def pyicu() -> Split:
    """Return ICU's rules (Unicode's annex 29) with CLDR's abbreviations."""
    import icu

    def split(text: str, language: str) -> Iterable[int]:
        breaks = icu.BreakIterator.createSentenceInstance(icu.Locale(f"{language}-u-ss-standard"))
        breaks.setText(text)
        units = np.cumsum([0] + [1 + (character > "\uffff") for character in text])  # ICU counts in UTF-16
        return [int(np.searchsorted(units, end)) for end in breaks]

    return split


def spacy() -> Split:
    """Return spaCy's `sentencizer`, which goes by marks alone."""
    from spacy import blank

    chosen: dict[str, Any] = {}

    def split(text: str, language: str) -> Iterable[int]:
        if language not in chosen:
            try:
                chosen[language] = blank(language)
            except (ImportError, ValueError):  # it has no such language, or needs another package for it
                chosen[language] = blank("xx")
            chosen[language].add_pipe("sentencizer")
            chosen[language].max_length = 10**8
        return [sentence.start_char for sentence in chosen[language](text).sents]

    return split


LIBRARIES: dict[str, Callable[[], Split]] = {
    made.__name__: made for made in (pysbd, sentencex, blingfire, syntok, pyicu, spacy)
}


def language_of(passage: Passage) -> str:
    """Return the language of a gold passage."""
    return LANGUAGES.get(passage.name.removeprefix(f"{HELD_OUT}: ").split()[0].strip(",:"), "en")


def openings(split: Split, text: str, language: str) -> frozenset[int]:
    """Return where sentences open but the first: at characters that are no white space, whatever side it is put on."""
    return frozenset(_visible(text, start) for start in split(text, language)) - {_visible(text, 0), len(text)}


def _visible(text: str, start: int) -> int:
    """Return the first character from ``start`` on that is no white space."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def by_paragraph(split: Split) -> Split:
    """Return a library's sentences within our paragraphs."""

    def within(text: str, language: str) -> Iterable[int]:
        lines = read_lines(text, whole_text)
        bounds = np.unique(np.concatenate([[0], lines.openings, lines.rows, [len(text)]])).tolist()
        for start, end in pairwise(bounds):
            yield start
            yield from (start + place for place in split(text[start:end].replace("\n", " "), language))

    return within


def moved(split: Split, passages: Iterable[Passage]) -> float:
    """Return the share of the boundaries, of growing texts, that are there in one and not in another."""
    there, missing = 0, 0
    for passage in passages:
        ends = word_tokens(passage.text).offsets[:, 1].tolist()
        cuts = [(end, openings(split, passage.text[:end], language_of(passage))) for end in ends]
        ever = frozenset().union(*(found for _, found in cuts))
        there += len(ever)
        missing += sum(any(place < end and place not in found for end, found in cuts) for place in ever)
    return missing / max(there, 1)


def seconds(split: Split, text: str) -> float:
    """Return the fastest of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        list(split(text, "en"))
        times.append(time.perf_counter() - start)
    return min(times)


def measured(name: str, split: Split) -> dict[str, Any]:
    """Return everything that is kept of a library."""
    passages, line = read_gold("sentences"), split
    if name != OURS:
        split = by_paragraph(split)
    kept: dict[str, Any] = {"library": name, "version": _version(name)}
    for side, held_out in SIDES.items():
        chosen = [passage for passage in passages if passage.name.startswith(HELD_OUT) == held_out]
        pairs = [(openings(split, one.text, language_of(one)), one.openings) for one in chosen]
        reached = score_of(pairs)
        kept[side] = {"passages": len(chosen), "found": reached.found, "right": reached.right, "gold": reached.gold}
        kept[side]["whole"] = sum(found == gold for found, gold in pairs)
    kept["moved"] = round(moved(split, [one for one in passages if one.name.startswith(HELD_OUT)]), 4)
    prose = "\n\n".join(one.text for one in passages) * 20
    kept["characters_a_second"] = round(len(prose) / seconds(split, prose))
    times = [seconds(line, "0, 12, 3.5, " * (length // 12)) for length in (20_000, 40_000)]
    kept["growth"] = round(times[1] / times[0], 1)
    return kept


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Return the numbers kept as a Markdown table."""
    lines = [
        "| | seen: F1 | held out: precision | recall | F1 | passages wholly right | moved | growth | characters/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        seen, held_out = (Score(row[side]["found"], row[side]["right"], row[side]["gold"]) for side in SIDES)
        whole = f"{row['held_out']['whole']} of {row['held_out']['passages']}"
        lines.append(
            f"| {row['library']} {row['version']} | {seen.f1:.3f} | {held_out.precision:.3f} | {held_out.recall:.3f} | "
            f"{held_out.f1:.3f} | {whole} | {row['moved']:.1%} | {row['growth']:.1f} | {row['characters_a_second']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is installed and write the table, or write it from the numbers kept."""
    parser = script_parser(__doc__)
    parser.add_argument("--table", action="store_true", help="write the table from the numbers kept")
    if not parser.parse_args().table:
        rows = [measured(OURS, ours())]
        for name, load in LIBRARIES.items():
            try:
                split = load()
            except ImportError:
                print(f"{name} is not installed and is left out")
                continue
            rows.append(measured(name, split))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
        write_text(MEASURED, json.dumps(rows, indent=1) + "\n")
    made = table(json.loads(MEASURED.read_text(encoding="utf-8")))
    write_text(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "libraries", BY, made))
    print(made)


if __name__ == "__main__":
    main()
