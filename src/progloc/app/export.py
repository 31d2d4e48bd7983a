"""A study's answers for who evaluates them: unblinded, as CSV and as one JSON document."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

from progloc.app.answers import Answers
from progloc.app.rubric import RUBRIC

STUDY_SCHEMA_VERSION = 1
COLUMNS = ("rater", "item", "system", "verdict", "shown_as", "scale", "score", "made", "writer")
FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet would calculate."""


def study_csv(answers: Answers) -> str:
    """Return one row a rating; a rater's name that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for rating in answers.ratings():
        name = rating["rater"]
        writer.writerow({**rating, "rater": f"'{name}" if name.startswith(FORMULA) else name})
    return text.getvalue()


def study_document(answers: Answers) -> dict[str, Any]:
    """Return everything that was answered, with what was asked."""
    model, base = answers.models() or (None, None)
    writers = answers.writers()
    return {
        "schema_version": STUDY_SCHEMA_VERSION,
        "systems": {"localised": model, "base": base},
        "rubric": [dataclasses.asdict(scale) for scale in RUBRIC],
        "items": [
            {"item": item.id, "prompt": item.prompt, "audit": item.state, "writer": writers.get(item.id)}
            for item in answers.items()
        ],
        "ratings": answers.ratings(),
        "comments": answers.comments(),
    }
