"""Suites as one compressed file each: nothing is lost on the way there and back."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from measurements import ROOT, SUFFIX, SUITES, by_name, changed, pack, read_lines, unpack, unpacked, write_lines
from progloc import ProglocError
from progloc.paper.suite import load_suite
from synthetic_suite import make_suite


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_unpacked_is_what_was_packed_to_the_byte(tmp_path: Path) -> None:
    folder, path = make_suite(tmp_path / "suite", seeds=(0, 1)), tmp_path / f"suite{SUFFIX}"
    pack(folder, path)
    unpack(path, tmp_path / "again")
    before = {name: content for name, content in contents(folder).items() if name.endswith(".json")}
    assert contents(tmp_path / "again") == before
    assert load_suite(tmp_path / "again").runs == load_suite(folder).runs


def test_the_same_files_are_packed_to_the_same_bytes(tmp_path: Path) -> None:
    folder, path = make_suite(tmp_path / "suite", seeds=(0,)), tmp_path / f"suite{SUFFIX}"
    pack(folder, path)
    before = path.read_bytes()
    for file in folder.rglob("*.json"):
        os.utime(file, (0, 0))
    pack(folder, path)
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", by_name(ROOT / SUITES))
def test_every_suite_of_the_repository_is_packed_again_to_what_it_is(name: str, tmp_path: Path) -> None:
    path, again = by_name(ROOT / SUITES)[name], tmp_path / f"{name}{SUFFIX}"
    with unpacked({name: path}) as folder:
        pack(folder / name, again)
        assert not load_suite(folder / name).missing
    assert read_lines(again) == read_lines(path)


def test_a_packed_folder_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / f"new{SUFFIX}"
    for name in ("b", "a"):
        with changed(path) as folder:
            (folder / f"{name}.json").write_text("[0.1, null]")
    assert read_lines(path) == [{"file": f"{name}.json", "content": [0.1, None]} for name in ("a", "b")]


def test_what_fails_leaves_the_packed_folder_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / f"new{SUFFIX}"
    write_lines(path, [])
    with pytest.raises(ProglocError), changed(path) as folder:
        unpack(tmp_path / "none", folder)
    assert read_lines(path) == []


@pytest.mark.parametrize("damaged", [b"no gzip", "cut"])
def test_a_damaged_file_is_named(damaged: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / f"new{SUFFIX}"
    write_lines(path, [{"a": 1}] * 9)
    path.write_bytes(path.read_bytes()[:-9] if isinstance(damaged, str) else damaged)
    with pytest.raises(ProglocError, match=f"new{SUFFIX}"):
        read_lines(path)


def test_a_suite_is_unpacked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["measurements.py", "quick", str(tmp_path / "quick")])
    runpy.run_path(str(ROOT / "benchmarks" / "measurements.py"), run_name="__main__")
    assert load_suite(tmp_path / "quick").plan["suite"] == "quick"
