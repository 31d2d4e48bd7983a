"""Text as it is read, and files written so that an interruption never leaves half of one."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from progloc.errors import ProglocError

JsonObject = dict[str, Any]
"""A JSON object, as a file of progloc holds it or a `to_dict` returns it."""

LOCK_FILE = ".writer.lock"
WRITER_FILE = ".writer.json"
"""Who holds the lock. It stands beside it, for whoever tries to lock a file may empty it."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether a file is what a process that was killed in `write_bytes` or `one_writer` left behind."""
    return (path.name.startswith(".") and path.name.endswith(".part")) or path.name in (LOCK_FILE, WRITER_FILE)


@functools.cache
def _lock(folder: Path) -> FileLock:
    """One lock a folder: the thread that holds it may acquire it again."""
    return FileLock(folder / LOCK_FILE)


@contextmanager
def one_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Make ``folder`` where it is missing, and keep every other process and thread from writing in it.

    The same thread may nest it. The lock ends with its process, however that ends, and leaves nothing behind; a folder
    that was made for it and stayed empty is removed.

    Args:
        folder: the folder to write in.
        wait: whether to wait for the present writer instead of raising.

    Raises:
        ProglocError: another writer holds it (the message says which and since when), or it cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder.resolve())
        lock.acquire(timeout=-1 if wait else 0)
        outermost = lock.lock_counter == 1
    except Timeout as error:
        raise ProglocError(
            f"{folder} is being written by {_writer(folder)}; wait for it to end, or give another folder with --out"
        ) from error
    except OSError as error:
        raise ProglocError(
            f"{folder} cannot be written ({error.strerror or error}); give another folder with --out"
        ) from error
    try:
        if outermost:
            since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
            write_json(folder / WRITER_FILE, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        if outermost:
            for name in (WRITER_FILE, LOCK_FILE):  # while the lock is held: whoever opened it sees that it has gone
                with suppress(OSError):
                    (folder / name).unlink()
        lock.release()
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def _writer(folder: Path) -> str:
    """Describe the process that holds a folder's lock."""
    try:
        about = read_mapping(folder / WRITER_FILE)
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ProglocError, KeyError):  # it has just begun, or just ended
        return "another process"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, in one step."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON in one step. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a damaged one raises ProglocError naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ProglocError(f"{path} is not valid JSON ({error}); expected a file written by progloc") from error


def decode_text(content: bytes | str, source: str) -> str:
    """Return text as all of progloc reads it, from a file, standard input or the command line.

    Args:
        content: bytes in UTF-8, or an argument of the command line, in which Python keeps other bytes as surrogates.
        source: its name in the error message.

    Raises:
        ProglocError: it is not UTF-8.
    """
    try:
        encoded = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        return normalise(encoded.decode("utf-8"))
    except UnicodeError as error:
        raise ProglocError(
            f"{source} is not UTF-8 at byte {error.start}; "  # type: ignore[attr-defined]
            "convert it, for instance with 'iconv -f latin1 -t utf-8'"
        ) from error


def normalise(text: str) -> str:
    r"""Return a text without a byte order mark before it, its line ends "\n"."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_standard_input() -> str:
    """Return the text on standard input; ProglocError where it is not UTF-8."""
    return decode_text(sys.stdin.buffer.read(), "standard input")


def cache_dir() -> Path:
    """Return the folder for what can be made again (tokens, scratch models): $PROGLOC_CACHE or the user's."""
    return Path(os.environ.get("PROGLOC_CACHE") or platformdirs.user_cache_dir("progloc")).expanduser()


def read_mapping(path: Path) -> JsonObject:
    """Read a JSON file that holds an object; anything else raises ProglocError naming it."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ProglocError(f"{path} holds {type(value).__name__}, not an object; expected a file written by progloc")
    return value


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ProglocError unless the disk that holds ``folder`` has ``needed_bytes`` free."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise ProglocError(
            f"{folder} needs about {needed_bytes / 2**20:.0f} MiB and its disk has {free / 2**20:.0f} MiB free; "
            "free some space or give another folder with --out"
        )
