"""Folders that can be made again: built once, never seen half-built, rebuilt when damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from progloc.errors import ProglocError
from progloc.files import read_json, write_json

MANIFEST = "progloc-cache.json"


def key_of(*parts: object) -> str:
    """Return a name for what was made from ``parts`` (anything JSON holds): 32 hexadecimal digits of their SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, holding what ``build(part)`` writes; built only where it is missing or damaged.

    It is built under another name beside its place and renamed, so an interruption leaves nothing half-built. Processes
    that need the same folder wait for the one that builds it. A manifest of the files' SHA-256 shows damage.

    Raises:
        ProglocError: the folder cannot be written (no permission, no space).
    """
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_whole(folder):
                _rebuild(folder, build)
    except OSError as error:
        raise ProglocError(
            f"cannot write the cache folder {folder} ({error.strerror or error}); "
            "free some space there or set PROGLOC_CACHE to another folder"
        ) from error
    return folder


def _rebuild(folder: Path, build: Callable[[Path], None]) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: we hold the lock, so none is at work
    part.mkdir()
    try:
        build(part)
        files = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
        write_json(part / MANIFEST, _digests(part, files))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        written = read_json(folder / MANIFEST)
        return bool(written == _digests(folder, written))
    except (OSError, ProglocError):
        return False


def _digests(folder: Path, files: Iterable[str]) -> dict[str, str]:
    def digest(path: Path) -> str:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    return {name: digest(folder / name) for name in files}
