"""Corpora that cannot be used, and caches that cannot be written: one clear line, and nothing half-done."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from progloc.blocks import IntArray, Partitioner, TokenisedText
from progloc.data import Corpus, load_corpus, split, tokenise, with_block_ids
from progloc.data.cache import cached_folder
from progloc.errors import ProglocError
from progloc.training.scratch import scratch_tokenizer

SHORT = Corpus("short", "Just one line of text.")


def refused(call: Callable[[], object]) -> str:
    """Return the message of the ProglocError that ``call`` raises, which is one line."""
    with pytest.raises(ProglocError) as caught:
        call()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return scratch_tokenizer(SHORT, "nano")


@pytest.mark.parametrize(
    "spec", ["missing.txt", "./missing", "/no/such/file", "a/b/c", "missing/", "~/no-such-file", Path("missing")]
)
def test_a_path_that_is_not_there(spec: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", None)  # never asked
    message = refused(lambda: load_corpus(spec))
    assert message.startswith("no corpus at ")
    assert "'python-docs', a text file, a folder" in message


def test_a_name_that_is_nothing() -> None:
    message = refused(lambda: load_corpus("no-such-thing"))  # the tests are offline, and the library says so
    assert message.startswith("no file, folder or dataset 'no-such-thing'")
    assert "'python-docs', a text file, a folder" in message


def test_a_dataset_of_several_string_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Dataset.from_dict({"title": ["a"], "body": ["b"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    assert "title, body" in refused(lambda: load_corpus("two-columns"))


@pytest.mark.parametrize("spec", ["", "  "])
def test_no_name_is_not_the_current_folder(spec: str) -> None:
    assert refused(lambda: load_corpus(spec)).startswith("no corpus given")


@pytest.mark.parametrize("content", ["", " \n\t\r\n", "\ufeff"])
def test_a_file_without_text(content: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(content.encode())
    message = refused(lambda: load_corpus(tmp_path / "empty.txt"))
    assert "empty.txt' holds no text" in message


def test_a_folder_without_text_files(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    message = refused(lambda: load_corpus(tmp_path))
    assert str(tmp_path) in message
    assert ".txt" in message


@pytest.mark.parametrize("inside", [False, True])
def test_not_utf8_names_file_and_byte(inside: bool, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Stra\xdfe".encode("latin1"))
    message = refused(lambda: load_corpus(tmp_path if inside else tmp_path / "latin.txt"))
    assert f"{tmp_path / 'latin.txt'} is not UTF-8 at byte 4" in message


def test_not_utf8_after_a_mark_counts_from_the_files_start(tmp_path: Path) -> None:
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    assert "at byte 5" in refused(lambda: load_corpus(tmp_path / "mark.txt"))


@pytest.mark.parametrize("unreadable", ["read_bytes", "is_dir"])
def test_no_permission(unreadable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("text", encoding="utf-8")

    def denied(path: Path) -> bytes:  # by hand, since a superuser may read anything
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, unreadable, denied)
    message = refused(lambda: load_corpus(file))
    assert str(file) in message
    assert "Permission denied" in message


def test_a_subfolder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")

    def denied(path: str) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    assert "Permission denied" in refused(lambda: load_corpus(tmp_path))


def test_a_name_too_long_to_be_a_path() -> None:
    assert "cannot read the corpus" in refused(lambda: load_corpus("x" * 5000))


def test_the_home_of_nobody() -> None:
    assert "cannot read the corpus" in refused(lambda: load_corpus("~no-such-user/text.txt"))


def test_too_short_for_one_sequence(tokenizer: PreTrainedTokenizerFast) -> None:
    count = len(tokenizer(SHORT.text)["input_ids"])
    message = refused(lambda: tokenise(SHORT, tokenizer, count + 1))
    assert f"'short' has {count} tokens, too few for one sequence of {count + 1}" in message
    assert len(tokenise(SHORT, tokenizer, count)) == 1


def test_a_sequence_of_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert "sequence length is 1" in refused(lambda: tokenise(SHORT, tokenizer, 1))


class SlowTokenizer:
    is_fast = False


def test_a_tokenizer_without_offsets() -> None:
    assert "SlowTokenizer gives no character offsets" in refused(lambda: tokenise(SHORT, SlowTokenizer(), 4))


def test_offsets_that_go_backwards(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backwards(PreTrainedTokenizerFast):
        def __call__(self, *args: object, **kwargs: object) -> dict[str, list[object]]:
            return {"input_ids": [1, 2, 3, 4], "offset_mapping": [(0, 2), (2, 4), (0, 1), (4, 5)]}

    backwards = Backwards(tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    message = refused(lambda: tokenise(Corpus("other", "abcde"), backwards, 2))
    assert "go backwards" in message
    assert "from [2, 4] to [0, 1]" in message


@pytest.mark.parametrize(
    "given",
    [np.zeros(5, np.int64), np.zeros((4, 1), np.int64), np.zeros(4), np.array([0, 0, -1, 0])],
    ids=["length", "shape", "type", "negative"],
)
def test_a_partitioner_that_gives_something_else(given: IntArray, tokenizer: PreTrainedTokenizerFast) -> None:
    class Wrong(Partitioner):
        def __call__(self, text: TokenisedText) -> IntArray:
            return given

    message = refused(lambda: with_block_ids(tokenise(SHORT, tokenizer, 4), Wrong()))
    assert "'Wrong' gave" in message
    assert "for 4 tokens; expected one integer ≥ 0 a token" in message


def test_one_sequence_cannot_be_split() -> None:
    one = Dataset.from_dict({"input_ids": [[1, 2]]})
    assert refused(lambda: split(one, 0.2, 0)).startswith("1 sequence(s) to split")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2])
def test_a_fraction_that_is_none(fraction: float) -> None:
    two = Dataset.from_dict({"input_ids": [[1, 2], [3, 4]]})
    assert f"fraction is {fraction}" in refused(lambda: split(two, fraction, 0))


class TestCachedFolder:
    def test_no_space_leaves_nothing(self, tmp_path: Path) -> None:
        def build(part: Path) -> None:
            (part / "first").write_text("written", encoding="utf-8")
            raise OSError(errno.ENOSPC, "No space left on device")

        message = refused(lambda: cached_folder(tmp_path / "entry", build))
        assert "No space left on device" in message
        assert "PROGLOC_CACHE" in message
        assert [path.name for path in tmp_path.iterdir()] == [".entry.lock"]

    def test_an_interruption_leaves_nothing(self, tmp_path: Path) -> None:
        def build(part: Path) -> None:
            (part / "first").write_text("written", encoding="utf-8")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cached_folder(tmp_path / "entry", build)
        assert [path.name for path in tmp_path.iterdir()] == [".entry.lock"]

    def test_what_a_killed_process_left_is_cleared(self, tmp_path: Path) -> None:
        (tmp_path / ".entry.part").mkdir()
        (tmp_path / ".entry.part" / "half").write_bytes(b"da")
        folder = cached_folder(tmp_path / "entry", lambda part: (part / "data").touch())
        assert sorted(path.name for path in folder.iterdir()) == ["data", "progloc-cache.json"]

    def test_two_at_once_build_once(self, tmp_path: Path) -> None:
        built = []

        def build(part: Path) -> None:
            built.append(part)
            time.sleep(0.2)  # long enough for the other to arrive
            (part / "data").write_bytes(b"data")

        with ThreadPoolExecutor() as pool:
            folders = list(pool.map(lambda _: cached_folder(tmp_path / "entry", build), range(2)))
        assert folders == [tmp_path / "entry"] * 2
        assert len(built) == 1

    def test_a_cache_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("", encoding="utf-8")
        assert "cannot write the cache folder" in refused(
            lambda: cached_folder(tmp_path / "cache" / "entry", Path.touch)
        )

    @pytest.mark.parametrize(
        "damage", [lambda f: f.unlink(), lambda f: f.write_bytes(b"DATA"), lambda f: f.write_bytes(b"")]
    )
    @pytest.mark.parametrize("file", ["data", "progloc-cache.json"])
    def test_damage_of_any_kind_is_made_good(self, damage: Callable[[Path], None], file: str, tmp_path: Path) -> None:
        built = []

        def build(part: Path) -> None:
            built.append(part)
            (part / "data").write_bytes(b"data")

        folder = cached_folder(tmp_path / "entry", build)
        assert cached_folder(tmp_path / "entry", build) == folder
        assert len(built) == 1
        damage(folder / file)
        cached_folder(tmp_path / "entry", build)
        assert len(built) == 2
        assert (folder / "data").read_bytes() == b"data"
