"""What it costs that blocks mix in fewer layers, and how true the picture then is: the frontier of docs/frontier.md.

    python benchmarks/frontier.py [SUITE.yaml --out RESULTS [--jobs N] [--model MODEL] [--corpus FILE]]

Two ways to let blocks mix in k of a model's L layers: *isolated*, in the last k alone, sources being kept apart before
(`sources:L-k`); *local*, in the first k alone, every token being strictly local after (the paper's direction). Both are
measured on the model as it is, and trained. Finished parts are not made again. What is measured goes to
benchmarks/measured/frontier, under the suite's name; tables and figure go to docs/frontier.md. Without a suite they are
made again from what is kept.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console

from frontier_page import write_page
from progloc import Partitioner, register_partitioner
from progloc.accounts.lds import lds, random_halves, top
from progloc.accounts.sources import AnswerValues, SourcedText
from progloc.blocks import IntArray, TokenisedText, encode
from progloc.config import RunConfig, from_mapping, read_config
from progloc.data import split, with_block_ids
from progloc.dialling import dial
from progloc.errors import ProglocError
from progloc.files import read_mapping, write_json, write_text
from progloc.isolating import isolate
from progloc.loading import load
from progloc.measures.passes import evaluating
from progloc.model import LocalModel
from progloc.roles import numbered, roles_from_blocks
from progloc.run_folder import MODEL_FOLDER
from progloc.training.inputs import Inputs, gather, open_model
from progloc.training.readers import OFF
from progloc.training.run import train_run
from scripts import run_script, script_parser

ROOT = Path(__file__).parents[1]
DATA = ROOT / "benchmarks" / "measured" / "frontier"
ANSWER = 32
"""Tokens of a passage's answer, its last ones."""
AT_ONCE, LOOKED_AT = 8, 24
"""Passages in a batch; sequences that a training itself is measured on."""
FEWEST, HALVES, TOPS = 8, 64, (1, 3)
"""Sources of a passage, at least; random halves of them; how many of the top sources are left out together."""


class Lines(Partitioner):
    """`lines`: one block a line, as these stories have their paragraphs."""

    def __call__(self, text: TokenisedText) -> IntArray:
        """Return how many line breaks come before each token, (T,)."""
        return np.array([text.text.count("\n", 0, start) for start, _ in text.offsets], dtype=np.int64)


def register_lines() -> None:
    """Register `lines` where that has not been done: in this process, and in those that measure."""
    with suppress(ProglocError):
        register_partitioner("lines")(Lines)


@dataclass(frozen=True)
class Suite:
    """What is compared. A point is "isolated:K", "local:K" (K layers kept apart), "sampled" or "truth:α_t"."""

    base: RunConfig
    seeds: int
    trained: tuple[str, ...]
    """Points trained for. The control is "isolated:0", or else the model as it is, from which one distils."""
    once: tuple[str, ...] = ()
    """Further points, trained for with the first seed alone."""
    learning_rates: tuple[float, ...] = ()
    """Others, at which strict isolation and the control are trained once, to see how much that matters."""
    other_blocks: tuple[str, ...] = ()
    """On which the model is measured as it is."""
    passages: int = 16
    """On which pictures are tested, on the first blocks; 0 for none."""


@dataclass(frozen=True)
class Part:
    """One checkpoint, measured at some points."""

    blocks: str
    trained: str
    """The point it was trained for; "" for the model as it is."""
    seed: int
    points: tuple[str, ...]
    pictures: tuple[str, ...] = ()
    """The points at which pictures are tested too."""
    learning_rate: float | None = None
    """Another than the suite's."""

    @property
    def name(self) -> str:
        """Its folder."""
        rate = [] if self.learning_rate is None else [f"rate{self.learning_rate:g}"]
        return "-".join([self.blocks, self.trained.replace(":", "") or "untrained", f"seed{self.seed}", *rate])


def parts_of(suite: Suite, layers: int) -> list[Part]:
    """Return all parts: the model as it is, other learning rates, then seed by seed."""
    kept_apart = [f"isolated:{k}" for k in range(layers + 1)]
    everywhere = (*kept_apart, *(f"local:{k}" for k in range(1, layers + 1)))
    some = range(0, layers + 1, max(1, layers // 3))
    tested = tuple(point for point in everywhere if suite.passages and int(point.partition(":")[2]) in some)
    blocks, strict = suite.base.locality.blocks, f"isolated:{layers}"
    parts = [Part(blocks, "", 0, everywhere, tested), *(Part(other, "", 0, everywhere) for other in suite.other_blocks)]
    for rate in suite.learning_rates:
        for point in dict.fromkeys((strict, *(control for control in suite.trained if control == "isolated:0"))):
            parts.append(Part(blocks, point, 0, (point,), learning_rate=rate))
    for seed in range(suite.seeds):
        for trained in (*suite.trained, *(suite.once if not seed else ())):
            own = trained if trained.startswith(("isolated", "local")) else strict
            measured = kept_apart if trained == "sampled" else dict.fromkeys((own, "isolated:0"))
            parts.append(Part(blocks, trained, seed, tuple(measured), (own,)))
    return parts


def config_of(suite: Suite, part: Part, layers: int) -> RunConfig:
    """Return the run that trains a part."""
    base = suite.base
    kind, _, value = part.trained.partition(":")
    isolation, schedule = OFF, base.locality.schedule
    settings: dict[str, Any] = {}
    if kind == "isolated":
        isolation = "sources" if int(value) == layers else f"sources:{value}"
    elif kind == "local":
        schedule, settings = tuple(late(int(value), layers)), {"dial": 1.0}
    elif kind in ("sampled", "truth"):
        isolation = "sampled" if kind == "sampled" else "sources"
        settings = {"truth": float(value)} if kind == "truth" else {}
    elif kind:
        raise ProglocError(f"trained: '{part.trained}'; expected isolated:K, local:K, sampled or truth:WEIGHT")
    rate = base.training.learning_rate if part.learning_rate is None else part.learning_rate
    settings |= {"seed": part.seed, "isolation": isolation, "learning_rate": rate}
    training = dataclasses.replace(base.training, **settings)
    locality = dataclasses.replace(base.locality, blocks=part.blocks, schedule=schedule)
    return dataclasses.replace(base, locality=locality, training=training)


def late(count: int, layers: int) -> list[float]:
    """Return 1 in the last layers, 0 before, (L,)."""
    return [0.0] * (layers - count) + [1.0] * count


@contextmanager
def held_at(model: LocalModel, point: str) -> Iterator[str | None]:
    """Hold a model at a point; yields how sources are then kept apart, as `isolate` has it."""
    layers = len(model.locality.lambdas)
    kind, _, value = point.partition(":")
    with ExitStack() as stack:
        if kind == "local":
            stack.enter_context(dial(model, late(int(value), layers), keep_sink=True))
        yield f"sources:{value}" if kind == "isolated" else OFF


def whole_texts(config: RunConfig) -> Inputs:
    """Return a run's inputs, with the beginnings of its corpus's texts as sequences: none from the middle of a text.

    Texts are what stands between empty lines. Shorter ones than a sequence are left out.
    """
    inputs = gather(config)
    length = config.sequence_length
    rows = []
    for text in filter(str.strip, inputs.corpus.text.split("\n\n")):
        encoded = encode(inputs.tokenizer, text)
        if len(encoded.input_ids) >= length:
            ids, offsets = encoded.input_ids[:length], encoded.offsets[:length]
            rows.append({"input_ids": ids, "offsets": offsets, "text": encoded.text[: offsets[-1, 1]]})
    parts = split(Dataset.from_list(rows), config.validation_fraction, config.split_seed, config.max_sequences)
    blocks = open_model(inputs, config).locality.partitioner
    return dataclasses.replace(
        inputs, train=with_block_ids(parts.train, blocks), validation=with_block_ids(parts.validation, blocks),
        split_sha256=parts.sha256,
    )  # fmt: skip


def passages(inputs: Inputs) -> list[SourcedText]:
    """Return the held-out sequences as sources, a question and an answer: the last tokens, and the block before them.

    Those of one block, which have no source, are left out.
    """
    texts = []
    for item in inputs.validation:
        ids, blocks = torch.tensor(item["input_ids"]), torch.tensor(item["block_ids"])
        answer = len(ids) - ANSWER
        start = int((blocks == blocks[answer - 1]).int().argmax())
        roles = roles_from_blocks(blocks, start)
        if bool((roles >= 0).any()):
            texts.append(SourcedText(ids, numbered(roles), answer, blocks))
    return texts


def answer_losses(model: LocalModel, texts: Sequence[SourcedText]) -> list[float]:
    """Return the mean cross-entropy of each answer, in nats a token."""
    losses: list[float] = []
    with evaluating(model):
        for start in range(0, len(texts), AT_ONCE):
            ids, roles, blocks = (
                torch.stack([getattr(text, name) for text in texts[start : start + AT_ONCE]])
                for name in ("ids", "roles", "block_ids")
            )
            logits = model(
                ids, source_ids=roles, block_ids=blocks, use_cache=False, logits_to_keep=ANSWER + 1
            ).logits[:, :-1]  # fmt: skip
            nats = torch.nn.functional.cross_entropy(logits.mT, ids[:, -ANSWER:], reduction="none")
            losses += nats.mean(-1).tolist()
    return losses


def picture(model: LocalModel, text: SourcedText, isolation: str | None) -> dict[str, Any]:
    """Return how true pictures of one passage are: attention's, exact effects' and those of simple rules."""
    n = int(text.roles.max()) + 1
    halves = random_halves(n, HALVES)
    with evaluating(model):
        values = AnswerValues(model, text, layers=isolation)
        mass = values.mass()
        assert mass is not None
        left_out = np.concatenate([np.zeros((1, n), dtype=bool), np.eye(n, dtype=bool), halves])
        log_probs = values(torch.from_numpy(~left_out)).numpy()
        losses = log_probs[0] - log_probs[1:]
        effects = losses[:n]
        sizes = np.bincount(text.roles[text.roles >= 0].numpy(), minlength=n)
        scores = {"attention": mass.numpy(), "effects": effects, "recency": np.arange(n), "length": sizes}
        sets = [top(scores[name], k) for name in ("attention", "effects") for k in TOPS]
        drops = log_probs[0] - values(torch.from_numpy(~np.stack(sets))).numpy()
    return {
        "sources": n,
        "lds": {name: lds(score, halves, losses[n:]) for name, score in scores.items()},
        "rho": lds(scores["attention"], np.eye(n, dtype=bool), effects),
        "same_top": bool(scores["attention"].argmax() == effects.argmax()),
        "drops": {"attention": drops[: len(TOPS)].tolist(), "effects": drops[len(TOPS) :].tolist()},
    }


def make(suite: Suite, part: Part, out: Path) -> Path:
    """Train and measure a part, if that is still to be done; return the file of its figures."""
    path = out / f"{part.name}.json"
    if path.exists():
        return path
    register_lines()
    base = dataclasses.replace(suite.base, locality=dataclasses.replace(suite.base.locality, blocks=part.blocks))
    inputs = whole_texts(base)
    if part.trained:
        layers = len(open_model(inputs, base).locality.lambdas)
        config = config_of(suite, part, layers)
        # nothing is chosen by validation, so training looks at little of it
        looked_at = dataclasses.replace(inputs, validation=inputs.validation.select(range(LOOKED_AT)))
        train_run(config, out / part.name, looked_at, name=part.trained)
        model = load(out / part.name / MODEL_FOLDER, base.locality)
    else:
        model = open_model(inputs, base)
    texts = passages(inputs)
    tested = [text for text in texts if int(text.roles.max()) + 1 >= FEWEST]
    if part.pictures and len(tested) < suite.passages:
        raise ProglocError(
            f"{len(tested)} passages of {FEWEST} sources; expected {suite.passages}: give longer sequences"
        )
    places = np.linspace(0, len(tested) - 1, suite.passages).round().astype(int) if part.pictures else ()
    figures: dict[str, Any] = {}
    for point in part.points:
        with held_at(model, point) as isolation:
            with isolate(model, None, isolation):
                figures[point] = {"nats": [round(nats, 4) for nats in answer_losses(model, texts)]}
            if point in part.pictures:
                figures[point]["pictures"] = [picture(model, tested[place], isolation) for place in places]
    write_json(path, {**dataclasses.asdict(part), "points": figures})
    return path


def rounded(value: Any) -> Any:
    """Return what JSON holds with numbers of four digits behind the point, which is all that is shown."""
    if isinstance(value, dict):
        return {key: part if key == "learning_rate" else rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def make_all(suite: Suite, parts: Sequence[Part], out: Path, jobs: int, console: Console) -> None:
    """Make every part, some at once, and say how long the rest should take."""
    to_do = [part for part in parts if not (out / f"{part.name}.json").exists()]
    console.print(f"{len(parts)} checkpoints to measure, {len(parts) - len(to_do)} finished before")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    started = time.monotonic()
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        tasks = [pool.submit(make, suite, part, out) for part in to_do]
        for done, task in enumerate(as_completed(tasks), 1):
            left = (time.monotonic() - started) / done * (len(to_do) - done) / 60
            console.print(f"[{done}/{len(to_do)}] {task.result().stem}, about {left:.0f} min to go", soft_wrap=True)


def main() -> None:
    """Make what is missing, keep what was measured, and write the page."""
    parser = script_parser(__doc__)
    parser.add_argument("suite", metavar="SUITE.yaml", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("results/frontier"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--model", help="instead of the suite's")
    parser.add_argument("--corpus", help="instead of the suite's")
    options = parser.parse_args()
    console = Console(stderr=True)
    if options.suite is not None:
        register_lines()
        suite = from_mapping(Suite, read_config(options.suite))
        changes = {key: value for key in ("model", "corpus") if (value := getattr(options, key)) is not None}
        suite = dataclasses.replace(suite, base=dataclasses.replace(suite.base, **changes))
        options.out.mkdir(parents=True, exist_ok=True)
        inputs = gather(suite.base, console)  # once, before several processes would
        layers = len(open_model(inputs, suite.base).locality.lambdas)
        parts = parts_of(suite, layers)
        make_all(suite, parts, options.out, options.jobs, console)
        data = {
            "model": Path(suite.base.model).name, "corpus": Path(suite.base.corpus).name, "layers": layers,
            "seeds": suite.seeds, "answer": ANSWER, "halves": HALVES,
            "learning_rate": suite.base.training.learning_rate, "length": suite.base.sequence_length,
            "parts": [rounded(read_mapping(options.out / f"{part.name}.json")) for part in parts],
        }  # fmt: skip
        path = DATA / f"{options.suite.stem}.json"
        write_text(path, json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
    write_page(console)


if __name__ == "__main__":
    run_script(main)
