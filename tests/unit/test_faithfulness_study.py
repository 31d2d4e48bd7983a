"""The faithfulness study: passages of a text, the comparison by seed, its conclusion, and its part of docs/audit.md."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from progloc import ProglocError
from progloc.auditing.study import FIGURES, passages
from progloc.auditing.study_tables import conclusion, study_tables
from progloc.data import Corpus
from progloc.files import write_json, write_text
from progloc.suite.claims import answers
from progloc.suite.faithfulness import STUDY_FILE, STUDY_FOLDER, StudiedRun, Study
from progloc.suite.results import load_suite
from synthetic_suite import make_suite
from wired_models import words, words_tokenizer

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "write_audit.py"))
SEEDS = range(4)
KINDS = [f"{picture}, {effect}" for picture in ("mass", "mass_no_sink", "value_mass")
         for effect in ("deletion", "knockout", "knockout_raw")]  # fmt: skip


def studied(name: str, blocks: str, seed: int, rho: float | None) -> StudiedRun:
    figures = {"verdict": "weak", "blocks": 9, "sink_mass": 0.4, **dict.fromkeys(FIGURES, 0.6)}
    return StudiedRun(name, blocks, seed, name == "distributed", ({**figures, **dict.fromkeys(KINDS, rho)},) * 2)


def made(**rho: float | None) -> Study:
    """A study in which λ=0 has ρ = 0.3, give or take its seed, and each architecture so much more."""
    noise = (0.0, 0.02, -0.01, 0.01)
    runs = [studied("distributed", "sentences", seed, 0.3 + noise[seed]) for seed in SEEDS]
    for name, more in rho.items():
        wobble = (0.01, -0.01, 0.0, 0.02)
        runs += [
            studied(name, "sentences", s, None if more is None else 0.3 + more + noise[s] + wobble[s]) for s in SEEDS
        ]
    environment = {"progloc": "0", "torch": "0", "transformers": "0"}
    about = {"suite": "s", "model": "m", "corpus": "c", "texts": 2, "prompt_tokens": 9, "answer_tokens": 3}
    return Study(tuple(runs), (4, 5), {**about, "environment": environment})


def test_passages_are_spread_over_the_text_and_are_its_own_words():
    corpus = Corpus("words", words(*[n % 60 for n in range(100)]))
    found = passages(corpus, words_tokenizer(), count=3, prompt_tokens=8, answer_tokens=4)
    assert [each.prompt.split()[0] for each in found] == ["w0", "w44", "w28"]
    for each in found:
        assert (each.prompt + each.continuation) in corpus.text
        assert len(each.prompt.split()) == 8
        assert len(each.continuation.split()) == 4
    with pytest.raises(ProglocError, match="give a longer text"):
        passages(corpus, words_tokenizer(), count=10, prompt_tokens=8, answer_tokens=4)


def test_every_architecture_is_compared_with_no_penalty_by_seed():
    table = study_tables(made(quintic=0.45, localist=-0.2))[0]
    rows = {row[0]: row for row in table.rows}
    assert rows["distributed"][3] == "—"
    assert rows["quintic"][2].startswith("0.76")
    assert rows["quintic"][3].startswith("0.455")
    assert rows["quintic"][5] == "4 of 4"
    assert rows["localist"][5] == "0 of 4"
    assert rows["quintic"][-1] == "0 / 8 / 0 / 0"


def test_the_conclusion_is_what_the_intervals_say():
    said = conclusion(made(quintic=0.45, localist=-0.2, linear=0.0))
    assert "more faithful than at λ=0 in 1 (quintic on sentences)" in said
    assert "less in 1 (localist on sentences)" in said
    assert "1 cannot be told (after Holm's correction)" in said
    assert "0.7 is reached by 1 (quintic on sentences)" in said
    assert "0.7 is reached by 0 (none)" in conclusion(made(quintic=0.1))


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
        ({"quintic": 0.6, "localist": 0.4}, "cannot tell from this run"),  # about 0.7
        ({"quintic": 0.6, "localist": None}, "cannot tell from this run"),
    ],
)
def test_claim_c10_is_decided_by_every_localised_row(tmp_path: Path, more: Any, verdict: str) -> None:
    found = c10(tmp_path, made(**more))
    assert found.verdict == verdict
    assert "quintic on sentences 0.91 (λ=0 0.30" in found.figure
    assert "4 seeds" in found.interval or None in more.values()
    assert "2 passages of c" in found.reason


def test_without_audits_claim_c10_says_what_it_takes(tmp_path: Path) -> None:
    found = c10(tmp_path, None)
    assert found.verdict == "cannot tell from this run"
    assert "progloc audit RESULTS_DIR --study CORPUS" in found.reason


@pytest.mark.parametrize("content", ["{}", '{"runs": [{"name": "x"}], "layers": []}', "no JSON"])
def test_a_damaged_study_is_said_to_be(tmp_path: Path, content: str) -> None:
    suite = make_suite(tmp_path, seeds=(0,))
    write_text(suite / STUDY_FOLDER / STUDY_FILE, content)
    with pytest.raises(ProglocError, match=STUDY_FILE):
        answers(load_suite(suite))


def test_what_cannot_be_ranked_is_left_out():
    rows = {row[0]: row for row in study_tables(made(quintic=None))[0].rows}
    assert rows["quintic"][2] == "—"
    assert Study.from_dict(made(quintic=None).to_dict()).to_dict() == made(quintic=None).to_dict()


def test_the_page_is_what_is_kept():
    page = (ROOT / SCRIPT["PAGE"]).read_text(encoding="utf-8")
    assert SCRIPT["written"](ROOT) in page


def test_the_page_follows_the_kept_numbers(tmp_path: Path):
    study: dict[str, Any] = made(quintic=0.45).to_dict()
    write_json(tmp_path / SCRIPT["KEPT"] / "invented" / STUDY_FOLDER / STUDY_FILE, study)
    before = SCRIPT["written"](tmp_path)
    assert "### invented" in before
    study["runs"][-1]["passages"] = [{**each, "overlap": 0.9} for each in study["runs"][-1]["passages"]]
    write_json(tmp_path / SCRIPT["KEPT"] / "invented" / STUDY_FOLDER / STUDY_FILE, study)
    assert SCRIPT["written"](tmp_path) != before
