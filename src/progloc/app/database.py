"""The SQLite file of a server: what people entered, and the documents made of it."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from progloc.errors import ProglocError

SCHEMA_VERSION = 1
APPLICATION = 0x70_6C_6F_63
"""SQLite's mark of whose file it is: "ploc"."""

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
"""The states of a job."""

SCHEMA = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def now() -> str:
    """Return the time as it is stored: ISO, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Database:
    """One connection to the file, shared by threads under a lock; `close` it.

    Whatever a transaction has written is on the disk when it ends (`synchronous=FULL`), whatever happens to the
    process, or the machine, after.
    """

    def __init__(self, path: Path, *, create: bool = True):
        """Open the file, or make it.

        Args:
            path: the file; its folder is made where it is missing.
            create: make one where there is none.

        Raises:
            ProglocError: no file, or one that is not this program's or of another version of it.
        """
        if not create and not path.is_file():
            raise ProglocError(f"no file at {path}; expected the data of a study, which progloc serve --study makes")
        self.path, self._lock = path, threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level="IMMEDIATE")
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ProglocError(
                f"{path} cannot be used ({error}); expected a file that progloc serve wrote, or a new name"
            ) from error

    def _prepare(self) -> None:
        ((tables, application, version),) = self.read(
            "SELECT (SELECT count(*) FROM sqlite_master), * FROM pragma_application_id, pragma_user_version"
        )
        if tables and application != APPLICATION:
            raise ProglocError(f"{self.path} is another program's database; expected one that progloc serve wrote")
        if tables and version != SCHEMA_VERSION:
            raise ProglocError(
                f"{self.path} has version {version} of the data; this progloc reads version {SCHEMA_VERSION}: "
                "give another file with --data"
            )
        run = self._connection.executescript
        run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        if not tables:
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
            run(f"BEGIN IMMEDIATE; {SCHEMA} {marks} COMMIT;")

    def read(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement as a transaction of its own; return the id of the row it inserted."""
        with self.transaction() as connection:
            return connection.execute(sql, values).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all that is written inside, or nothing of it."""
        with self._lock, self._connection:
            yield self._connection

    def document(self, job: int | None, name: str) -> str | None:
        """Return one of the documents of a job, or None."""
        rows = self.read("SELECT content FROM documents WHERE job = ? AND name = ?", job, name)
        return zlib.decompress(rows[0]["content"]).decode("utf-8") if rows else None

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
