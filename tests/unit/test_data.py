"""From a corpus to batches: what is read, how it is cut, and that the split and the cache can be relied on."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from progloc.blocks import IntArray, Partitioner, TokenisedText, partitioner
from progloc.blocks.so_far import BlocksSoFar
from progloc.data import Corpus, collate, load_corpus, split, tokenise, with_block_ids
from progloc.training.scratch import scratch_tokenizer

PROSE = Corpus(
    "prose", "".join(f"The {n}th door is shut. Who shut it, and why? 😀 – nobody knows.\n\n" for n in range(60))
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return scratch_tokenizer(PROSE, "nano")


@pytest.fixture(scope="module")
def beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same, but it puts <|endoftext|> before every text, as Llama's tokenizers put <s>."""
    made = copy.deepcopy(tokenizer)
    end = ("<|endoftext|>", made.eos_token_id)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{end[0]} $A", pair=f"{end[0]} $A $B", special_tokens=[end]
    )
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROGLOC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestCorpora:
    def test_python_docs_is_the_reference_every_time(self) -> None:
        corpus = load_corpus("python-docs")
        assert corpus.text.startswith('The "assert" statement')
        assert 400_000 < len(corpus.text) < 700_000  # differs a little by Python version
        assert corpus.sha256 == load_corpus("python-docs").sha256

    def test_a_file_loses_its_mark_and_its_carriage_returns(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_bytes("\ufeffone\r\ntwo\rthree ü\n".encode())
        assert load_corpus(tmp_path / "a.log").text == "one\ntwo\nthree ü\n"

    def test_a_folder_is_read_in_the_order_of_its_paths(self, tmp_path: Path) -> None:
        for name in ("b.md", "a/z.rst", "c.TXT", "d.py", ".hidden/e.txt", ".f.txt"):
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(name, encoding="utf-8")
        assert load_corpus(str(tmp_path)).text == "a/z.rst\n\nb.md\n\nc.TXT"

    def test_the_hash_is_of_the_text_alone(self) -> None:
        assert Corpus("a", "text").sha256 == Corpus("b", "text").sha256 != Corpus("a", "text ").sha256

    @pytest.mark.parametrize(
        ("spec", "asked"),
        [
            ("owner/name", ("owner/name", None, "train")),
            ("name:config", ("name", "config", "train")),
            ("name:config:train[:10%]", ("name", "config", "train[:10%]")),
        ],
    )
    def test_a_dataset_by_name(self, spec: str, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []

        def fake(name: str, config: str | None, split: str) -> Dataset:
            calls.append((name, config, split))
            return Dataset.from_dict({"title": ["a", "b"], "text": ["one", "two"]})

        monkeypatch.setattr(datasets, "load_dataset", fake)
        assert load_corpus(spec).text == "one\n\ntwo"
        assert calls == [asked]

    def test_a_datasets_only_column_of_strings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = Dataset.from_dict({"id": [1, 2, 3], "body": ["one", None, "two"]})
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
        assert load_corpus("some-name").text == "one\n\ntwo"


class TestTokenise:
    def test_the_sequences_are_the_corpus(self, tokenizer: PreTrainedTokenizerFast) -> None:
        dataset = tokenise(PROSE, tokenizer, 16)
        whole = tokenizer(PROSE.text)["input_ids"]
        assert np.concatenate(dataset["input_ids"]).tolist() == whole[: len(whole) // 16 * 16]

    def test_offsets_point_into_the_sequences_own_text(self, tokenizer: PreTrainedTokenizerFast) -> None:
        for row in tokenise(PROSE, tokenizer, 16):
            assert row["text"] in PROSE.text
            assert row["offsets"][0][0] == 0
            assert row["offsets"][-1][1] == len(row["text"])
            for token, (start, end) in zip(row["input_ids"], row["offsets"], strict=True):
                piece = tokenizer.decode([token])
                assert piece == row["text"][start:end] or "\ufffd" in piece  # part of a character's bytes

    def test_the_bytes_of_one_character_share_its_span(self, tokenizer: PreTrainedTokenizerFast) -> None:
        rows = tokenise(Corpus("gothic", "𐍈" * 9), tokenizer, 6)  # no two of its four bytes stood together in training
        assert [row["text"] for row in rows][:2] == ["𐍈𐍈", "𐍈𐍈"]  # the boundary cuts the second character
        assert rows[0]["offsets"] == [[0, 1]] * 4 + [[1, 2]] * 2

    def test_the_corpus_begins_as_the_tokenizer_begins_a_text(self, beginning: PreTrainedTokenizerFast) -> None:
        dataset, whole = tokenise(PROSE, beginning, 16), beginning(PROSE.text)["input_ids"]
        assert whole[0] == beginning.bos_token_id
        assert np.concatenate(dataset["input_ids"]).tolist() == whole[: len(whole) // 16 * 16]
        assert dataset[0]["offsets"][:2] == [[0, 0], [0, dataset[0]["offsets"][1][1]]]
        assert "".join(dataset["text"][:]) == PROSE.text[: len("".join(dataset["text"][:]))]

    def test_what_a_text_begins_with_itself_is_not_put_there_twice(self, beginning: PreTrainedTokenizerFast) -> None:
        story = Corpus("story", "<|endoftext|>" + PROSE.text)
        assert tokenise(story, beginning, 16).to_dict() == tokenise(PROSE, beginning, 16).to_dict()

    def test_blocks_are_those_that_generation_gives_the_same_ids(self, beginning: PreTrainedTokenizerFast) -> None:
        for name in ("sentences", "paragraphs", "phrases", "fixed:5"):
            so_far = BlocksSoFar(partitioner(name), beginning)
            for row in with_block_ids(tokenise(PROSE, beginning, 64), partitioner(name)):
                assert so_far(torch.tensor([row["input_ids"]]))[0].tolist() == row["block_ids"]

    @pytest.mark.slow
    def test_a_megabyte_in_one_line_takes_seconds(self, tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
        started = time.perf_counter()
        dataset = tokenise(Corpus("long", "knows nobody why " * 60_000), tokenizer, 128)
        assert time.perf_counter() - started < 30
        assert len(dataset) > 1000

    def test_no_warning_that_the_text_is_longer_than_the_context(
        self, tokenizer: PreTrainedTokenizerFast, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokenizer, "model_max_length", 8)
        warnings: list[str] = []
        monkeypatch.setattr(
            "transformers.tokenization_utils_base.logger.warning", lambda text, *_: warnings.append(text)
        )
        tokenise(PROSE, tokenizer, 16)
        assert warnings == []

    def test_tokenised_once(
        self, tokenizer: PreTrainedTokenizerFast, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = tokenise(PROSE, tokenizer, 16)
        tokenizer("used in between", truncation=True, max_length=2)  # leaves a trace in the serialisation
        monkeypatch.setattr("progloc.data.sequences._sequences", None)
        assert tokenise(PROSE, tokenizer, 16).to_dict() == first.to_dict()

    def test_another_text_length_or_tokenizer_is_another_entry(
        self, tokenizer: PreTrainedTokenizerFast, cache: Path
    ) -> None:
        other = scratch_tokenizer(Corpus("other", "an altogether different text " * 9), "nano")
        tokenise(PROSE, tokenizer, 16)
        tokenise(PROSE, tokenizer, 17)
        tokenise(PROSE, other, 16)
        tokenise(Corpus("prose", PROSE.text[1:]), tokenizer, 16)
        tokenise(Corpus("by another name", PROSE.text), tokenizer, 16)
        assert len([entry for entry in (cache / "sequences").iterdir() if entry.is_dir()]) == 4

    def test_a_damaged_entry_is_rebuilt(self, tokenizer: PreTrainedTokenizerFast, cache: Path) -> None:
        first = tokenise(PROSE, tokenizer, 16).to_dict()
        (arrow,) = (cache / "sequences").glob("*/*.arrow")
        os.truncate(arrow, arrow.stat().st_size // 2)
        assert tokenise(PROSE, tokenizer, 16).to_dict() == first


class TestBlockIds:
    def test_fixed_blocks(self, tokenizer: PreTrainedTokenizerFast) -> None:
        sequences = tokenise(PROSE, tokenizer, 16)
        dataset = with_block_ids(sequences, partitioner("fixed:5"))
        assert dataset.column_names == ["input_ids", "block_ids"]
        assert dataset["input_ids"][:] == sequences["input_ids"][:]
        assert all(row["block_ids"] == [i // 5 for i in range(16)] for row in dataset)

    def test_the_partitioner_sees_text_tokens_and_offsets(self, tokenizer: PreTrainedTokenizerFast) -> None:
        class Lines(Partitioner):
            def __call__(self, text: TokenisedText) -> IntArray:
                return np.array([text.text.count("\n", 0, int(start)) for start, _ in text.offsets])

        sequences = split(tokenise(PROSE, tokenizer, 64), 0.2, seed=0).train  # a selection, not the whole
        for row, blocks in zip(sequences, with_block_ids(sequences, Lines())["block_ids"], strict=True):
            assert blocks == [row["text"][:start].count("\n") for start, _ in row["offsets"]]


@pytest.fixture(scope="module")
def numbered() -> Dataset:
    return Dataset.from_dict({"input_ids": [[n, n] for n in range(100)]})


def firsts(dataset: Dataset) -> list[int]:
    return [row[0] for row in dataset["input_ids"]]


class TestSplit:
    @given(
        count=st.integers(2, 40),
        fraction=st.floats(0.01, 0.99),
        seed=st.integers(0, 2**32 - 1),
        most=st.integers(2, 50),
    )
    def test_disjoint_whole_and_never_empty(
        self, numbered: Dataset, count: int, fraction: float, seed: int, most: int
    ) -> None:
        parts = split(numbered.select(range(count)), fraction, seed, most)
        train, validation = firsts(parts.train), firsts(parts.validation)
        assert len(set(train) | set(validation)) == len(train) + len(validation) == min(count, most)
        assert train
        assert validation
        assert abs(len(validation) - fraction * min(count, most)) <= 1

    def test_the_seed_draws_it(self, numbered: Dataset) -> None:
        a, b, c = (split(numbered, 0.2, seed) for seed in (0, 0, 1))
        assert firsts(a.validation) == firsts(b.validation) != firsts(c.validation)
        assert a.sha256 == b.sha256 != c.sha256

    def test_the_hash_follows_the_tokens_and_not_the_blocks(self, numbered: Dataset) -> None:
        blocked = numbered.add_column("block_ids", [[0, 1]] * 100)
        other = Dataset.from_dict({"input_ids": [[n, n + 1] for n in range(100)]})
        assert split(blocked, 0.2, 0).sha256 == split(numbered, 0.2, 0).sha256 != split(other, 0.2, 0).sha256

    @pytest.mark.parametrize("change", [{"validation_fraction": 0.3}, {"max_sequences": 50}])
    def test_the_hash_follows_the_division(self, numbered: Dataset, change: dict[str, float]) -> None:
        settings = {"validation_fraction": 0.2, "seed": 0}
        assert split(numbered, **settings).sha256 != split(numbered, **(settings | change)).sha256


class TestCollate:
    def test_equal_lengths_are_stacked(self) -> None:
        batch = collate([{"input_ids": [1, 2], "block_ids": [0, 1]}, {"input_ids": [3, 4], "block_ids": [0, 0]}])
        assert {name: tensor.tolist() for name, tensor in batch.items()} == {
            "input_ids": [[1, 2], [3, 4]],
            "attention_mask": [[1, 1], [1, 1]],
            "labels": [[1, 2], [3, 4]],
            "block_ids": [[0, 1], [0, 0]],
        }
        assert {tensor.dtype for tensor in batch.values()} == {torch.int64}

    def test_padding_on_either_side(self) -> None:
        features = [{"input_ids": [1, 2, 3], "block_ids": [0, 0, 1]}, {"input_ids": [4], "block_ids": [0]}]
        right = collate(features, pad_token_id=9)
        left = collate(features, pad_token_id=9, padding_side="left")
        assert [right[name][1].tolist() for name in right] == [[4, 9, 9], [1, 0, 0], [4, -100, -100], [0, -1, -1]]
        assert [left[name][1].tolist() for name in left] == [[9, 9, 4], [0, 0, 1], [-100] * 3, [-1, -1, 0]]

    def test_given_labels_and_masks_are_kept(self) -> None:
        batch = collate([{"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [3, 0], "attention_mask": [1, 0]}])
        assert batch["labels"].tolist() == [[-100, 2], [3, -100]]
        assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
        assert "block_ids" not in batch
