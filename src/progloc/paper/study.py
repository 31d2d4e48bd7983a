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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from progloc.accounts.auditing import audit, late_layers
from progloc.accounts.pictures import PICTURES
from progloc.accounts.schema import EFFECTS, Audit
from progloc.accounts.verdict import SOURCES
from progloc.config import LocalityConfig, RunConfig, from_mapping
from progloc.data import load_corpus
from progloc.environment import describe_environment
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json
from progloc.hub import pretrained
from progloc.loading import load
from progloc.paper.faithfulness import BEFORE, JUDGED, STUDY_FILE, STUDY_VERSION, StudiedRun, Study
from progloc.paper.passages import Passage, cut, held_out, spread
from progloc.paper.suite import Suite, load_suite
from progloc.results import RunResult
from progloc.run_folder import MODEL_FOLDER
from progloc.training.inputs import gather

FIGURES = ("overlap", "overlap_by_length", "comprehensiveness", "sufficiency", "beaten", "p_random")
ALL = sys.maxsize
"""Every source of a passage is tested, and so the same ones in every model."""
DIGITS = 5
AGAIN = "run the suite again with progloc reproduce"


@dataclass(frozen=True)
class _Task:
    """One model to audit on every passage."""

    run: StudiedRun
    model: Path
    tokenizer: Path
    locality: dict[str, Any]
    path: Path
    """Where what was found goes."""
    settings: dict[str, Any]
    texts: tuple[str, ...]


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else round(float(value), DIGITS) for value in values]


def _figures(found: Audit) -> dict[str, Any]:
    """Return what is kept of one audit: figures, and each source's size, masses and effects in nats."""
    tested, examined = found.examined.faithfulness, found.examined
    sources = [each for each in examined.tested if each.whole]
    tests = (None if tested is None else getattr(tested, name) for name in FIGURES)
    kept: dict[str, Any] = {
        "verdict": found.verdict,
        "sources": len(sources),
        "sink_mass": round(examined.sink_mass, DIGITS),
        "answer_share": round(float(examined.picture.answer_share["mass_no_sink"]), DIGITS),
        **dict(zip(FIGURES, _rounded(tests), strict=True)),
    }
    for each in () if tested is None else tested.correlations:  # ranks of a few sources say little
        rho = each.rho if len(sources) >= SOURCES else None
        kept[f"{each.picture}, {each.effect}"] = None if rho is None else round(rho, DIGITS)
    where = [each.block for each in sources]
    return {
        "figures": kept,
        "each_source": {
            "tokens": [found.block_ids[: found.answer_start].count(block) for block in where],
            **{name: _rounded(getattr(examined.picture, name)[where]) for name in PICTURES},
            **{name: _rounded(getattr(each, name) for each in sources) for name in EFFECTS},
        },
    }


def _audit_run(task: _Task, random_sets: int, advance: Callable[[], None] = lambda: None) -> None:
    """Audit one model on every passage, and write what was found."""
    tokenizer = pretrained(AutoTokenizer, task.tokenizer, AGAIN)
    model = load(task.model, from_mapping(LocalityConfig, task.locality, "locality"))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    blocks = model.locality.partitioner
    size = task.settings["prompt_tokens"], task.settings["answer_tokens"]
    audited = []
    for text in task.texts:
        passage = cut(text, tokenizer, blocks, *size)
        if passage is not None:
            audited.append(_audited(model, tokenizer, passage, task.settings["layers"], random_sets))
        advance()
    write_json(task.path, {"settings": task.settings, "passages": audited})


def _audited(model: Any, tokenizer: Any, passage: Passage, layers: Sequence[int], random_sets: int) -> dict[str, Any]:
    return _figures(
        audit(
            model, passage.prompt, passage.continuation, tokenizer=tokenizer, layers=layers, most_blocks=ALL,
            random_sets=random_sets,
        )
    )  # fmt: skip


def _model_of(suite: Suite, run: RunResult) -> Path:
    """Return where a run's model is: a λ=0 run measured on other blocks has that of the one that was trained."""
    for each in (run, suite.baseline(run)):
        if each is not None:
            folder = suite.folder / "runs" / f"{each.name}-seed{each.seed}" / MODEL_FOLDER
            if folder.is_dir():
                return folder
    raise ProglocError(f"{suite.folder} keeps no model of {run.name}, seed {run.seed}; {AGAIN}")


def _models(suite: Suite) -> Iterator[tuple[StudiedRun, Path, dict[str, Any]]]:
    """Yield every model to audit with its locality: before localising, on each partitioner's blocks, then the runs'."""
    start = Path(gather(from_mapping(RunConfig, suite.compared[0].config)).model)
    for blocks in suite.partitioners:
        some = next(run for run in suite.compared if run.blocks == blocks)
        yield StudiedRun(BEFORE, blocks, 0, BEFORE, {}), start, some.config["locality"]
    for run in suite.compared:
        role = "distributed" if run.is_distributed else "localised"
        yield StudiedRun(run.name, run.blocks, run.seed, role, {}), _model_of(suite, run), run.config["locality"]


def _kept(task: _Task) -> StudiedRun | None:
    """Return a run as it was audited before with the same settings; None where it was not."""
    kept = read_mapping(task.path) if task.path.exists() else {}
    if kept.get("settings") != task.settings:
        return None
    rows = [passage["figures"] for passage in kept["passages"]]
    figures = {name: tuple(row.get(name) for row in rows) for name in dict.fromkeys(key for row in rows for key in row)}
    return StudiedRun(task.run.name, task.run.blocks, task.run.seed, task.run.role, figures)


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
    for name, value in (
        ("texts", texts), ("prompt-tokens", 2 if prompt_tokens is None else prompt_tokens),
        ("answer-tokens", answer_tokens), ("jobs", jobs),
    ):  # fmt: skip
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
    if (prompt_tokens or 2) + answer_tokens > length:
        raise ProglocError(
            f"passages of {prompt_tokens or 2} + {answer_tokens} tokens; the models were trained on {length}: give "
            "fewer with --prompt-tokens and --answer-tokens"
        )
    tokenizer = _model_of(suite, localised[0])
    unseen = held_out(localised[0], text, pretrained(AutoTokenizer, tokenizer, AGAIN))
    if not unseen:
        raise ProglocError(f"{corpus} has no stretch of {length} tokens that the models were not trained on")
    chosen = tuple(spread(unseen, texts))
    say(f"{len(chosen)} passages of {text.name}, of {len(unseen)} that were not trained on")
    settings = {
        "version": STUDY_VERSION, "corpus": text.name, "corpus_sha256": text.sha256, "texts": len(chosen),
        "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens, "random_sets": random_sets,
        "sequence_length": length, "layers": list(layers),
    }  # fmt: skip
    tasks = [
        _Task(run, model, tokenizer, locality, out / "runs" / f"{run.named}.json", settings, chosen)
        for run, model, locality in _models(suite)
    ]
    to_do = [task for task in tasks if _kept(task) is None]
    for number, task in enumerate(_done(to_do, random_sets, jobs, progress)):
        said = "no passage" if (kept := _kept(task)) is None else f"rank correlation {kept.mean(JUDGED):.3f}"
        say(f"[{len(tasks) - len(to_do) + number + 1}/{len(tasks)}] {task.run.named}: {said}")
    studied = tuple(kept for task in tasks if (kept := _kept(task)) is not None)
    about = {
        "suite": suite.plan.get("suite"),
        "model": suite.plan.get("model"),
        **{key: value for key, value in settings.items() if key != "layers"},
        "environment": describe_environment(),
    }
    study = Study(studied, layers, about)
    write_json(out / STUDY_FILE, study.to_dict())
    return study


def _done(tasks: Sequence[_Task], random_sets: int, jobs: int, progress: Callable[[int, int], None]) -> Iterator[_Task]:
    """Do the tasks, in processes of their own where there is more than one at a time; yield each when it is done."""
    total = sum(len(task.texts) for task in tasks)
    done = 0
    if jobs == 1:
        for task in tasks:

            def advance() -> None:
                nonlocal done
                done += 1
                progress(done, total)

            _audit_run(task, random_sets, advance)
            yield task
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        for task, future in [(task, pool.submit(_audit_run, task, random_sets)) for task in tasks]:
            future.result()
            done += len(task.texts)
            progress(done, total)
            yield task
