"""The faithfulness study: held-out passages, the comparison over passages × seeds, its conclusion, and "
"docs/audit.md."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from measurements import SUFFIX, SUITES, write_lines
from page_numbers import figures_of
from progloc import ProglocError
from progloc.accounts.pictures import PICTURES
from progloc.accounts.schema import BASELINES, EFFECTS, OPERATORS
from progloc.blocks import TokenisedText, partitioner
from progloc.config import RunConfig
from progloc.data import load_corpus, split, tokenise
from progloc.files import write_json, write_text
from progloc.paper.claims import answers
from progloc.paper.faithfulness import (
    BEFORE,
    IN_PLACE,
    JUDGED,
    STUDY_FILE,
    STUDY_FOLDER,
    STUDY_VERSION,
    StudiedRun,
    Study,
    conclusion,
    study_tables,
)
from progloc.paper.study import CHUNK, cut, held_out, spread
from progloc.paper.suite import load_suite
from progloc.report.table import filled
from progloc.run_folder import plain
from progloc.training.scratch import scratch_tokenizer
from synthetic_suite import make_suite

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "write_audit.py"))
SEEDS, PASSAGES = range(4), 30
KINDS = [f"{picture}, {effect}" for picture in PICTURES for effect in EFFECTS]


def studied(name: str, role: str, seed: int, rho: Any, rival: float = 0.0) -> StudiedRun:
    """A run with ρ by passage, and rivals that have another, the same on every passage."""
    figures: dict[str, Any] = {kind: list(rho) for kind in KINDS}
    figures |= {f"{each}, {way}": [rival] * len(figures[JUDGED]) for each in BASELINES for way in OPERATORS}
    figures |= {name: [0.5] * PASSAGES for name in ("sources", "overlap", "beaten", "answer_share", "sink_mass")}
    return StudiedRun(name, "sentences", seed, role, {**figures, "verdict": ["weak"] * PASSAGES})


def made(rival: float = 0.0, spread_of_gain: float = 0.02, **more: float | None) -> Study:
    """A study in which ρ is 0.3 without a penalty, give or take seed and passage, and in each row so much more."""
    generator = np.random.default_rng(0)
    hard = 0.1 * generator.standard_normal(PASSAGES)
    gains = generator.standard_normal(PASSAGES)
    gains *= spread_of_gain / gains.std()
    gains -= gains.mean()

    def rho(seed: int, of_row: float = 0.0) -> np.ndarray:
        return 0.3 + of_row + hard + 0.01 * seed + 0.01 * generator.standard_normal(PASSAGES)

    runs = [studied(BEFORE, BEFORE, 0, rho(0))]
    runs += [studied("distributed", "distributed", seed, rho(seed)) for seed in SEEDS]
    for name, of_row in more.items():
        runs += [
            studied(name, "localised", seed, [None] * PASSAGES if of_row is None else rho(seed, of_row) + gains, rival)
            for seed in SEEDS
        ]
    environment = {"progloc": "0", "torch": "0", "transformers": "0", "device": "none"}
    about = {"version": STUDY_VERSION, "suite": "s", "model": "m", "corpus": "c", "texts": PASSAGES,
             "prompt_tokens": None, "answer_tokens": 3, "sequence_length": 12}  # fmt: skip
    return Study(tuple(runs), (4, 5), {**about, "environment": environment})


# ---- passages


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that was trained on a part of a text in which no two sentences are alike, and its tokenizer."""
    path = tmp_path_factory.mktemp("texts") / "own.txt"
    words = np.random.default_rng(1).permutation(6000)
    path.write_text(" ".join(f"It held {a} and also {b}." for a, b in words.reshape(-1, 2)), encoding="utf-8")
    corpus = load_corpus(path)
    config = RunConfig(model="gpt2", corpus=str(path), sequence_length=48, validation_fraction=0.4)
    run: Any = SimpleNamespace(config=plain(config), data={"corpus_sha256": corpus.sha256})
    return run, scratch_tokenizer(corpus, "nano"), corpus


def test_nothing_that_was_trained_on_is_held_out(trained: Any) -> None:
    run, tokenizer, corpus = trained
    parts = split(tokenise(corpus, tokenizer, 48), 0.4, 0)
    found = held_out(run, corpus, tokenizer)
    assert found == list(parts.validation["text"])
    learnt = "\n".join(parts.train["text"])
    assert not any(text[start : start + CHUNK] in learnt for text in found for start in range(0, len(text) - CHUNK))


def test_what_scratch_models_are_pretrained_on_is_not_held_out_either(trained: Any) -> None:
    run, tokenizer, corpus = trained
    few = {**run.config, "max_sequences": 20}
    sequences = tokenise(corpus, tokenizer, 48)
    whole, part = (split(sequences, 0.4, 0, size) for size in (None, 20))
    seen: Any = SimpleNamespace(config={**few, "model": "scratch:nano"}, data=run.data)
    found = held_out(seen, corpus, tokenizer)
    assert set(found) == set(whole.validation["text"]) - set(part.train["text"])
    hub: Any = SimpleNamespace(config=few, data=run.data)
    assert set(held_out(hub, corpus, tokenizer)) == set(sequences["text"]) - set(part.train["text"])


def test_another_text_is_held_out_but_for_what_it_repeats(trained: Any, tmp_path: Path) -> None:
    run, tokenizer, corpus = trained
    own = split(tokenise(corpus, tokenizer, 48), 0.4, 0).train["text"][0]
    new = " ".join(f"Nobody saw {n} of them." for n in range(7000, 7030))
    (tmp_path / "other.txt").write_text(f"{new} {own} {new.replace('saw', 'met')}")
    found = held_out(run, load_corpus(tmp_path / "other.txt"), tokenizer)
    assert found
    assert not any(own[:CHUNK] in text for text in found)
    assert len(found) < len(tokenise(load_corpus(tmp_path / "other.txt"), tokenizer, 48))


def test_a_text_that_is_not_the_one_trained_on_is_refused(trained: Any) -> None:
    run, tokenizer, corpus = trained
    other: Any = SimpleNamespace(config=run.config, data={"corpus_sha256": "0" * 64})
    with pytest.raises(ProglocError, match="is not the text that these models were trained on"):
        held_out(other, corpus, tokenizer)


@pytest.mark.parametrize("blocks", ["fixed:5", "sentences", "phrases:punctuation", "paragraphs"])
def test_a_prompt_begins_with_a_sentence_and_ends_with_a_block(blocks: str) -> None:
    text = (
        "nd so it was. The first thing held. The second, larger, held too.\n\nA third one stood here. And a fourth?\n\n"
    )
    tokenizer = scratch_tokenizer(load_corpus("python-docs"), "nano")
    passage = cut(text * 3, tokenizer, partitioner(blocks), None, 8)
    assert passage is not None
    assert passage.prompt.strip().startswith("The first thing")
    whole = passage.prompt + passage.continuation
    assert whole in text * 3
    read = tokenizer(whole, return_offsets_mapping=True)
    division = TokenisedText(whole, np.array(read["input_ids"]), np.array(read["offset_mapping"]))
    border = int((division.offsets[:, 0] < len(passage.prompt)).sum())
    ids = partitioner(blocks)(division)
    assert ids[border - 1] != ids[border]
    assert len(ids) - border == 8


def test_a_text_in_which_no_block_ends_is_no_passage() -> None:
    tokenizer = scratch_tokenizer(load_corpus("python-docs"), "nano")
    assert cut("word " * 40, tokenizer, partitioner("sentences"), None, 8) is None


def test_passages_are_spread_over_what_there_is() -> None:
    texts = [str(n) for n in range(11)]
    assert spread(texts, 3) == ["0", "5", "10"]
    assert spread(texts, 99) == texts


# ---- comparisons


def test_every_architecture_is_compared_on_the_same_passages_seed_by_seed() -> None:
    table = study_tables(made(quintic=0.45, localist=-0.2))[0]
    rows = {row[0]: row for row in table.rows}
    assert rows["distributed"][5] == rows[BEFORE][5] == "—"
    assert float(rows["quintic"][4].split()[0]) == pytest.approx(0.76, abs=0.03)
    assert float(rows["quintic"][5].split()[0]) == pytest.approx(0.45, abs=0.02)
    assert rows["quintic"][2:4] == ("30", "4")
    assert "Unit: passages × seeds of one base model" in table.note


def test_passages_that_disagree_leave_it_open_though_every_seed_agrees() -> None:
    """The mean gain is a third of what passages differ by: seeds that repeat it on the same passages add nothing."""
    study = made(spread_of_gain=0.6, quintic=0.1)
    row = ("quintic", "sentences")
    found = study.tests[IN_PLACE][row]
    ours, base = (study.cells(each, JUDGED) for each in (row, ("distributed", "sentences")))
    assert all((ours[seed].mean() > base[seed].mean()) == (ours[0].mean() > base[0].mean()) for seed in SEEDS)
    assert found.to_distributed.estimate.above(0.0) is None
    assert found.p is not None
    assert found.p > 0.05


def test_only_passages_known_to_all_are_counted() -> None:
    study = made(quintic=0.4)
    known = [*study.runs[-1].figures[JUDGED]]
    known[3] = None
    runs = (
        *study.runs[:-1],
        StudiedRun("quintic", "sentences", 3, "localised", {**study.runs[-1].figures, JUDGED: known}),
    )
    fewer = Study(runs, study.layers, study.about)
    assert fewer.counted(("quintic", "sentences")) == PASSAGES - 1
    assert np.isfinite(fewer.tests[IN_PLACE]["quintic", "sentences"].to_distributed.estimate.mean)


def test_the_model_before_localising_is_compared_with_every_seed() -> None:
    found = made(quintic=0.4).tests[IN_PLACE]["quintic", "sentences"]
    assert found.to_before.estimate.n == 4
    assert found.to_before.estimate.mean == pytest.approx(0.4 + 0.015, abs=0.02)


def test_runs_without_a_seed_in_common_are_not_compared() -> None:
    study = made(quintic=0.4)
    some = [run for run in study.runs if (run.role == "localised") == (run.seed == 1)]
    interrupted = Study(tuple(some), study.layers, study.about)
    rows = {row[0]: row for row in study_tables(interrupted)[0].rows}
    assert rows["quintic"][3] == "1"
    assert rows["quintic"][5] == "—"


def test_the_nearest_rival_is_named() -> None:
    rows = {row[0]: row for row in study_tables(made(rival=0.6, quintic=0.4))[0].rows}
    assert rows["quintic"][8] in {rival.replace("_", " ") for rival in BASELINES}
    assert float(rows["quintic"][9].split()[0]) == pytest.approx(0.1, abs=0.03)


def test_the_conclusion_is_what_the_intervals_say() -> None:
    said = conclusion(made(quintic=0.6, localist=-0.2, linear=0.0))
    assert "more faithful than at λ=0 in 1 (quintic on sentences)" in said
    assert "less faithful in 1 (localist on sentences) and undecided in 1 (after Holm's correction)" in said
    assert said.endswith("above 0.7 in 1 (quintic on sentences).")
    assert conclusion(made(quintic=0.1)).endswith("in 0 (none).")


def c10(folder: Path, study: Study | None) -> Any:
    suite = make_suite(folder, seeds=(0, 1))
    if study is not None:
        write_json(suite / STUDY_FOLDER / STUDY_FILE, study.to_dict())
    return next(answer for answer in answers(load_suite(suite)) if answer.id == "C10")


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"quintic": 0.6, "localist": 0.5}, "supported"),  # 0.9 and 0.8, of at most 1 and against 0.3
        ({"quintic": 0.6, "localist": 0.1}, "not supported"),  # 0.4 is below 0.7
        ({"quintic": 0.6, "localist": 0.385}, "cannot tell from this run"),  # about 0.7
        ({"quintic": 0.6, "localist": None}, "cannot tell from this run"),
        ({"quintic": 0.6, "rival": 0.95}, "not supported"),  # recency does better
    ],
)
def test_claim_c10_is_decided_by_every_localised_row(tmp_path: Path, more: Any, verdict: str) -> None:
    found = c10(tmp_path, made(**more))
    assert found.verdict == verdict
    assert "quintic on sentences 0.9" in found.figure
    assert "30 passages × 4 seeds" in found.interval
    assert "30 held-out passages of c" in found.reason


def test_a_picture_has_to_hold_under_both_ways_of_removing(tmp_path: Path) -> None:
    study = made(quintic=0.6)
    worse = tuple(
        StudiedRun(
            run.name, run.blocks, run.seed, run.role, {**run.figures, "mass_no_sink, deletion": [0.1] * PASSAGES}
        )
        if run.role == "localised"
        else run
        for run in study.runs
    )
    assert c10(tmp_path, Study(worse, study.layers, study.about)).verdict == "not supported"


def test_without_audits_claim_c10_says_what_it_takes(tmp_path: Path) -> None:
    found = c10(tmp_path, None)
    assert found.verdict == "cannot tell from this run"
    assert "progloc audit RESULTS_DIR --study CORPUS" in found.reason


def test_a_study_by_an_earlier_rule_answers_nothing(tmp_path: Path) -> None:
    study = made(quintic=0.6)
    earlier = {key: value for key, value in study.about.items() if key != "version"}
    assert c10(tmp_path, Study(study.runs, study.layers, earlier)).verdict == "cannot tell from this run"


@pytest.mark.parametrize(
    "content", ['{"version": 2}', '{"version": 2, "runs": [{"name": "x"}], "layers": []}', "no JSON"]
)
def test_a_damaged_study_is_said_to_be(tmp_path: Path, content: str) -> None:
    suite = make_suite(tmp_path, seeds=(0,))
    write_text(suite / STUDY_FOLDER / STUDY_FILE, content)
    with pytest.raises(ProglocError, match=STUDY_FILE):
        answers(load_suite(suite))


def test_what_cannot_be_ranked_is_left_out() -> None:
    rows = {row[0]: row for row in study_tables(made(quintic=None))[0].rows}
    assert rows["quintic"][4] == "—"
    assert Study.from_dict(made(quintic=None).to_dict()).to_dict() == made(quintic=None).to_dict()


# ---- the page


def test_the_page_is_what_is_kept() -> None:
    page = (ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")
    assert figures_of(page) == figures_of(filled(page, SCRIPT["BY"], SCRIPT["written"](ROOT)))


def test_the_page_follows_the_kept_numbers(tmp_path: Path) -> None:
    study: dict[str, Any] = made(quintic=0.45).to_dict()
    path = tmp_path / SUITES / f"invented{SUFFIX}"
    write_lines(path, [{"file": f"{STUDY_FOLDER}/{STUDY_FILE}", "content": study}])
    before = SCRIPT["written"](tmp_path)
    assert "### invented" in before
    study["runs"][-1]["figures"]["overlap"] = [0.9] * PASSAGES
    write_lines(path, [{"file": f"{STUDY_FOLDER}/{STUDY_FILE}", "content": study}])
    assert figures_of(SCRIPT["written"](tmp_path)) != figures_of(before)
