"""The audits that were asked for, how far each is, and the one thread that makes them."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from progloc.accounts.schema import Audit, Cost
from progloc.app.blinding import documents
from progloc.app.database import CANCELLED, DONE, FAILED, RUNNING, WAITING, Database, now
from progloc.app.requests import AuditRequest, Limits, Refused
from progloc.errors import ProglocError
from progloc.report.formats import counted

LOG = logging.getLogger(__name__)
STOPPED = "The server stopped while this audit ran; ask for it again."
STOP_SECONDS = 10.0
"""How long a server that stops waits for the audit that runs."""
RETRY_SECONDS = 5.0
"""How long the worker waits where nothing can be stored."""


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


class Stopped(Exception):
    """Raised inside an audit that was cancelled or has taken too long."""


@dataclass
class Progress:
    """How far an audit is; it calls this with the passes it has just done, and is stopped there where it has to be."""

    seconds: float
    """The time it may take."""
    passes: int = 0
    """Forward passes done."""
    cost: Cost | None = None
    """What it takes in all, once the audit knows."""
    cancelled: bool = False
    started: float = field(default_factory=time.monotonic)

    def announce(self, cost: Cost) -> None:
        """Take down what the audit will cost."""
        self.cost = cost
        self(0)

    def __call__(self, passes: int) -> None:
        """Count further passes; raise Stopped where the audit was cancelled or has taken too long."""
        self.passes += passes
        if self.cancelled:
            raise Stopped("Cancelled.")
        if time.monotonic() - self.started > self.seconds:
            raise Stopped(f"Stopped after {self.seconds:g} seconds; a shorter prompt takes less.")


RunAudit = Callable[[AuditRequest, Progress], Audit]
"""Audits, calling the progress with the passes done; called in the worker's thread and nowhere else."""


class Queue:
    """The jobs of a database and the thread that makes them: first those that somebody waits for, then a study's."""

    def __init__(self, run_audit: RunAudit, database: Database, limits: Limits):
        self._run_audit, self.database, self._limits = run_audit, database, limits
        self._changed = threading.Condition()
        self._running: dict[int, Progress] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server left waiting; what ran when it was killed counts as failed."""
        self.database.write("UPDATE jobs SET state = ?, message = ? WHERE state = ?", FAILED, STOPPED, RUNNING)
        self._thread.start()

    def stop(self) -> None:
        """Stop the audit that runs at its next step and put it back to those that wait."""
        with self._changed:
            self._stopping.set()
            for progress in self._running.values():
                progress.cancelled = True
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    def get(self, job: int) -> Job | None:
        """Return a job, or None."""
        return next(iter(self._select("WHERE id = ?", job)), None)

    def latest(self, count: int) -> list[Job]:
        """Return the latest jobs that somebody typed in, latest first."""
        return self._select("WHERE NOT study ORDER BY id DESC LIMIT ?", count)

    def submit(self, request: AuditRequest, *, study: bool = False) -> int:
        """Store a job that waits, a study's after all that people wait for; return its id.

        Raises:
            Refused: 503, too many people's wait already.
        """
        with self._changed:
            waiting = len(self._waiting())
            if waiting >= self._limits.waiting and not study:
                audits = f"{counted(waiting, 'audit')} {'is' if waiting == 1 else 'are'}"
                raise Refused(503, f"{audits} waiting already; try again in a while.")
            self._changed.notify_all()
            return self.database.write(
                "INSERT INTO jobs (made, request, study, state) VALUES (?, ?, ?, ?)",
                now(), request.model_dump_json(), study, WAITING,
            )  # fmt: skip

    def cancel(self, job: int) -> None:
        """Take a job out of the queue, or stop it at its next step; one that is finished stays as it is."""
        with self._changed:
            if job in self._running:
                self._running[job].cancelled = True
            elif job in self._waiting():
                self._set_state(job, CANCELLED)

    def state(self, number: int) -> dict[str, Any]:
        """Return how far a job is; its position counts the audits before it, the one that runs too, while it waits."""
        with self._changed:
            (job,) = self._select("WHERE id = ?", number)
            waiting, progress = self._waiting(), self._running.get(number)
            position = waiting.index(number) + len(self._running) if number in waiting else None
        cost = progress.cost if progress else None
        return {
            "id": job.id,
            "state": job.state,
            "verdict": job.verdict,
            "message": job.message,
            "position": position,
            "passes_done": progress.passes if progress else None,
            "passes": cost.passes if cost else None,
            "tokens": cost.tokens if cost else None,
        }

    def _select(self, rest: str, *values: Any) -> list[Job]:
        rows = self.database.read(f"SELECT * FROM jobs {rest}", *values)
        return [Job(**{**row, "request": AuditRequest.model_validate_json(row["request"])}) for row in rows]

    def _waiting(self) -> list[int]:
        """Return those that somebody typed in and that wait, in order."""
        rows = self.database.read("SELECT id FROM jobs WHERE state = ? AND NOT study ORDER BY id", WAITING)
        return [row["id"] for row in rows]

    def _set_state(self, job: int, state: str, message: str | None = None) -> None:
        self.database.write("UPDATE jobs SET state = ?, message = ? WHERE id = ?", state, message, job)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._audit_next()
            except Exception:  # the disk is full, say: this audit is lost, the queue is not
                LOG.exception("an audit could not be stored")
                self._stopping.wait(RETRY_SECONDS)

    def _audit_next(self) -> None:
        first = partial(self._select, "WHERE state = ? ORDER BY study, id LIMIT 1", WAITING)
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or first())
            if self._stopping.is_set():
                return
            (job,) = first()
            self._set_state(job.id, RUNNING)
            progress = self._running[job.id] = Progress(self._limits.seconds)
        try:
            self._finish(job, self._run_audit(job.request, progress))
        except Stopped as stopped:
            if self._stopping.is_set():
                self._set_state(job.id, WAITING)
            else:
                self._set_state(job.id, CANCELLED if progress.cancelled else FAILED, str(stopped))
        except ProglocError as error:
            self._set_state(job.id, FAILED, str(error))
        except Exception as error:
            LOG.exception("audit %d failed", job.id)
            message = f"The audit failed ({type(error).__name__}); the server's log says more."
            self._set_state(job.id, FAILED, message)
        finally:
            with self._changed:
                del self._running[job.id]

    def _finish(self, job: Job, audit: Audit) -> None:
        texts = documents(audit, study=job.study)
        rows = [(job.id, name, zlib.compress(text.encode("utf-8"))) for name, text in texts.items()]
        with self.database.transaction() as connection:
            connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", rows)
            connection.execute("UPDATE jobs SET state = ?, verdict = ? WHERE id = ?", (DONE, audit.verdict, job.id))
