"""Does localising make attention more faithful? The audit as an experiment, over every run of a suite.

Every finished run of one penalty and one budget is audited on the same held-out passages, with the passage's own words
as the answer and every whole block before it taken away, so that all of them explain the same text by the same blocks;
so is the model that all of them started from.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from progloc.accounts.auditing import audit, late_layers
from progloc.accounts.pictures import PICTURES
from progloc.accounts.schema import EFFECTS, Audit
from progloc.accounts.verdict import SOURCES
from progloc.blocks import Partitioner, TokenisedText, partitioner
from progloc.config import LocalityConfig, RunConfig, from_mapping
from progloc.data import Corpus, load_corpus, split, tokenise
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json
from progloc.hub import pretrained
from progloc.loading import load
from progloc.paper.faithfulness import BEFORE, JUDGED, STUDY_FILE, STUDY_VERSION, StudiedRun, Study
from progloc.paper.suite import Suite, load_suite
from progloc.report.formats import counted, number
from progloc.resolve import SCRATCH
from progloc.results import RunResult
from progloc.run_folder import MODEL_FOLDER
from progloc.training.inputs import gather

CHUNK = 100
"""So many characters in a row that were trained on make a text one that was."""
_FIGURES = ("overlap", "overlap_by_length", "comprehensiveness", "sufficiency", "beaten", "p_random")
_DIGITS = 5
_AGAIN = "run the suite again with progloc reproduce"


@dataclass(frozen=True)
class Passage:
    """A prompt of whole blocks, and what follows it in the text."""

    prompt: str
    continuation: str


def held_out(run: RunResult, corpus: Corpus, tokenizer: Any) -> list[str]:
    """Return the stretches of a text that a suite's runs were not trained on, each as long as a training sequence.

    Of the text that they were trained on these are sequences of the validation side. Any stretch, of this text or
    another, is left out that has 100 characters in a row in common with what was trained on.

    Args:
        run: any of the suite: all have the same text and split.
        corpus: the text.
        tokenizer: the models'.

    Raises:
        ProglocError: the text that was trained on cannot be read, or is another one by now.
    """
    config = from_mapping(RunConfig, run.config)
    learnt_from = load_corpus(config.corpus)
    if learnt_from.sha256 != run.data["corpus_sha256"]:
        raise ProglocError(
            f"{config.corpus} is not the text that these models were trained on; expected it as it was, to tell what "
            "they have not seen"
        )
    sequences = tokenise(learnt_from, tokenizer, config.sequence_length)
    # what scratch:… is pretrained on is the training side of the whole text
    sizes = {config.max_sequences, None} if config.model.startswith(SCRATCH) else {config.max_sequences}
    seen = "\n".join(
        text
        for size in sizes
        for text in split(sequences, config.validation_fraction, config.split_seed, size).train["text"]
    )
    chunks = {seen[start : start + CHUNK] for start in range(len(seen) - CHUNK + 1)}
    return [
        text
        for text in tokenise(corpus, tokenizer, config.sequence_length)["text"]
        if chunks.isdisjoint(text[start : start + CHUNK] for start in range(len(text) - CHUNK + 1))
    ]


def spread(texts: Sequence[str], count: int) -> list[str]:
    """Return so many of the texts, evenly spread; all where there are no more."""
    return [texts[place] for place in np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)]


def cut(text: str, tokenizer: Any, blocks: Partitioner, most: int | None, answer_tokens: int) -> Passage | None:
    """Return a text from its first whole sentence on as a passage: a prompt that ends with a block, then the answer.

    Args:
        text: a stretch of a text, which may begin within a sentence.
        tokenizer: a fast one.
        blocks: the partitioner by whose blocks the prompt ends: it is as long as it can be.
        most: tokens of the prompt; None: what the answer leaves.
        answer_tokens: the answer's.

    Returns:
        None where no block ends in time.
    """
    stretch = _tokenised(text, tokenizer)
    begins = np.flatnonzero(np.diff(partitioner("sentences")(stretch)))
    text = text[int(stretch.offsets[begins[0] + 1, 0]) if len(begins) else 0 :]
    stretch = _tokenised(text, tokenizer)
    room = len(stretch) - answer_tokens
    ids = blocks(stretch)  # (T,), or (T, G): a block of every granularity has to end
    ends = np.flatnonzero((np.diff(ids, axis=0) != 0).reshape(len(ids) - 1, -1).all(1)) + 1
    ends = ends[(ends >= 2) & (ends <= (room if most is None else min(room, most)))]
    if not len(ends):
        return None
    border, end = stretch.offsets[ends[-1], 0], stretch.offsets[ends[-1] + answer_tokens - 1, 1]
    return Passage(text[:border], text[border:end])


def _tokenised(text: str, tokenizer: Any) -> TokenisedText:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = np.asarray(encoded["input_ids"]), np.asarray(encoded["offset_mapping"]).reshape(-1, 2)
    return TokenisedText(text, ids, offsets)


@dataclass(frozen=True)
class _Task:
    """One model to audit on every passage."""

    run: StudiedRun
    """Without figures."""
    model: Path
    tokenizer: Path
    locality: dict[str, Any]
    path: Path
    """Where the audits' figures go."""
    settings: dict[str, Any]
    texts: tuple[str, ...]

    def audited(self) -> StudiedRun | None:
        """Return the run as it was audited with the same settings; None where it was not."""
        content = read_mapping(self.path) if self.path.exists() else {}
        if content.get("settings") != self.settings:
            return None
        rows = [passage["figures"] for passage in content["passages"]]
        names = dict.fromkeys(name for row in rows for name in row)
        return replace(self.run, figures={name: tuple(row.get(name) for row in rows) for name in names})


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(float(value), _DIGITS) for value in values]


def _figures(report: Audit) -> dict[str, Any]:
    """Return what a study needs of one audit: figures, and each source's size, masses and effects in nats."""
    tested, examined = report.examined.faithfulness, report.examined
    sources = [block for block in examined.tested if block.whole]
    tests = (None if tested is None else getattr(tested, name) for name in _FIGURES)
    figures: dict[str, Any] = {
        "verdict": report.verdict,
        "sources": len(sources),
        "sink_mass": round(examined.sink_mass, _DIGITS),
        "answer_share": round(float(examined.picture.answer_share["mass_no_sink"]), _DIGITS),
        **dict(zip(_FIGURES, _rounded(tests), strict=True)),
    }
    for pair in () if tested is None else tested.correlations:  # ranks of a few sources say little
        rho = pair.rho if len(sources) >= SOURCES else None
        figures[f"{pair.picture}, {pair.effect}"] = None if rho is None else round(rho, _DIGITS)
    places = [source.block for source in sources]
    return {
        "figures": figures,
        "each_source": {
            "tokens": [report.block_ids[: report.answer_start].count(place) for place in places],
            **{name: _rounded(getattr(examined.picture, name)[places]) for name in PICTURES},
            **{name: _rounded(getattr(source, name) for source in sources) for name in EFFECTS},
        },
    }


def _audit_run(task: _Task, advance: Callable[[], None] = lambda: None) -> None:
    """Audit one model on every passage, and write the figures."""
    settings = task.settings
    tokenizer = pretrained(AutoTokenizer, task.tokenizer, _AGAIN)
    model = load(task.model, from_mapping(LocalityConfig, task.locality, "locality"))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    figures = []
    for text in task.texts:
        sizes = settings["prompt_tokens"], settings["answer_tokens"]
        passage = cut(text, tokenizer, model.locality.partitioner, *sizes)
        if passage is not None:
            report = audit(
                model, passage.prompt, passage.continuation, tokenizer=tokenizer, layers=settings["layers"],
                most_blocks=sys.maxsize, random_sets=settings["random_sets"],
            )  # fmt: skip
            figures.append(_figures(report))
        advance()
    write_json(task.path, {"settings": settings, "passages": figures})


def _model_of(suite: Suite, run: RunResult) -> Path:
    """Return where a run's model is: a λ=0 run measured on other blocks has that of the one that was trained."""
    for trained in (run, suite.baseline(run)):
        if trained is not None:
            folder = suite.folder / "runs" / f"{trained.name}-seed{trained.seed}" / MODEL_FOLDER
            if folder.is_dir():
                return folder
    raise ProglocError(f"{suite.folder} keeps no model of {run.name}, seed {run.seed}; {_AGAIN}")


def _models(suite: Suite) -> Iterator[tuple[StudiedRun, Path, dict[str, Any]]]:
    """Yield every model to audit with its locality: before localising, on each partitioner's blocks, then the runs'."""
    start = Path(gather(from_mapping(RunConfig, suite.compared[0].config)).model)
    for blocks in suite.partitioners:
        some = next(run for run in suite.compared if run.blocks == blocks)
        yield StudiedRun(BEFORE, blocks, 0, BEFORE, {}), start, some.config["locality"]
    for run in suite.compared:
        role = "distributed" if run.is_distributed else "localised"
        yield StudiedRun(run.name, run.blocks, run.seed, role, {}), _model_of(suite, run), run.config["locality"]


def run_study(
    folder: Path,
    corpus: str,
    out: Path,
    *,
    texts: int = 100,
    prompt_tokens: int | None = None,
    answer_tokens: int = 32,
    random_sets: int = 199,
    jobs: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Audit every run of a suite on the same held-out passages; runs that are audited already are not audited again.

    The layers are those that are late (λ ≥ 0.5) in every localised run, so that all show the same ones. It computes on
    CUDA where there is such a device.

    Args:
        folder: of a suite that `progloc reproduce` made.
        corpus: see `progloc.data.load_corpus`; of what is in it, passages are drawn that were not trained on.
        out: where `study.json` goes, and what is finished until then.
        texts: how many passages at most.
        prompt_tokens: of each, at most; the prompt ends with a block. None: what a training sequence holds beside the
            answer.
        answer_tokens: of each.
        random_sets: of sources, for each audit's verdict.
        jobs: how many runs are audited at once, each by a process of its own.
        say: hears what is done, in lines.
        progress: called with audits done and audits in all.

    Raises:
        ProglocError: no suite, no localised run or no λ=0 run in it, nothing in the text that was not trained on, or
            passages that are longer than what the models were trained on.
    """
    least_prompt = 2 if prompt_tokens is None else prompt_tokens
    sizes = {"texts": texts, "prompt-tokens": least_prompt, "answer-tokens": answer_tokens, "jobs": jobs}
    for name, value in sizes.items():
        if value < 1:
            raise ProglocError(f"--{name} {value}; expected a whole number ≥ 1")
    suite, text = load_suite(folder), load_corpus(corpus)
    localised = [run for run in suite.compared if not run.is_distributed]
    if not localised or len(localised) == len(suite.compared):
        raise ProglocError(f"{folder} has no finished run with λ = 0 to compare with, or nothing but such runs")
    layers = tuple(sorted(set.intersection(*(set(late_layers(run.lambdas)) for run in localised))))
    if not layers:
        raise ProglocError(f"{folder} has no layer that is late (λ ≥ 0.5) in every localised run, so none to compare")
    length = int(localised[0].config["sequence_length"])
    if least_prompt + answer_tokens > length:
        raise ProglocError(
            f"passages of {least_prompt} + {answer_tokens} tokens; the models were trained on {length}: give "
            "fewer with --prompt-tokens and --answer-tokens"
        )
    tokenizer = _model_of(suite, localised[0])
    unseen = held_out(localised[0], text, pretrained(AutoTokenizer, tokenizer, _AGAIN))
    if not unseen:
        raise ProglocError(f"{corpus} has no stretch of {length} tokens that the models were not trained on")
    chosen = tuple(spread(unseen, texts))
    say(f"{counted(len(chosen), 'passage')} of {text.name}, of {len(unseen)} that were not trained on")
    about = {
        "version": STUDY_VERSION, "corpus": text.name, "corpus_sha256": text.sha256, "texts": len(chosen),
        "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens, "random_sets": random_sets,
        "sequence_length": length,
    }  # fmt: skip
    tasks = [
        _Task(
            run, model, tokenizer, locality, out / "runs" / f"{run.label}.json", {**about, "layers": list(layers)},
            chosen,
        )
        for run, model, locality in _models(suite)
    ]  # fmt: skip
    to_do = [task for task in tasks if task.audited() is None]
    for done, task in enumerate(_audit_all(to_do, jobs, progress), start=len(tasks) - len(to_do) + 1):
        run = task.audited()
        rhos = [] if run is None else [rho for rho in run.figures.get(JUDGED, ()) if rho is not None]
        figure = f"rank correlation {number(fmean(rhos) if rhos else None, 3)}" if run and run.figures else "no passage"
        say(f"[{done}/{len(tasks)}] {task.run.label}: {figure}")
    study = Study(
        tuple(run for task in tasks if (run := task.audited()) is not None),
        layers,
        {key: suite.plan.get(key) for key in ("suite", "model")} | about | {"environment": describe_environment()},
    )
    write_json(out / STUDY_FILE, study.to_dict())
    return study


def _audit_all(tasks: Sequence[_Task], jobs: int, progress: Callable[[int, int], None]) -> Iterator[_Task]:
    """Do the tasks, in processes of their own where there is more than one at a time; yield each when it is done."""
    done, total = 0, sum(len(task.texts) for task in tasks)

    def advance(audits: int = 1) -> None:
        nonlocal done
        done += audits
        progress(done, total)

    if jobs == 1:
        for task in tasks:
            _audit_run(task, advance)
            yield task
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        for task, future in [(task, pool.submit(_audit_run, task)) for task in tasks]:
            future.result()
            advance(len(task.texts))
            yield task
