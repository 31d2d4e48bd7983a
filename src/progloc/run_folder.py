"""A results folder: which configuration it is for (another one is refused), who writes it, and whether it is done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from progloc.config import SCHEMA_VERSION, RunConfig
from progloc.errors import ProglocError
from progloc.files import JsonObject, is_unfinished, one_writer, read_mapping

RESULT_FILE = "result.json"
RUN_FILE = "run.json"
EVENTS_FILE = "events.jsonl"
MODEL_FOLDER = "model"
REFERENCE_FOLDER = "reference"


def plain(config: RunConfig) -> JsonObject:
    """Return a configuration as JSON gives it back, with lists for tuples."""
    mapping: JsonObject = json.loads(json.dumps(dataclasses.asdict(config)))
    return mapping


def describe_run(config: RunConfig, name: str, role: str = "architecture") -> JsonObject:
    """Return what `run.json` says of a run before its data is known: what `check_folder` can refuse early."""
    return {"schema_version": SCHEMA_VERSION, "name": name, "role": role, "config": plain(config)}


def finished(folder: Path) -> bool:
    """Return whether the run in ``folder`` is done."""
    return (folder / RESULT_FILE).exists()


def _flat(mapping: JsonObject, prefix: str = "") -> JsonObject:
    flat: JsonObject = {}
    for key, value in mapping.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def check_folder(folder: Path, file: str, description: JsonObject) -> None:
    """Raise ProglocError unless ``folder`` is new, empty, or holds in ``file`` what ``description`` says."""
    path = folder / file
    try:
        exists = path.exists()
    except OSError as error:
        raise ProglocError(f"{folder}: {error.strerror}; give another folder with --out") from error
    ancestor = next(parent for parent in folder.absolute().parents if parent.exists())
    if not ancestor.is_dir():
        raise ProglocError(f"{ancestor} is a file, so {folder} cannot be made; give another folder with --out")
    if exists:
        stored = read_mapping(path)
        # a setting newer than the folder had, when it was written, what is now the default
        defaults: JsonObject = {key: plain(RunConfig()) for key in ("config", "base") if key in stored}
        defaults["data"] = {"special_tokens": []}
        there = _flat(defaults) | _flat(stored)
        for key, value in _flat(description).items():
            if there.get(key) != value:
                raise ProglocError(
                    f"{folder} holds another configuration ({key} is {there.get(key)!r} there, {value!r} here); "
                    "give another folder with --out, or remove that one"
                )
    elif folder.exists() and (not folder.is_dir() or not all(map(is_unfinished, folder.iterdir()))):
        raise ProglocError(f"{folder} is not empty and holds no {file}; give a new folder with --out")


@contextmanager
def claimed(folder: Path, file: str, description: JsonObject) -> Iterator[None]:
    """Check that ``folder`` is for this (`check_folder`), and be its one writer (`one_writer`) within the context.

    A finished run is only read, so several processes may have it, and it need not be writable.
    """
    check_folder(folder, file, description)
    if finished(folder):
        yield
        return
    with one_writer(folder):
        check_folder(folder, file, description)  # another process may have written it in between
        yield
