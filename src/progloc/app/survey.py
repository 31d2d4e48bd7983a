"""What raters are asked and what they answer: who they are, which of A and B is which to them, and every click."""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from progloc.app.blinding import BASE, BLINDED, JSON, LOCALISED, SYSTEMS
from progloc.app.database import DONE, FAILED, Database, now
from progloc.errors import ProglocError

POINTS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Scale:
    """One question with the sentence that anchors each of its points, from 1 to 5."""

    name: str
    question: str
    anchors: Sequence[str]


RUBRIC = tuple(Scale(**scale) for scale in yaml.safe_load(Path(__file__).with_name("rubric.yaml").read_text("utf-8")))
LABELS = ("A", "B")
QUESTIONS = len(SYSTEMS) * len(RUBRIC)
"""Clicks that finish an item."""
COLUMNS = ("rater", "item", "system", "verdict", "shown_as", "scale", "score", "made", "writer")
"""Of the export as CSV."""


@dataclass(frozen=True)
class Rater:
    """Somebody who rates, under the name or code they typed."""

    id: int
    name: str
    key: str
    """What their browser keeps to be known again."""


@dataclass(frozen=True)
class Item:
    """A prompt of the study with the audit of it."""

    id: int
    prompt: str
    job: int | None
    state: str | None
    """Its audit's."""
    writer: str | None
    """The system that wrote its audit's answer."""

    @property
    def drawn_writer(self) -> str:
        """The system that is to write its answer: of items 1 and 2 one each, of 3 and 4, and so on, drawn which."""
        pair, place = divmod(self.id - 1, len(SYSTEMS))
        return random.Random(f"writer/{pair}").sample(SYSTEMS, len(SYSTEMS))[place]


@dataclass(frozen=True)
class Assignment:
    """An item as one rater is shown it."""

    rater: Rater
    item: Item
    first: str
    """The system that is A."""

    def system(self, label: str) -> str:
        """Return the system behind A or B."""
        return next(system for system in SYSTEMS if (system == self.first) == (label == LABELS[0]))


class Answers:
    """The study in a database."""

    def __init__(self, database: Database):
        self._database = database

    def prepare(self, model: str, base: str, prompts: Sequence[str]) -> list[Item]:
        """Make an item of every prompt that has none; return those of this study whose audit has to be made.

        Raises:
            ProglocError: the file holds a study of other models.
        """
        if (stored := self.models()) not in (None, (model, base)):
            raise ProglocError(
                f"{self._database.path} holds a study of {' and '.join(stored)}, not of {model} and {base}; "
                "give another file with --data"
            )
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO items (model, base, prompt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(model, base, prompt) for prompt in prompts],
            )
        return [item for item in self.items() if item.prompt in prompts and item.state in (None, FAILED)]

    def set_job(self, item: int, job: int) -> None:
        """Say which audit is an item's."""
        self._database.write("UPDATE items SET job = ? WHERE id = ?", job, item)

    def models(self) -> tuple[str, str] | None:
        """Return the model and the base that are compared; None without a study."""
        rows = self._database.read("SELECT model, base FROM items LIMIT 1")
        return (rows[0]["model"], rows[0]["base"]) if rows else None

    def items(self) -> list[Item]:
        """Return all items."""
        rows = self._database.read(
            "SELECT items.id, prompt, job, state, iif(job, coalesce(json_extract(request, '$.writer'), ?), NULL) "
            "FROM items LEFT JOIN jobs ON jobs.id = job ORDER BY items.id", LOCALISED,
        )  # fmt: skip
        return [Item(*row) for row in rows]

    def enter(self, name: str) -> Rater:
        """Return the rater of that name, a new one where there is none."""
        key = secrets.token_urlsafe(16)
        sql = "INSERT INTO raters (name, key, made) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._database.write(sql, name, key, now())
        return Rater(*self._database.read("SELECT id, name, key FROM raters WHERE name = ?", name)[0])

    def rater(self, key: str | None) -> Rater | None:
        """Return the rater whose browser keeps that key, or None."""
        rows = self._database.read("SELECT id, name, key FROM raters WHERE key = ?", key)
        return Rater(*rows[0]) if rows else None

    def assignment(self, rater: Rater, item: int) -> Assignment | None:
        """Return an item as that rater is shown it; None where it was not yet."""
        rows = self._database.read("SELECT first FROM assignments WHERE rater = ? AND item = ?", rater.id, item)
        items = {item.id: item for item in self.items()}
        return Assignment(rater, items[item], rows[0]["first"]) if rows else None

    def next(self, rater: Rater) -> Assignment | None:
        """Return the item the rater has begun, else another whose audit is there; None where none is left.

        Items come in another order to every rater, and which system is A is drawn for every rater and item; both
        follow from the rater's name, and what was shown is stored.
        """
        begun = self._begun(rater)
        for item, answered in begun.items():
            if answered < QUESTIONS:
                return self.assignment(rater, item)
        ready = [item.id for item in self.items() if item.state == DONE and item.id not in begun]
        if not ready:
            return None
        item = min(ready, key=lambda item: random.Random(f"order/{rater.name}/{item}").random())
        first = random.Random(f"first/{rater.name}/{item}").choice(SYSTEMS)
        sql = "INSERT INTO assignments (rater, item, first) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._database.write(sql, rater.id, item, first)
        return self.assignment(rater, item)

    def page(self, assignment: Assignment, label: str) -> str | None:
        """Return the page that is A or B; None before its audit is made."""
        return self._database.document(assignment.item.job, BLINDED[assignment.system(label)])

    def finished(self, rater: Rater) -> list[int]:
        """Return the items that a rater has answered in full, in the order in which they were shown."""
        return [item for item, answered in self._begun(rater).items() if answered == QUESTIONS]

    def _begun(self, rater: Rater) -> dict[int, int]:
        """Return the number of questions answered of each item a rater was shown, in that order."""
        rows = self._database.read(
            "SELECT item, count(scale) AS answered FROM assignments LEFT JOIN ratings USING (rater, item) "
            "WHERE rater = ? GROUP BY item ORDER BY assignments.id", rater.id,
        )  # fmt: skip
        return {row["item"]: row["answered"] for row in rows}

    def click(self, assignment: Assignment, label: str, scale: str, score: int) -> None:
        """Store one click, at once and for good."""
        sql = "INSERT INTO clicks (rater, item, system, scale, score, made) VALUES (?, ?, ?, ?, ?, ?)"
        system = assignment.system(label)
        self._database.write(sql, assignment.rater.id, assignment.item.id, system, scale, score, now())

    def comment(self, assignment: Assignment, text: str) -> None:
        """Store what a rater wrote of an item, in place of what they had written before."""
        sql = "INSERT OR REPLACE INTO comments VALUES (?, ?, ?, ?)"
        self._database.write(sql, assignment.rater.id, assignment.item.id, text, now())

    def scores_and_comment(self, assignment: Assignment) -> tuple[dict[tuple[str, str], int], str]:
        """Return a rater's scores of an item, by label and scale, and their comment."""
        place = (assignment.rater.id, assignment.item.id)
        ratings = self._database.read("SELECT system, scale, score FROM ratings WHERE rater = ? AND item = ?", *place)
        comments = self._database.read("SELECT text FROM comments WHERE rater = ? AND item = ?", *place)
        labels = {assignment.system(label): label for label in LABELS}
        scores = {(labels[system], scale): score for system, scale, score in ratings}
        return scores, comments[0]["text"] if comments else ""

    def ratings(self) -> list[dict[str, Any]]:
        """Return every rating, unblinded, as `COLUMNS` names them."""
        writers = {item.id: item.writer for item in self.items()}
        verdicts = self._verdicts()
        rows = self._database.read(
            "SELECT raters.name AS rater, item, system, NULL AS verdict, iif(system = first, ?, ?) AS shown_as, scale, "
            "score, ratings.made FROM ratings "
            "JOIN raters ON raters.id = rater JOIN assignments USING (rater, item) ORDER BY ratings.id", *LABELS,
        )  # fmt: skip
        return [
            {**row, "verdict": verdicts[row["item"], row["system"]], "writer": writers[row["item"]]} for row in rows
        ]

    def _verdicts(self) -> dict[tuple[int, str], str]:
        """Return the verdict on each item's two pictures, which raters are not shown."""
        verdicts: dict[tuple[int, str], str] = {}
        for item in self.items():
            if (content := self._database.document(item.job, JSON)) is not None:
                audit = json.loads(content)
                verdicts |= {(item.id, LOCALISED): audit["verdict"], (item.id, BASE): audit["base"]["verdict"]}
        return verdicts

    def comments(self) -> list[dict[str, Any]]:
        """Return every comment: rater, item, first (the system that was A), text, made."""
        rows = self._database.read(
            "SELECT raters.name AS rater, item, first, text, comments.made FROM comments "
            "JOIN raters ON raters.id = rater JOIN assignments USING (rater, item) ORDER BY comments.made"
        )
        return [dict(row) for row in rows]

    def to_csv(self) -> str:
        """Return one row a rating; a rater's name that a spreadsheet would take for a formula gets an apostrophe."""
        from pandas import DataFrame

        table = DataFrame(self.ratings(), columns=COLUMNS)
        table["rater"] = [f"'{name}" if name.startswith(("=", "+", "-", "@")) else name for name in table["rater"]]
        return str(table.to_csv(index=False, lineterminator="\n"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was answered, with what was asked."""
        return {
            "schema_version": 1,
            "systems": dict(zip(SYSTEMS, self.models() or (None, None), strict=True)),
            "rubric": [dataclasses.asdict(scale) for scale in RUBRIC],
            "items": [
                {"item": item.id, "prompt": item.prompt, "audit": item.state, "writer": item.writer}
                for item in self.items()
            ],
            "ratings": self.ratings(),
            "comments": self.comments(),
        }
