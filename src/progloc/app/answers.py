"""What raters answer: who they are, which of A and B is which to them, and every click."""

from __future__ import annotations

import json
import random
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from progloc.app.blinding import BASE, LOCALISED, SYSTEMS
from progloc.app.database import Database, now
from progloc.app.documents import JSON
from progloc.app.rubric import RUBRIC
from progloc.app.store import DONE, FAILED, Jobs
from progloc.errors import ProglocError

LABELS = ("A", "B")
QUESTIONS = len(SYSTEMS) * len(RUBRIC)
"""Clicks that finish an item."""


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

    @property
    def writer(self) -> str:
        """The system that writes its answer: of items 1 and 2 one each, of 3 and 4, and so on, drawn which."""
        pair, place = divmod(self.id - 1, len(SYSTEMS))
        return random.Random(f"writer/{pair}").sample(SYSTEMS, len(SYSTEMS))[place]


@dataclass(frozen=True)
class Assignment:
    """An item as one rater is shown it."""

    item: Item
    first: str
    """The system that is A."""

    def system(self, label: str) -> str:
        """Return the system behind A or B."""
        other = BASE if self.first == LOCALISED else LOCALISED
        return self.first if label == LABELS[0] else other

    def label(self, system: str) -> str:
        """Return A or B."""
        return LABELS[0] if system == self.first else LABELS[1]


class Answers:
    """The study in a database."""

    def __init__(self, database: Database):
        self._database = database
        self._jobs = Jobs(database)

    def prepare(self, model: str, base: str, prompts: Sequence[str]) -> list[Item]:
        """Make an item of every prompt that has none; return those of this study whose audit has to be made.

        Raises:
            ProglocError: the file holds a study of other models.
        """
        with self._database.transaction():
            for row in self._database.read("SELECT DISTINCT model, base FROM items"):
                if (row["model"], row["base"]) != (model, base):
                    raise ProglocError(
                        f"{self._database.path} holds a study of {row['model']} and {row['base']}, not of {model} and "
                        f"{base}; give another file with --data"
                    )
            for prompt in prompts:
                self._database.execute(
                    "INSERT INTO items (model, base, prompt) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    model, base, prompt,
                )  # fmt: skip
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
        return [_item(row) for row in self._database.read(f"{_ITEMS} ORDER BY items.id")]

    def enter(self, name: str) -> Rater:
        """Return the rater of that name, a new one where there is none."""
        self._database.write(
            "INSERT INTO raters (name, key, made) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            name, secrets.token_urlsafe(16), now(),
        )  # fmt: skip
        return _rater(self._database.read("SELECT * FROM raters WHERE name = ?", name)[0])

    def rater(self, key: str | None) -> Rater | None:
        """Return the rater whose browser keeps that key, or None."""
        rows = self._database.read("SELECT * FROM raters WHERE key = ?", key)
        return _rater(rows[0]) if rows else None

    def assignment(self, rater: Rater, item: int) -> Assignment | None:
        """Return an item as that rater is shown it; None where it was not yet."""
        drawn = self._database.read("SELECT first FROM assignments WHERE rater = ? AND item = ?", rater.id, item)
        if not drawn:
            return None
        return Assignment(_item(self._database.read(f"{_ITEMS} WHERE items.id = ?", item)[0]), drawn[0]["first"])

    def next(self, rater: Rater) -> Assignment | None:
        """Return the item the rater has begun, else another whose audit is there; None where none is left.

        Items come in another order to every rater, and which system is A is drawn for every rater and item; both
        follow from the rater's name, and what was shown is stored.
        """
        finished = {row["item"] for row in self._finished(rater)}
        begun = [row["item"] for row in self._database.read(
            "SELECT item FROM assignments WHERE rater = ? ORDER BY id", rater.id)]  # fmt: skip
        left = [item for item in begun if item not in finished]
        if not left:
            left = [item.id for item in self.items() if item.state == DONE and item.id not in begun]
            left = sorted(left, key=lambda item: random.Random(f"order/{rater.name}/{item}").random())
        if not left:
            return None
        if left[0] not in begun:
            first = random.Random(f"first/{rater.name}/{left[0]}").choice(SYSTEMS)
            self._database.write(
                "INSERT INTO assignments (rater, item, first) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                rater.id, left[0], first,
            )  # fmt: skip
        return self.assignment(rater, left[0])

    def finished(self, rater: Rater) -> list[int]:
        """Return the items that a rater has answered in full, in the order in which they were shown."""
        return [row["item"] for row in self._finished(rater)]

    def _finished(self, rater: Rater) -> list[sqlite3.Row]:
        return self._database.read(
            "SELECT item FROM assignments JOIN ratings USING (rater, item) WHERE rater = ? "
            "GROUP BY item HAVING count(*) = ? ORDER BY assignments.id", rater.id, QUESTIONS,
        )  # fmt: skip

    def click(self, rater: Rater, assignment: Assignment, label: str, scale: str, score: int) -> None:
        """Store one click, at once and for good."""
        self._database.write(
            "INSERT INTO clicks (rater, item, system, scale, score, made) VALUES (?, ?, ?, ?, ?, ?)",
            rater.id, assignment.item.id, assignment.system(label), scale, score, now(),
        )  # fmt: skip

    def comment(self, rater: Rater, assignment: Assignment, text: str) -> None:
        """Store what a rater wrote of an item, in place of what they had written before."""
        self._database.write(
            "INSERT INTO comments VALUES (?, ?, ?, ?) "
            "ON CONFLICT (rater, item) DO UPDATE SET text = excluded.text, made = excluded.made",
            rater.id, assignment.item.id, text, now(),
        )  # fmt: skip

    def given(self, rater: Rater, assignment: Assignment) -> tuple[dict[tuple[str, str], int], str]:
        """Return a rater's scores of an item, by label and scale, and their comment."""
        at = (rater.id, assignment.item.id)
        scores = self._database.read("SELECT * FROM ratings WHERE rater = ? AND item = ?", *at)
        texts = self._database.read("SELECT text FROM comments WHERE rater = ? AND item = ?", *at)
        by_question = {(assignment.label(row["system"]), row["scale"]): row["score"] for row in scores}
        return by_question, texts[0]["text"] if texts else ""

    def ratings(self) -> list[dict[str, Any]]:
        """Return every rating, unblinded: rater, item, system, verdict, shown_as, scale, score, made, writer."""
        verdicts = self._verdicts()
        writers = self.writers()
        rows = self._database.read(
            "SELECT raters.name AS rater, item, system, first, scale, score, ratings.made FROM ratings "
            "JOIN raters ON raters.id = rater JOIN assignments USING (rater, item) ORDER BY ratings.id"
        )
        return [
            {
                "rater": row["rater"],
                "item": row["item"],
                "system": row["system"],
                "verdict": verdicts[row["item"], row["system"]],
                "shown_as": LABELS[row["system"] != row["first"]],
                "scale": row["scale"],
                "score": row["score"],
                "made": row["made"],
                "writer": writers[row["item"]],
            }
            for row in rows
        ]

    def writers(self) -> dict[int, str]:
        """Return the system that wrote each item's answer, of the items that have an audit."""
        jobs = ((item.id, self._jobs.get(item.job)) for item in self.items() if item.job is not None)
        return {item: job.request.writer for item, job in jobs if job is not None}

    def _verdicts(self) -> dict[tuple[int, str], str]:
        """Return the verdict on each item's two pictures, which raters are not shown."""
        found: dict[tuple[int, str], str] = {}
        for item in self.items():
            content = None if item.job is None else self._jobs.document(item.job, JSON)
            if content is not None:
                audit = json.loads(content)
                found |= {(item.id, LOCALISED): audit["verdict"], (item.id, BASE): audit["base"]["verdict"]}
        return found

    def comments(self) -> list[dict[str, Any]]:
        """Return every comment: rater, item, first (the system that was A), text, made."""
        return [
            dict(row)
            for row in self._database.read(
                "SELECT raters.name AS rater, item, first, text, comments.made FROM comments "
                "JOIN raters ON raters.id = rater JOIN assignments USING (rater, item) ORDER BY comments.made"
            )
        ]


_ITEMS = "SELECT items.*, jobs.state FROM items LEFT JOIN jobs ON jobs.id = items.job"


def _item(row: sqlite3.Row) -> Item:
    return Item(row["id"], row["prompt"], row["job"], row["state"])


def _rater(row: sqlite3.Row) -> Rater:
    return Rater(row["id"], row["name"], row["key"])
