"""The audits that were asked for, how far each is, and the documents that came of them."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from progloc.app.database import Database, now
from progloc.app.requests import AuditRequest

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
STOPPED = "The server stopped while this audit ran; ask for it again."


@dataclass(frozen=True)
class Job:
    """One audit that was asked for."""

    id: int
    made: str
    request: AuditRequest
    study: bool
    """Whether it is an item's of a study, and none that somebody typed in."""
    state: str
    verdict: str | None
    message: str | None
    """Why it failed."""
    documents: tuple[str, ...] = ()
    """Their names; none before it is done."""


class Jobs:
    """The jobs of a database."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, request: AuditRequest, *, study: bool = False) -> int:
        """Store a job that waits; return its id."""
        return self._database.write(
            "INSERT INTO jobs (made, request, study, state) VALUES (?, ?, ?, ?)",
            now(), json.dumps(dataclasses.asdict(request)), int(study), WAITING,
        )  # fmt: skip

    def get(self, job: int) -> Job | None:
        """Return a job, or None."""
        rows = self._database.read("SELECT * FROM jobs WHERE id = ?", job)
        if not rows:
            return None
        named = self._database.read("SELECT name FROM documents WHERE job = ? ORDER BY name", job)
        return dataclasses.replace(_job(rows[0]), documents=tuple(row["name"] for row in named))

    def latest(self, count: int) -> list[Job]:
        """Return the latest jobs that somebody typed in, latest first, without the names of their documents."""
        return [
            _job(row)
            for row in self._database.read("SELECT * FROM jobs WHERE NOT study ORDER BY id DESC LIMIT ?", count)
        ]

    def unfinished(self) -> list[Job]:
        """Return the jobs that wait, in order; those that ran when the server stopped count as failed from now on."""
        self._database.write("UPDATE jobs SET state = ?, message = ? WHERE state = ?", FAILED, STOPPED, RUNNING)
        return [_job(row) for row in self._database.read("SELECT * FROM jobs WHERE state = ? ORDER BY id", WAITING)]

    def set_state(self, job: int, state: str, message: str | None = None) -> None:
        """Store how far a job is."""
        self._database.write("UPDATE jobs SET state = ?, message = ? WHERE id = ?", state, message, job)

    def finish(self, job: int, verdict: str, documents: Mapping[str, str]) -> None:
        """Store what came of a job, and that it is done, in one transaction."""
        packed = {name: zlib.compress(text.encode("utf-8")) for name, text in documents.items()}
        with self._database.transaction():
            for name, content in packed.items():
                self._database.execute("INSERT INTO documents VALUES (?, ?, ?)", job, name, content)
            self._database.execute("UPDATE jobs SET state = ?, verdict = ? WHERE id = ?", DONE, verdict, job)

    def document(self, job: int, name: str) -> str | None:
        """Return one of the documents of a job, or None."""
        rows = self._database.read("SELECT content FROM documents WHERE job = ? AND name = ?", job, name)
        return zlib.decompress(rows[0]["content"]).decode("utf-8") if rows else None


def _job(row: sqlite3.Row) -> Job:
    return Job(
        row["id"], row["made"], AuditRequest(**json.loads(row["request"])), bool(row["study"]),
        row["state"], row["verdict"], row["message"],
    )  # fmt: skip
