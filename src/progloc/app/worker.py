"""The one thread that audits, and the queue before it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from progloc.accounts.schema import Audit, Cost
from progloc.app.documents import documents
from progloc.app.requests import AuditRequest, Limits, Refused
from progloc.app.store import CANCELLED, FAILED, RUNNING, WAITING, Jobs
from progloc.errors import ProglocError

LOG = logging.getLogger(__name__)
STOP_SECONDS = 10.0
"""How long a server that stops waits for the audit that runs."""


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

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    def announce(self, cost: Cost) -> None:
        """Take down what the audit will cost."""
        self.cost = cost
        self(0)

    def __call__(self, passes: int) -> None:
        """Count further passes.

        Raises:
            Stopped: it was cancelled, or has taken too long.
        """
        self.passes += passes
        if self.cancelled:
            raise Stopped("Cancelled.")
        if time.monotonic() - self._started > self.seconds:
            raise Stopped(f"Stopped after {self.seconds:g} seconds; a shorter prompt takes less.")


RunAudit = Callable[[AuditRequest, Progress], Audit]
"""Audits, calling the progress with the passes done; called in the worker's thread and nowhere else."""


class Worker:
    """One thread, one audit at a time: first those that somebody waits for, then a study's."""

    def __init__(self, run_audit: RunAudit, jobs: Jobs, limits: Limits):
        self._run_audit, self._jobs, self._limits = run_audit, jobs, limits
        self._changed = threading.Condition()
        self._waiting: deque[int] = deque()
        self._backlog: deque[int] = deque()
        self._running: tuple[int, Progress] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server left waiting."""
        for job in self._jobs.unfinished():
            (self._backlog if job.study else self._waiting).append(job.id)
        self._thread.start()

    def stop(self) -> None:
        """Stop the audit that runs at its next step and put it back to those that wait."""
        with self._changed:
            self._stopping = True
            if self._running:
                self._running[1].cancelled = True
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    def submit(self, request: AuditRequest) -> int:
        """Put an audit into the queue; return its job.

        Raises:
            Refused: 503, the queue is full.
        """
        with self._changed:
            if len(self._waiting) >= self._limits.waiting:
                raise Refused(503, f"{len(self._waiting)} audits are waiting already; try again in a while.")
            job = self._jobs.add(request)
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def submit_for_study(self, request: AuditRequest) -> int:
        """Put an item's audit behind all that people wait for; return its job."""
        with self._changed:
            job = self._jobs.add(request, study=True)
            self._backlog.append(job)
            self._changed.notify_all()
        return job

    def cancel(self, job: int) -> None:
        """Take a job out of the queue, or stop it at its next step; one that is finished stays as it is."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._jobs.set_state(job, CANCELLED)
            elif self._running and self._running[0] == job:
                self._running[1].cancelled = True

    def position(self, job: int) -> int | None:
        """Return how many audits are before this one, the one that runs counted; None where it does not wait."""
        with self._changed:
            if job not in self._waiting:
                return None
            return self._waiting.index(job) + (self._running is not None)

    def progress(self, job: int) -> Progress | None:
        """Return how far a job is while it runs, else None."""
        running = self._running
        return running[1] if running and running[0] == job else None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting or self._backlog)
                if self._stopping:
                    return
                job = (self._waiting or self._backlog).popleft()
                progress = Progress(self._limits.seconds)
                self._running = (job, progress)
            try:
                self._audit(job, progress)
            except Exception:  # the disk is full, say: this audit is lost, the queue is not
                LOG.exception("audit %d could not be stored", job)
            with self._changed:
                self._running = None

    def _audit(self, number: int, progress: Progress) -> None:
        job = self._jobs.get(number)
        assert job is not None
        self._jobs.set_state(number, RUNNING)
        try:
            audit = self._run_audit(job.request, progress)
            self._jobs.finish(number, audit.verdict, documents(audit, study=job.study))
        except Stopped as stopped:
            if self._stopping:
                self._jobs.set_state(number, WAITING)
            else:
                self._jobs.set_state(number, CANCELLED if progress.cancelled else FAILED, str(stopped))
        except ProglocError as error:
            self._jobs.set_state(number, FAILED, str(error))
        except Exception as error:
            LOG.exception("audit %d failed", number)
            self._jobs.set_state(
                number, FAILED, f"The audit failed ({type(error).__name__}); the server's log says more."
            )
