"""The measurements that pages are made from, each suite's folder as one compressed file, and back.

    python benchmarks/measurements.py NAME FOLDER    # quick results/quick: unpack, for `progloc report results/quick`

Each line of `benchmarks/measured/suites/NAME.jsonl.gz` is a JSON file of the folder, {"file": its path, "content": …}:
`suite.json`, every run's `result.json`, and `audit-study/study.json` where runs were audited. In pandas it is
`pandas.read_json(path, lines=True)`.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from progloc.errors import ProglocError
from progloc.files import read_json, write_bytes, write_json
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
SUITES = Path("benchmarks/measured/suites")
SUFFIX = ".jsonl.gz"


def read_lines(path: Path) -> list[Any]:
    """Return the JSON values of a compressed file, one a line; a damaged one raises ProglocError naming it."""
    try:
        return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ProglocError(
            f"{path} is no compressed JSON, a value a line ({error}); take it from the repository"
        ) from error


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write JSON values one a line, compressed, in one step; the same values give the same bytes."""
    lines = (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for value in values)
    write_bytes(path, gzip.compress("".join(lines).encode("utf-8"), mtime=0))


def pack(folder: Path, path: Path) -> None:
    """Write every JSON file of a folder to one compressed file, by path, its keys in their order."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.json"))
    write_lines(path, ({"file": name, "content": read_json(folder / name)} for name in names))


def unpack(path: Path, folder: Path) -> None:
    """Write the files that `pack` was given, to the byte where `progloc.files.write_json` had written them."""
    for line in read_lines(path):
        write_json(folder / line["file"], line["content"])


def by_name(folder: Path) -> dict[str, Path]:
    """Return the compressed files in a folder by their name without the suffix."""
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}


@contextmanager
def unpacked(files: Mapping[str, Path]) -> Iterator[Path]:
    """Unpack compressed files for a while, each into a folder of its name, in the folder that this yields."""
    with tempfile.TemporaryDirectory() as aside:
        for name, path in files.items():
            unpack(path, Path(aside, name))
        yield Path(aside)


@contextmanager
def changed(path: Path) -> Iterator[Path]:
    """Unpack a file, if it is there, into a folder for a while, and pack that folder again in its place."""
    with tempfile.TemporaryDirectory() as aside:
        if path.exists():
            unpack(path, Path(aside))
        yield Path(aside)
        pack(Path(aside), path)


def main() -> None:
    """Unpack a suite."""
    parser = script_parser(__doc__)
    files = by_name(ROOT / SUITES)
    parser.add_argument("name", metavar="NAME", choices=files, help=", ".join(files))
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    unpack(files[options.name], options.folder)


if __name__ == "__main__":
    run_script(main)
