"""Blocks made of embeddings: what was planted is found, bits are a Gaussian's, and blocks stay where they were made."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.linalg import svds
from scipy.stats import multivariate_normal, ttest_rel

from progloc import LocalityConfig, ProglocError, load, localize
from progloc.blocks import FloatArray, IntArray, Partitioner, Recruited, TokenisedText, partitioner
from progloc.blocks.recruited import BlockCode
from progloc.data import load_corpus, tokenise, with_block_ids
from progloc.evaluation import evaluate_folder, partition_text
from progloc.training.scratch import scratch_tokenizer

NAMES = ["similarity", "similarity-clusters", "recruited"]
GROUPS, WORDS, WIDTH = 4, 20, 6
"""The planted vocabulary: tokens 0 to 19 are alike, 20 to 39, …"""

CENTRES = np.repeat(np.eye(GROUPS, WIDTH), WORDS, axis=0)
PLANTED = (CENTRES + np.random.default_rng(0).normal(scale=0.15, size=CENTRES.shape)).astype(np.float32)


def drawn(below: int, size: int) -> IntArray:
    return np.random.default_rng(size).integers(0, below, size=size)


def text_of(input_ids: IntArray | list[int]) -> TokenisedText:
    starts = np.arange(len(input_ids))
    return TokenisedText(
        "x" * len(input_ids), np.asarray(input_ids, dtype=np.int64), np.stack([starts, starts + 1], -1)
    )


def of_groups(groups: IntArray | list[int]) -> TokenisedText:
    return text_of(np.asarray(groups) * WORDS + drawn(WORDS, len(groups)))


class TestWhatWasPlanted:
    @pytest.mark.parametrize("name", ["similarity", "similarity:10", "recruited"])
    def test_change_points_are_found(self, name: str) -> None:
        groups = np.repeat([0, 1, 2, 0, 3, 1], [10, 14, 9, 12, 13, 11])
        found = partitioner(name).prepared(PLANTED)(of_groups(groups))
        assert np.flatnonzero(np.diff(found)).tolist() == np.flatnonzero(np.diff(groups)).tolist()

    def test_clusters_are_found_wherever_their_tokens_stand(self) -> None:
        groups = np.concatenate([np.arange(GROUPS), drawn(GROUPS, 60)])  # in the order of their numbers
        found = partitioner(f"similarity-clusters:{GROUPS}").prepared(PLANTED)(of_groups(groups))
        assert found.tolist() == groups.tolist()

    def test_blocks_are_about_as_large_as_asked_for_where_nothing_was_planted(self) -> None:
        unrelated = np.random.default_rng(0).normal(size=(500, 64))
        for size in (5, 12, 30):
            found = partitioner(f"similarity:{size}").prepared(unrelated)(text_of(drawn(500, 3000)))
            assert 3000 / (found.max() + 1) == pytest.approx(size, rel=0.15)

    def test_a_text_of_one_kind_opens_no_block_but_where_the_longest_ends(self) -> None:
        found = partitioner("recruited:16").prepared(PLANTED)(of_groups([2] * 64))
        assert np.bincount(found).tolist() == [16, 16, 16, 16]


class TestDescriptionLength:
    recruited = Recruited("8").prepared(PLANTED)
    text = of_groups(np.repeat([0, 1, 0, 3], [5, 3, 6, 2]))

    def bits(self, ids: IntArray) -> FloatArray:
        """Block by block, from the density of all of a block's tokens at once."""
        vectors = self.recruited.vectors(self.text)
        code = BlockCode.of(vectors)
        coded = code.standardised(vectors)
        found = []
        for block in range(ids.max() + 1):
            members = coded[ids == block]
            covariance = code.share + (1 - code.share) * np.eye(len(members))
            nats = multivariate_normal(np.zeros(len(members)), covariance).logpdf(members.T)
            found.append(np.log2(8) - np.sum(nats) / np.log(2))
        return np.array(found)

    def test_the_bits_of_every_block_are_those_of_a_normal_distribution(self) -> None:
        ids = np.repeat([0, 1, 2], [4, 7, 5])
        length = self.recruited.description_length(self.text, ids)
        assert length.bits == pytest.approx(self.bits(ids), rel=1e-6)
        assert length.bits == pytest.approx(length.opening_bits + length.parameter_bits + length.token_bits)

    def test_no_division_into_blocks_of_at_most_eight_is_shorter(self) -> None:
        text = text_of(self.text.input_ids[:11])
        least = min(
            self.recruited.description_length(text, ids).bits.sum()
            for ends in itertools.product([0, 1], repeat=10)
            if max(np.bincount(ids := np.cumsum([0, *ends]))) <= 8
        )
        assert self.recruited.description_length(text).bits.sum() == pytest.approx(least, rel=1e-9)

    def test_what_a_block_saved_is_what_carrying_on_would_have_cost(self) -> None:
        ids = np.repeat([0, 1, 2], [5, 3, 8])
        length = self.recruited.description_length(self.text, ids)
        joined = self.recruited.description_length(self.text, np.repeat([0, 1], [8, 8]))
        assert length.saved_bits[0] == 0
        assert length.saved_bits[1] == pytest.approx(joined.bits.sum() - length.bits.sum())

    def test_a_block_that_need_not_have_been_opened_saved_bits(self) -> None:
        recruited, text = Recruited("32").prepared(PLANTED), of_groups(drawn(GROUPS, 30).repeat(5))
        sizes = np.bincount(recruited(text))
        saved = recruited.description_length(text).saved_bits
        free = sizes[1:] + sizes[:-1] <= 32
        assert free.any()
        assert saved[1:][free].min() >= 0

    def test_an_empty_text_costs_nothing(self) -> None:
        assert self.recruited.description_length(text_of([])).bits.tolist() == []


def neighbour_embeddings(ids: IntArray, vocabulary: int) -> FloatArray:
    """Return static embeddings (vocabulary, 32): the log counts of what stands within 8 tokens, reduced."""
    pairs = [(ids[lag:], ids[:-lag]) for lag in range(1, 9)]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    rows, columns = np.concatenate([left, right]), np.concatenate([right, left])
    counts = coo_array((np.ones(len(rows)), (rows, columns)), shape=(vocabulary, vocabulary)).tocsr()
    counts.data = np.log1p(counts.data)
    axes, values, _ = svds(counts, k=32, v0=np.ones(vocabulary))
    return (axes * values).astype(np.float32)


@pytest.mark.slow
def test_recruited_describes_unseen_tokens_better_than_fixed_and_random_blocks() -> None:
    compare = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "heldout_description.py"))["compare"]
    corpus = load_corpus("python-docs")
    tokenizer = scratch_tokenizer(corpus, "tiny")
    ids = np.asarray(tokenise(corpus, tokenizer, 512).with_format("numpy")[:]["input_ids"])  # (N, 512)
    judged, read = ids[:125], ids[125:]  # embeddings have seen nothing of what is judged
    recruited = partitioner("recruited:16").prepared(neighbour_embeddings(read.ravel(), len(tokenizer)))
    draws = np.random.default_rng(0)
    rows = [compare(recruited, row, draws) for row in judged]
    for other in ("fixed", "random", "its own sizes, shuffled", "one block"):
        test = ttest_rel([row[other] for row in rows], [row["recruited"] for row in rows], alternative="greater")
        assert test.pvalue < 0.01, other


class TestRefusals:
    @pytest.mark.parametrize("name", NAMES)
    def test_without_embeddings(self, name: str) -> None:
        with pytest.raises(ProglocError, match=rf"the blocks '{name}' need a model's input embeddings; use model\.loc"):
            partitioner(name)(text_of([1, 2]))

    def test_another_models_tokens(self) -> None:
        with pytest.raises(ProglocError, match="token 80 for blocks 'similarity' that know 80 tokens"):
            partitioner("similarity").prepared(PLANTED)(text_of([1, 80]))

    @pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((0, 3)), np.full((3, 2), np.nan), np.ones((3, 2))])
    def test_embeddings_that_are_none(self, bad: FloatArray) -> None:
        with pytest.raises(ProglocError, match=r"expected a matrix \(V, D\) of finite numbers, not all"):
            partitioner("recruited").prepared(bad)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("argument", ["0", "-3", "2.5", "many", "100000"])
    def test_an_argument_that_is_none(self, name: str, argument: str) -> None:
        with pytest.raises(ProglocError, match=rf"blocks '{name}:{argument}'; expected {name}:N with N a whole number"):
            partitioner(f"{name}:{argument}")


class TestModel:
    def test_blocks_stay_when_the_embeddings_move_and_are_saved_with_the_model(self, tiny_gpt2, tmp_path: Path) -> None:
        model = localize(tiny_gpt2(), LocalityConfig(blocks="similarity:4"))
        table = model.locality.partitioner.table
        model.get_input_embeddings().weight.data.normal_()
        localize(model, LocalityConfig(blocks="similarity:4", alpha=1.0))
        assert np.array_equal(model.locality.partitioner.table, table)
        model.save_pretrained(tmp_path)
        assert np.array_equal(load(tmp_path).locality.partitioner.table, table)

    def test_other_blocks_are_made_of_the_models_own_embeddings(self, tiny_gpt2, tmp_path: Path) -> None:
        model = localize(tiny_gpt2(), LocalityConfig(blocks="similarity:4"))
        table = model.locality.partitioner.table
        model.get_input_embeddings().weight.data.normal_()
        model.save_pretrained(tmp_path)
        for name in ("similarity:5", "recruited"):
            other = load(tmp_path, LocalityConfig(blocks=name)).locality.partitioner
            assert other.name == name
            assert not np.array_equal(other.table, table)
        assert load(tmp_path, LocalityConfig(blocks="fixed:5")).locality.partitioner.table is None

    def test_a_damaged_table_is_named(self, tiny_gpt2, tmp_path: Path) -> None:
        localize(tiny_gpt2(), LocalityConfig(blocks="recruited")).save_pretrained(tmp_path)
        (tmp_path / "blocks.safetensors").write_bytes(b"{")
        with pytest.raises(ProglocError, match=r"blocks\.safetensors is damaged"):
            load(tmp_path)


class Counted(Partitioner):
    """All in one block; counts how often it is called."""

    version = 1
    calls = 0

    def __call__(self, text: TokenisedText) -> IntArray:
        type(self).calls += 1
        return np.zeros(len(text), dtype=np.int64)


@pytest.mark.slow
class TestCache:
    @pytest.fixture
    def sequences(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PROGLOC_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(Counted, "calls", 0)
        corpus = load_corpus("python-docs")
        return tokenise(type(corpus)("start", corpus.text[:20_000]), scratch_tokenizer(corpus, "nano"), 128)

    @staticmethod
    def counted(name: str = "counted:1", table: FloatArray | None = None, version: int | None = 1) -> Counted:
        made = Counted().with_table(table)
        made.name, made.version = name, version
        return made

    def test_the_same_blocks_are_made_once(self, sequences) -> None:
        first = with_block_ids(sequences, self.counted())
        assert Counted.calls == len(sequences) > 5
        again = with_block_ids(sequences, self.counted())
        assert Counted.calls == len(sequences)
        assert again.to_dict() == first.to_dict()
        assert again.column_names == ["input_ids", "block_ids"]

    def test_other_blocks_are_made_anew(self, sequences) -> None:
        others = [
            self.counted(),
            self.counted("counted:2"),
            self.counted(version=2),
            self.counted(table=np.zeros((2, 3))),
            self.counted(table=np.ones((2, 3))),
        ]
        for number, other in enumerate(others, start=1):
            with_block_ids(sequences, other)
            assert Counted.calls == number * len(sequences)

    def test_other_sequences_are_made_anew(self, sequences) -> None:
        with_block_ids(sequences, self.counted())
        with_block_ids(sequences.select(range(1, 4)), self.counted())
        assert Counted.calls == len(sequences) + 3
        with_block_ids(sequences.select(range(1, 4)), self.counted())
        assert Counted.calls == len(sequences) + 3

    @pytest.mark.parametrize("uncached", [{"version": None}, {"name": ""}])
    def test_without_a_version_or_a_name_they_are_made_every_time(self, sequences, uncached: dict) -> None:
        for _ in range(2):
            with_block_ids(sequences, self.counted(**uncached))
        assert Counted.calls == 2 * len(sequences)


class TestCommands:
    def test_what_is_shown_and_what_is_evaluated(self, tiny_gpt2, tmp_path: Path) -> None:
        corpus = tmp_path / "text.txt"
        corpus.write_text(load_corpus("python-docs").text[:6_000], encoding="utf-8")
        tokenizer = scratch_tokenizer(load_corpus(corpus), "nano")
        model = localize(tiny_gpt2(vocab_size=len(tokenizer)), LocalityConfig(blocks="similarity"), sequence_length=64)
        model.save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        shown = partition_text("similarity", str(corpus), str(tmp_path / "model"))
        assert len(shown["block_ids"]) == len(shown["tokens"])
        assert not shown["causal"]
        reports = [evaluate_folder(str(tmp_path / "model"), str(corpus), blocks=name) for name in (None, "fixed:5")]
        assert 0 < reports[0].fidelity < 1
        assert reports[0].chance_fidelity != reports[1].chance_fidelity
