import errno
import math
import os
from collections import namedtuple
from pathlib import Path

import pytest

from progloc import files
from progloc.errors import ProglocError
from progloc.files import cache_dir, read_json, require_space, write_json, write_text


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_is_written_as_utf_8_in_folders_that_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "λ.txt"
    write_text(path, "λ(ℓ)\n")
    assert path.read_bytes() == "λ(ℓ)\n".encode()


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, at):
    path = tmp_path / "result.json"
    write_text(path, "old")
    monkeypatch.setattr(*((files.os, "fsync") if at == "fsync" else (Path, "replace")), no_space)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_in_the_middle_of_the_text_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new" * 10_000 + "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_whole_before_it_takes_the_old_ones_name(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_text(path, "old")
    seen = []
    replace = Path.replace

    def watched(part: Path, target: Path) -> Path:
        seen.append((path.read_text(), part.read_text()))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_text(path, "new")
    assert seen == [("old", "new")]


def test_json_goes_there_and_back(tmp_path):
    value = {"λ": [0.0, 0.1, 1.0], "name": "quintic", "seed": None}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_text().endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"perplexity": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b'{"half": ', b"\xff", b""])
def test_damaged_json_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ProglocError, match=r"x\.json is not valid JSON"):
        read_json(path)


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGLOC_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("PROGLOC_CACHE")
    assert cache_dir().name == "progloc"


def test_space_is_asked_for_where_the_folder_will_be(tmp_path, monkeypatch):
    asked = []
    usage = namedtuple("usage", "free")

    def disk_usage(path: Path) -> usage:
        asked.append(path)
        return usage(free=3 * 2**20)

    monkeypatch.setattr(files.shutil, "disk_usage", disk_usage)
    require_space(tmp_path / "not" / "there", 3 * 2**20)
    with pytest.raises(ProglocError, match=r"there needs about 4 MiB and its disk has 3 MiB free; .*--out"):
        require_space(tmp_path / "not" / "there", 4 * 2**20)
    assert asked == [tmp_path, tmp_path]
