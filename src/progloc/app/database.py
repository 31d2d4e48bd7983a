"""The SQLite file of a server: what people entered, and the documents made of it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from progloc.errors import ProglocError

SCHEMA_VERSION = 1
APPLICATION = 0x70_6C_6F_63
"""SQLite's mark of whose file it is: "ploc"."""

SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    made TEXT NOT NULL,
    request TEXT NOT NULL,
    study INTEGER NOT NULL CHECK (study IN (0, 1)),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    verdict TEXT,
    message TEXT
) STRICT;
CREATE TABLE documents (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    name TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    base TEXT NOT NULL,
    prompt TEXT NOT NULL UNIQUE,
    job INTEGER REFERENCES jobs
) STRICT;
CREATE TABLE raters (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE,
    made TEXT NOT NULL
) STRICT;
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY,
    rater INTEGER NOT NULL REFERENCES raters,
    item INTEGER NOT NULL REFERENCES items,
    first TEXT NOT NULL CHECK (first IN ('localised', 'base')),
    UNIQUE (rater, item)
) STRICT;
CREATE TABLE clicks (
    id INTEGER PRIMARY KEY,
    rater INTEGER NOT NULL,
    item INTEGER NOT NULL,
    system TEXT NOT NULL CHECK (system IN ('localised', 'base')),
    scale TEXT NOT NULL,
    score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5),
    made TEXT NOT NULL,
    FOREIGN KEY (rater, item) REFERENCES assignments (rater, item)
) STRICT;
CREATE INDEX clicks_by_question ON clicks (rater, item, system, scale);
CREATE VIEW ratings AS
    SELECT * FROM clicks WHERE id IN (SELECT max(id) FROM clicks GROUP BY rater, item, system, scale);
CREATE TABLE comments (
    rater INTEGER NOT NULL,
    item INTEGER NOT NULL,
    text TEXT NOT NULL,
    made TEXT NOT NULL,
    PRIMARY KEY (rater, item),
    FOREIGN KEY (rater, item) REFERENCES assignments (rater, item)
) STRICT, WITHOUT ROWID;
"""
"""A click is never overwritten; a rating is the last click on its question."""


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
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ProglocError(
                f"{path} cannot be used ({error}); expected a file that progloc serve wrote, or a new name"
            ) from error

    def _prepare(self) -> None:
        run = self._connection.execute
        empty = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and run("PRAGMA application_id").fetchone()[0] != APPLICATION:
            raise ProglocError(f"{self.path} is another program's database; expected one that progloc serve wrote")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        if empty:
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} {marks} COMMIT;")
        version = run("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise ProglocError(
                f"{self.path} has version {version} of the data; this progloc reads version {SCHEMA_VERSION}: "
                "give another file with --data"
            )

    def read(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> int:
        """Run one statement inside a `transaction`; return the id of the row it inserted."""
        with self._lock:
            return self._connection.execute(sql, values).lastrowid or 0

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement as a transaction of its own; return the id of the row it inserted."""
        with self.transaction():
            return self.execute(sql, *values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is written inside, or nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
