"""Does localising make attention more faithful? The audit as an experiment, over every run of a suite.

Every finished run of one penalty and one budget is audited on the same passages, with the passage's own words as the
answer, so that all of them explain the same text; then they are compared by seed with the λ=0 run on the same blocks.
"""

from __future__ import annotations

__all__ = ["Passage", "passages", "run_study"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progloc.auditing.audit import audit, late_layers
from progloc.auditing.report import Audit
from progloc.config import LocalityConfig, from_mapping
from progloc.data import Corpus, load_corpus
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json
from progloc.model import load
from progloc.suite.faithfulness import JUDGED, STUDY_FILE, StudiedRun, Study
from progloc.suite.results import Run, Suite, load_suite
from progloc.training.folder import MODEL_FOLDER
from progloc.training.inputs import load_tokenizer

FIGURES = ("overlap", "overlap_by_length", "comprehensiveness", "sufficiency", "beaten")


@dataclass(frozen=True)
class Passage:
    """A prompt and what follows it in the text."""

    prompt: str
    continuation: str


def passages(corpus: Corpus, tokenizer: Any, count: int, prompt_tokens: int, answer_tokens: int) -> list[Passage]:
    """Return passages spread evenly over a text, each a prompt and what follows it.

    Raises:
        ProglocError: a text too short for one, or a number below 1.
    """
    for name, value in (("texts", count), ("prompt-tokens", prompt_tokens), ("answer-tokens", answer_tokens)):
        if value < 1:
            raise ProglocError(f"--{name} {value}; expected a whole number ≥ 1")
    length = prompt_tokens + answer_tokens
    encoded = tokenizer(corpus.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    if len(offsets) < count * length:
        raise ProglocError(
            f"{corpus.name} has {len(offsets)} tokens; {count} passages of {length} tokens take {count * length}: "
            "give a longer text, or fewer or shorter passages"
        )
    found = []
    for first in np.linspace(0, len(offsets) - length, count).astype(int).tolist():
        start, border = offsets[first][0], offsets[first + prompt_tokens][0]
        end = offsets[first + length - 1][1]
        found.append(Passage(corpus.text[start:border], corpus.text[border:end]))
    return found


def _figures(found: Audit) -> dict[str, Any]:
    """Return what is kept of one audit."""
    tested = found.examined.faithfulness
    kept: dict[str, Any] = {
        "verdict": found.verdict,
        "blocks": len(found.examined.tested),
        "sink_mass": found.examined.sink_mass,
        **{name: None if tested is None else getattr(tested, name) for name in FIGURES},
    }
    for each in () if tested is None else tested.correlations:
        kept[f"{each.picture}, {each.effect}"] = each.rho
    return kept


def _model_of(suite: Suite, run: Run) -> Path:
    """Return where a run's model is: a λ=0 run measured on other blocks has that of the one that was trained."""
    for each in (run, suite.baseline(run)):
        if each is not None:
            folder = suite.folder / "runs" / f"{each.name}-seed{each.seed}" / MODEL_FOLDER
            if folder.is_dir():
                return folder
    raise ProglocError(
        f"{suite.folder} keeps no model of {run.name}, seed {run.seed}; run the suite again with progloc reproduce"
    )


def run_study(
    folder: Path,
    corpus: str,
    out: Path,
    *,
    texts: int = 8,
    prompt_tokens: int = 192,
    answer_tokens: int = 32,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Audit every run of a suite on the same passages; runs that are audited already are not audited again.

    The layers are those that are late (λ ≥ 0.5) in every localised run, so that all show the same ones.

    Args:
        folder: of a suite that `progloc reproduce` made.
        corpus: see `progloc.data.load_corpus`.
        out: where `study.json` goes, and what is finished until then.
        texts: how many passages.
        prompt_tokens: of each.
        answer_tokens: of each.
        say: hears what is done, in lines.
        progress: called with audits done and audits in all.

    Raises:
        ProglocError: no suite, no localised run or no λ=0 run in it, or a text that is too short.
    """
    suite, text = load_suite(folder), load_corpus(corpus)
    localised = [run for run in suite.compared if not run.is_distributed]
    if not localised or len(localised) == len(suite.compared):
        raise ProglocError(f"{folder} has no finished run with λ = 0 to compare with, or nothing but such runs")
    layers = tuple(sorted(set.intersection(*(set(late_layers(run.lambdas)) for run in localised))))
    if not layers:
        raise ProglocError(f"{folder} has no layer that is late (λ ≥ 0.5) in every localised run, so none to compare")
    chosen: Sequence[Passage] | None = None
    settings = {
        "corpus": text.name, "corpus_sha256": text.sha256, "texts": texts, "prompt_tokens": prompt_tokens,
        "answer_tokens": answer_tokens, "layers": list(layers),
    }  # fmt: skip
    found = []
    for number, run in enumerate(suite.compared):
        path = out / "runs" / f"{run.name}-seed{run.seed}.json"
        kept = read_mapping(path) if path.exists() else None
        if kept is None or kept.get("settings") != settings:
            where = _model_of(suite, run)
            tokenizer = load_tokenizer(str(where), text)
            chosen = chosen or passages(text, tokenizer, texts, prompt_tokens, answer_tokens)
            model = load(where, from_mapping(LocalityConfig, run.config["locality"], "locality"))
            audited = []
            for place, passage in enumerate(chosen):
                progress(number * texts + place, len(suite.compared) * texts)
                audited.append(
                    _figures(audit(model, passage.prompt, passage.continuation, tokenizer=tokenizer, layers=layers))
                )
            kept = {"settings": settings, "passages": audited}
            write_json(path, kept)
        studied = StudiedRun(run.name, run.blocks, run.seed, run.is_distributed, tuple(kept["passages"]))
        found.append(studied)
        say(
            f"[{number + 1}/{len(suite.compared)}] {run.name}, seed {run.seed}: "
            f"rank correlation {studied.mean(JUDGED):.3f}"
        )
    about = {
        "suite": suite.plan.get("suite"),
        "model": suite.plan.get("model"),
        **{key: value for key, value in settings.items() if key != "layers"},
        "environment": describe_environment(),
    }
    study = Study(tuple(found), layers, about)
    write_json(out / STUDY_FILE, study.to_dict())
    return study
