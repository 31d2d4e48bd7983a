"""The command line: parse, call, print. What it calls is the same library a script would."""

from __future__ import annotations

__all__ = ["app", "main"]

import dataclasses
import errno
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

# read by the libraries when they are imported: their bars and notices would run through ours
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import typer
from rich.console import Console
from rich.markup import escape

from progloc.errors import ProglocError

app = typer.Typer(
    name="progloc",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make a language model's attention local, late layers most, and see what it costs.",
)
out_console = Console()
notes = Console(stderr=True)

INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines instead.")]
Out = Annotated[Path | None, typer.Option("--out", help="Results folder; default results/NAME here.")]
Corpus = Annotated[str | None, typer.Option("--corpus", help="A text file, a folder, a datasets name, or python-docs.")]
Model = Annotated[str | None, typer.Option("--model", help="A hub name, a folder, or scratch:tiny.")]
SecondCorpus = Annotated[
    str | None, typer.Option("--second-corpus", help="Another text, to measure the trained model on too.")
]
Schedule = Annotated[
    str | None,
    typer.Option("--schedule", help="λ(ℓ), e.g. quintic, sigmoid:0.8,12, heads:0.5,quintic, 0,0.5,1."),
]
Blocks = Annotated[str | None, typer.Option("--blocks", help="The partitioner, e.g. fixed:5.")]
Length = Annotated[int | None, typer.Option("--sequence-length", help="Tokens a sequence.")]
BENCH: dict[str, Any] = {"rich_help_panel": "With --bench"}
STUDY: dict[str, Any] = {"rich_help_panel": "With --study"}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _schedule_value(text: str) -> str | tuple[float, ...]:
    """Return a schedule's name, or the numbers of a comma-separated list."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return numbers


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ProglocError(f"{option} '{text}'; expected numbers separated by commas, as in 0,0.5,1") from None


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@app.command()
def reproduce(
    suite: Annotated[
        str,
        typer.Option(
            help="paper-v1, paper-v3; quick, quick-v3: the same on a small model; or a YAML file of your own."
        ),
    ] = "quick",
    model: Model = None,
    corpus: Corpus = None,
    second_corpus: SecondCorpus = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds, instead of the suite's.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run the paper's experiments: its architectures (v1) or blocks that mean something (v3), and its claims tested."""
    from progloc.suite.plan import plan, read_preset
    from progloc.suite.report import write_report
    from progloc.suite.runner import run_suite

    name, preset = read_preset(suite)
    folder = out or Path("results") / name
    planned = plan(name, preset, _given(model=model, corpus=corpus, second_corpus=second_corpus), seeds)
    run_suite(planned, folder, notes, "progloc " + shlex.join(sys.argv[1:]))
    _show_report(write_report(folder), folder, as_json)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="A folder that `progloc reproduce` made.")],
    as_json: Json = False,
) -> None:
    """Write the tables, figures and page of a suite's results again, from what is finished."""
    from progloc.suite.report import write_report

    _show_report(write_report(results), results, as_json)


def _show_report(suite: Any, folder: Path, as_json: bool) -> None:
    from progloc.display import claims_table
    from progloc.suite.claims import answers
    from progloc.suite.rendering import to_rich
    from progloc.suite.report import summary
    from progloc.suite.results import rows
    from progloc.suite.tables import suite_tables

    claims = answers(suite)
    files = [str(folder / name) for name in ("tables.md", "results.csv", "figures", "report.html")]
    if as_json:
        _print_json({"results": rows(suite), "claims": [dataclasses.asdict(claim) for claim in claims], "files": files})
        return
    for table in (table for table in suite_tables(suite) if not table.detail):
        out_console.print(to_rich(table))
    out_console.print(claims_table(claims))
    out_console.print(summary(suite, claims))
    out_console.print("\nAlso written: " + ", ".join(files[:-1]))
    out_console.print(f"The page, with intervals and reasons: {files[-1]}")


def _share(text: str) -> float:
    """Return the share that `1%` or `0.01` stands for."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ProglocError(f"--budget '{text}'; expected a share of perplexity, as in 1%") from None


@app.command()
def train(
    config: Annotated[Path | None, typer.Option("--config", help="Settings in YAML; options here win over it.")] = None,
    model: Model = None,
    corpus: Corpus = None,
    second_corpus: SecondCorpus = None,
    schedule: Schedule = None,
    blocks: Blocks = None,
    alpha: Annotated[float | None, typer.Option(help="The penalty coefficient α.")] = None,
    sink_aware: Annotated[
        bool | None, typer.Option("--sink-aware/--no-sink-aware", help="Leave the mass on the first token alone.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Adapt α: the perplexity that locality may cost, e.g. 1%.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training text.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many optimiser steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences a micro-batch.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Micro-batches a step.")] = None,
    sequence_length: Length = None,
    seed: Annotated[int | None, typer.Option(help="Draws the order of the training sequences.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Fine-tune one model with the penalty; the folder then holds the model and its measures before and after."""
    from progloc.config import LocalityConfig, RunConfig, TrainingConfig, from_mapping, read_config
    from progloc.display import before_after
    from progloc.training.callbacks import ProgressBar
    from progloc.training.folder import RUN_FILE, check_folder, describe_run
    from progloc.training.inputs import gather
    from progloc.training.run import train_run

    run = from_mapping(RunConfig, read_config(config)) if config else RunConfig()
    locality = _given(
        schedule=None if schedule is None else _schedule_value(schedule),
        blocks=blocks,
        alpha=alpha,
        sink_aware=sink_aware,
    )
    training = _given(
        budget=None if budget is None else _share(budget),
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=seed,
    )
    run = dataclasses.replace(
        run,
        **_given(model=model, corpus=corpus, second_corpus=second_corpus, sequence_length=sequence_length),
        locality=from_mapping(LocalityConfig, {**dataclasses.asdict(run.locality), **locality}, "locality"),
        training=from_mapping(TrainingConfig, {**dataclasses.asdict(run.training), **training}, "training"),
    )
    named = run.locality.schedule if isinstance(run.locality.schedule, str) else "explicit"
    label = f"{named.replace(':', '')}-seed{run.training.seed}"
    folder = out or Path("results") / f"{Path(run.model).name.replace(':', '-')}-{label}"

    def say(line: str) -> None:
        notes.print(line, style="dim", soft_wrap=True)

    check_folder(folder, RUN_FILE, describe_run(run, named))  # before the minutes that a model may take to make
    inputs = gather(run, say, progress=notes.is_terminal)
    with ProgressBar(notes, label) as bar:
        result = train_run(run, folder, inputs, name=named, heard=bar, say=say)
    if as_json:
        _print_json(result)
        return
    out_console.print(before_after(result))
    out_console.print(f"\n{folder / 'model'}  [dim]· progloc evaluate {folder / 'model'}[/dim]")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A Hugging Face folder or hub name, or a run's folder.")
    ],
    corpus: Corpus = "python-docs",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequence_length: Length = None,
    as_json: Json = False,
) -> None:
    """Measure a model on a text: perplexity, fidelity, entropy, penalty and sink mass, by layer and head."""
    from progloc.display import report_table
    from progloc.evaluation import evaluate_folder

    measured = evaluate_folder(
        model,
        corpus or "python-docs",
        schedule=_schedule_value(schedule) if schedule is not None else None,
        blocks=blocks,
        sequence_length=sequence_length,
        console=notes,
    )
    if as_json:
        print(measured.to_json())
    else:
        out_console.print(report_table(measured))


@app.command()
def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or hub name.")],
    prompt: Annotated[str, typer.Option(help="What to go on from; - reads standard input.")],
    dial: Annotated[str, typer.Option(help="δ in [0, 1], or one a layer: 0 as trained, 1 strictly local.")] = "0",
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens at most.")] = 64,
    sample: Annotated[bool, typer.Option("--sample", help="Draw tokens instead of taking the most likely.")] = False,
    seed: Annotated[int, typer.Option(help="For --sample.")] = 0,
    as_json: Json = False,
) -> None:
    """Let a model go on from a prompt, as local as the dial says."""
    from progloc.evaluation import continue_text

    text = sys.stdin.read() if prompt == "-" else prompt
    found = continue_text(model, text, dial=_schedule_value(dial), tokens=max_new_tokens, sample=sample, seed=seed)
    if as_json:
        _print_json(found)
    else:
        out_console.print(f"[dim]{escape(found['prompt'])}[/dim]{escape(found['continuation'])}", soft_wrap=True)


@app.command(name="dial")
def dial_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or hub name.")],
    corpus: Corpus = "python-docs",
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model, e.g. one never localised; may be repeated."),
    ] = None,
    deltas: Annotated[str, typer.Option(help="Places of the dial.")] = "0,0.25,0.5,0.75,0.9,1",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequences: Annotated[int, typer.Option(help="How many sequences of the text, spread over it.")] = 32,
    sequence_length: Length = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure a model over the dial: perplexity, locality, and how far what it says moves; a table and a figure."""
    from progloc.dial_curve.report import dial_report, write_dial
    from progloc.dial_curve.tables import conclusion
    from progloc.suite.rendering import to_rich

    found = dial_report(
        model,
        corpus or "python-docs",
        against or (),
        deltas=_numbers(deltas, "--deltas"),
        schedule=None if schedule is None else _schedule_value(schedule),
        blocks=blocks,
        sequences=sequences,
        sequence_length=sequence_length,
        console=notes,
    )
    files = write_dial(found, out or Path("results") / f"dial-{Path(model).name.replace(':', '-')}")
    if as_json:
        _print_json(found.to_dict())
        return
    for table in (table for table in found.tables() if not table.detail):
        out_console.print(to_rich(table))
    out_console.print(conclusion(found.curves))
    out_console.print("\nAlso written: " + ", ".join(map(str, files)))


@app.command(name="audit")
def audit_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or hub name; or a suite's.")
    ],
    prompt: Annotated[str | None, typer.Option(help="What is answered; - reads standard input.")] = None,
    continuation: Annotated[str | None, typer.Option(help="The answer; by default the model writes one.")] = None,
    base: Annotated[
        str | None, typer.Option(help="A model to set beside it; 'recorded': the one that it was made from.")
    ] = None,
    dial: Annotated[str, typer.Option(help="δ in [0, 1], or one a layer: 0 as trained, 1 strictly local.")] = "0",
    layers: Annotated[
        str | None, typer.Option(help="Layers to look at, e.g. 10,11; default those with λ ≥ 0.5.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="How many tokens the model writes at most.")] = 64,
    most_blocks: Annotated[int, typer.Option(help="How many blocks of the prompt are taken away at most.")] = 24,
    schedule: Schedule = None,
    blocks: Blocks = None,
    seed: Annotated[int, typer.Option(help="Draws the random sets of blocks.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page, default results/audit-MODEL.html; a study's folder.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Audit every run of a suite's folder on a text instead.", **STUDY),
    ] = None,
    texts: Annotated[int, typer.Option(help="How many passages of the text.", **STUDY)] = 8,
    prompt_tokens: Annotated[int, typer.Option(help="Of each passage.", **STUDY)] = 192,
    answer_tokens: Annotated[int, typer.Option(help="Of each passage.", **STUDY)] = 32,
    as_json: Json = False,
) -> None:
    """Show what an answer rested on, and test whether that picture may be believed; writes a page to read."""
    from progloc.auditing.display import AuditProgress, audit_summary
    from progloc.auditing.folders import audit_folder
    from progloc.auditing.page import page
    from progloc.files import write_text

    if (prompt is None) == (study is None):
        raise ProglocError("expected --prompt TEXT, what is answered, or --study CORPUS, to audit a suite's folder")
    if study is not None:
        sizes = {"texts": texts, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens}
        _faithfulness_study(Path(model), study, out, sizes, as_json)
        return
    path = out or Path("results") / f"audit-{Path(model).name.replace(':', '-')}.html"
    if path.is_dir():
        raise ProglocError(f"--out {path} is a folder; expected a file, as in --out {path / 'audit.html'}")
    with AuditProgress(notes) as bar:
        found = audit_folder(
            model,
            sys.stdin.read() if prompt == "-" else str(prompt),
            continuation,
            base=base,
            schedule=None if schedule is None else _schedule_value(schedule),
            blocks=blocks,
            dial=_numbers(dial, "--dial"),
            layers=None if layers is None else [int(number) for number in _numbers(layers, "--layers")],
            max_new_tokens=max_new_tokens,
            most_blocks=most_blocks,
            seed=seed,
            announce=bar.announce,
            progress=bar.advance,
        )
    write_text(path, page(found))
    if as_json:
        print(found.to_json())
        return
    out_console.print(audit_summary(found))
    out_console.print(f"\nThe page, to click through: {path}")


def _faithfulness_study(suite: Path, corpus: str, out: Path | None, sizes: dict[str, int], as_json: bool) -> None:
    from rich.progress import Progress

    from progloc.auditing.study import run_study
    from progloc.auditing.study_tables import conclusion, study_tables, write_study
    from progloc.suite.rendering import to_rich

    folder = out or suite / "audit-study"
    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("auditing", total=None)
        found = run_study(
            suite,
            corpus,
            folder,
            **sizes,
            say=lambda line: notes.print(line, style="dim", soft_wrap=True),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    files = write_study(found, folder)
    if as_json:
        _print_json(found.to_dict())
        return
    for table in (table for table in study_tables(found) if not table.detail):
        out_console.print(to_rich(table))
    out_console.print(conclusion(found))
    out_console.print("\nAlso written: " + ", ".join(map(str, files)))


@app.command()
def schedule(
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="A name, or numbers separated by commas.")],
    layers: Annotated[
        int | None, typer.Option(help="The number of layers L; default 12, or the list's length.")
    ] = None,
    heads: Annotated[int, typer.Option(help="The heads of a layer, for schedules in which they differ.")] = 12,
    denominator: Annotated[str, typer.Option(help="L-1 as in the paper's tables, or L as in its formula.")] = "L-1",
    as_json: Json = False,
) -> None:
    """Show λ(ℓ) of a schedule, layer by layer; of one that is learned, what it begins with."""
    from progloc.display import schedule_table
    from progloc.schedules import parse_schedule

    value = _schedule_value(name)
    if denominator not in ("L-1", "L"):
        raise ProglocError(f"--denominator {denominator}; expected L-1 or L")
    count = layers if layers is not None else (12 if isinstance(value, str) else len(value))
    found = parse_schedule(value, denominator)
    if heads < 1:
        raise ProglocError(f"--heads {heads}; expected at least one")
    lambdas, by_head = found.resolve(count, heads)
    if as_json:
        _print_json({"schedule": found.name, "layers": count, "lambdas": lambdas, "head_lambdas": by_head})
    else:
        out_console.print(schedule_table(found.name, lambdas, by_head))


@app.command()
def blocks(
    partitioner: Annotated[str, typer.Argument(metavar="PARTITIONER", help="Such as fixed:5.")],
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="The text; - or nothing reads standard input.")] = "-",
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "scratch:tiny",
    as_json: Json = False,
) -> None:
    """Show how a partitioner divides a text."""
    from progloc.display import coloured_blocks
    from progloc.evaluation import partition_text

    found = partition_text(partitioner, file, model)
    if as_json:
        _print_json(found)
    else:
        out_console.print(coloured_blocks(found))


@app.command()
def doctor(
    bench: Annotated[
        bool, typer.Option("--bench", help="Time training steps with and without the penalty: ten minutes and more.")
    ] = False,
    lengths: Annotated[
        str | None, typer.Option(help="Sequence lengths, e.g. 128,1024; 128x32 for a batch of 32.", **BENCH)
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens a step: the batch is as many sequences.", **BENCH)] = None,
    repeats: Annotated[int | None, typer.Option(help="Timed steps of each variant.", **BENCH)] = None,
    layers: Annotated[int | None, typer.Option(help="The model's layers; GPT-2's 12.", **BENCH)] = None,
    width: Annotated[int | None, typer.Option(help="The model's width; GPT-2's 768.", **BENCH)] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Time what this regular expression names, and what that stands against.", **BENCH),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Time compiled models too.", **BENCH)] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Results folder; default results/bench.", **BENCH)] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine can run, and how fast; with --bench, what the penalty costs a step."""
    options = _given(lengths=lengths, tokens=tokens, repeats=repeats, layers=layers, width=width, only=only)
    if bench:
        _bench({**options, "compiled": compiled}, out or Path("results") / "bench", as_json)
        return
    if options or compiled or out is not None:
        raise ProglocError("options of the benchmark were given without --bench; run progloc doctor --bench …")
    from progloc.doctor import examine, to_table

    found = examine()
    if as_json:
        _print_json(found)
    else:
        out_console.print(to_table(found))


def _bench(options: dict[str, Any], folder: Path, as_json: bool) -> None:
    from progloc.benchmark import made_by, run_benchmark, run_tables, settings_for
    from progloc.benchmark.report import write_report
    from progloc.suite.rendering import to_rich

    run_benchmark(settings_for(**options), folder, notes, "progloc " + shlex.join(sys.argv[1:]))
    found = write_report(folder)
    if as_json:
        _print_json(found.to_dict())
        return
    for table in run_tables(found):
        out_console.print(to_rich(table))
    out_console.print(made_by(found), style="dim", highlight=False)
    out_console.print("\nAlso written: " + ", ".join(str(path) for path in sorted(folder.iterdir())))


def _stop(message: str, status: int = 2) -> None:
    print(f"progloc: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and status 2."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    status: Any = 0
    try:
        status = app(standalone_mode=False)
    except ProglocError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as stop:  # the parser may turn an interrupt into one of these
        status = stop.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        usage = getattr(error, "format_message", None)  # the parser's own errors
        if usage is not None:
            _stop(f"{usage()} (progloc --help)")
        full = "No space left on device"
        if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or full in str(error):
            _stop("the disk is full; free some space and run the same command again: it goes on where it stopped")
        if isinstance(error, PermissionError):
            _stop(f"{error.filename}: {error.strerror}; expected a place you may read and write")
        raise
    if status == INTERRUPTED:
        what = "starts again" if "--bench" in sys.argv else "goes on where this one stopped"
        _stop(f"interrupted; the same command {what}", INTERRUPTED)
    raise SystemExit(status if isinstance(status, int) else 0)
