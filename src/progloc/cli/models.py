"""`progloc train`, `evaluate`, `generate` and `dial`: one model made, measured, used and dialled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.segment import Segment, Segments
from rich.style import Style

from progloc.cli.options import (
    Blocks,
    Corpus,
    Json,
    Length,
    Model,
    Out,
    Schedule,
    SecondCorpus,
    app,
    dial_value,
    drop_unset,
    notes,
    numbers,
    out_console,
    print_line,
    schedule_value,
    text_given,
)
from progloc.errors import ProglocError
from progloc.report.printing import print_json, visible

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run's folder, a Hugging Face folder or a hub name.")
]


def _share(text: str) -> float:
    """Return the share that `1%` or `0.01` stands for."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ProglocError(f"--budget '{text}'; expected a share of perplexity, as in 1%") from None


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with settings; options override it.")
    ] = None,
    model: Model = None,
    corpus: Corpus = None,
    second_corpus: SecondCorpus = None,
    schedule: Schedule = None,
    blocks: Blocks = None,
    alpha: Annotated[float | None, typer.Option(help="The penalty coefficient α.")] = None,
    sink_aware: Annotated[
        bool | None,
        typer.Option("--sink-aware/--no-sink-aware", help="Leave attention to the first token out of the penalty."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Adapt α so that perplexity rises by at most this share, e.g. 1%.")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(help="Train with blocks kept apart as sources: sources, sources:K (layers), or sampled."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of passes over the training text.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Maximum number of optimiser steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences per micro-batch.")] = None,
    accumulation: Annotated[int | None, typer.Option(help="Micro-batches per optimiser step.")] = None,
    sequence_length: Length = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the order of the training sequences.")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model with the locality penalty, and measure it before and after."""
    from progloc.cli.display import before_after, training_progress
    from progloc.config import LocalityConfig, RunConfig, TrainingConfig, from_mapping, read_config
    from progloc.run_folder import RUN_FILE, claimed, describe_run
    from progloc.training.inputs import gather
    from progloc.training.run import train_run

    run = from_mapping(RunConfig, read_config(config)) if config else RunConfig()
    locality = drop_unset(schedule=schedule_value(schedule), blocks=blocks, alpha=alpha, sink_aware=sink_aware)
    training = drop_unset(
        budget=None if budget is None else _share(budget),
        isolation=isolation,
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=seed,
    )
    run = dataclasses.replace(
        run,
        **drop_unset(model=model, corpus=corpus, second_corpus=second_corpus, sequence_length=sequence_length),
        locality=from_mapping(LocalityConfig, {**dataclasses.asdict(run.locality), **locality}, "locality"),
        training=from_mapping(TrainingConfig, {**dataclasses.asdict(run.training), **training}, "training"),
    )
    name = run.locality.schedule if isinstance(run.locality.schedule, str) else "explicit"
    label = f"{name.replace(':', '')}-seed{run.training.seed}"
    folder = out or Path("results") / f"{Path(run.model).name.replace(':', '-')}-{label}"

    with claimed(folder, RUN_FILE, describe_run(run, name)):  # before the minutes that pretraining may take
        inputs = gather(run, notes)
        with training_progress(notes, label) as heard:
            result = train_run(run, folder, inputs, name=name, heard=heard, console=notes)
    if as_json:
        print_json(result.to_dict())
        return
    out_console.print(before_after(result))
    print_line(f"\n{folder / 'model'}  · progloc evaluate {folder / 'model'}")


@app.command()
def evaluate(
    model: ModelArgument,
    corpus: Corpus = "python-docs",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequence_length: Length = None,
    as_json: Json = False,
) -> None:
    """Measure a model on a text: perplexity, fidelity, entropy, penalty and sink mass, by layer and head."""
    from progloc.cli.display import report_table
    from progloc.evaluation import evaluate_folder

    report = evaluate_folder(
        model,
        corpus or "python-docs",
        schedule=schedule_value(schedule),
        blocks=blocks,
        sequence_length=sequence_length,
        console=notes,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        out_console.print(report_table(report))


@app.command()
def generate(
    model: ModelArgument,
    prompt: Annotated[str, typer.Option(help="The text to continue; - reads standard input.")],
    dial: Annotated[str, typer.Option(help="δ in [0, 1], or one per layer: 0 is as trained, 1 strictly local.")] = "0",
    max_new_tokens: Annotated[int, typer.Option(help="Maximum number of tokens to write.")] = 64,
    sample: Annotated[
        bool | None,
        typer.Option(help="Sample tokens, or take the most likely ones; default: the model's generation_config.json."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    as_json: Json = False,
) -> None:
    """Continue a prompt with a model, as trained or with the dial turned."""
    from progloc.evaluation import continue_text

    text = text_given(prompt, "--prompt")
    continuation = continue_text(model, text, dial=dial_value(dial), tokens=max_new_tokens, sample=sample, seed=seed)
    if as_json:
        print_json(continuation)
    else:
        parts = ((continuation["prompt"], Style(dim=True)), (continuation["continuation"], None), ("\n", None))
        # segments, because rich's texts turn tabs into blanks
        out_console.print(Segments([Segment(visible(part), style) for part, style in parts]), soft_wrap=True, end="")


@app.command(name="dial")
def dial_command(
    model: ModelArgument,
    corpus: Corpus = "python-docs",
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model to compare with; repeatable."),
    ] = None,
    deltas: Annotated[str, typer.Option(help="Settings δ of the dial, in [0, 1].")] = "0,0.25,0.5,0.75,0.9,1",
    schedule: Schedule = None,
    blocks: Blocks = None,
    sequences: Annotated[int, typer.Option(help="Number of sequences to measure, spread over the text.")] = 32,
    sequence_length: Length = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure perplexity, locality and changes of predictions over settings of the dial; write a table and a figure."""
    from progloc.dial_curve.dial_report import dial_report, write_dial
    from progloc.report.table import to_terminal

    report = dial_report(
        model,
        corpus or "python-docs",
        against or (),
        deltas=numbers(deltas, "--deltas"),
        schedule=schedule_value(schedule),
        blocks=blocks,
        sequences=sequences,
        sequence_length=sequence_length,
        console=notes,
    )
    files = write_dial(report, out or Path("results") / f"dial-{Path(model).name.replace(':', '-')}")
    if as_json:
        print_json(report.to_dict())
        return
    out_console.print(to_terminal(report.tables()))
    out_console.print(report.conclusion())
    print_line("\nAlso written: " + ", ".join(map(str, files)))
