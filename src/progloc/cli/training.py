"""`progloc train`: one fine-tuning."""

from __future__ import annotations

__all__ = ["train"]

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

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
    given,
    notes,
    out_console,
    print_line,
    schedule_value,
)
from progloc.errors import ProglocError
from progloc.report.printing import print_json


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
    from progloc.cli.display import before_after, training_progress
    from progloc.config import LocalityConfig, RunConfig, TrainingConfig, from_mapping, read_config
    from progloc.run_folder import RUN_FILE, claimed, describe_run
    from progloc.training.inputs import gather
    from progloc.training.run import train_run

    run = from_mapping(RunConfig, read_config(config)) if config else RunConfig()
    locality = given(
        schedule=None if schedule is None else schedule_value(schedule),
        blocks=blocks,
        alpha=alpha,
        sink_aware=sink_aware,
    )
    training = given(
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
        **given(model=model, corpus=corpus, second_corpus=second_corpus, sequence_length=sequence_length),
        locality=from_mapping(LocalityConfig, {**dataclasses.asdict(run.locality), **locality}, "locality"),
        training=from_mapping(TrainingConfig, {**dataclasses.asdict(run.training), **training}, "training"),
    )
    named = run.locality.schedule if isinstance(run.locality.schedule, str) else "explicit"
    label = f"{named.replace(':', '')}-seed{run.training.seed}"
    folder = out or Path("results") / f"{Path(run.model).name.replace(':', '-')}-{label}"

    def say(line: str) -> None:
        notes.print(line, style="dim", soft_wrap=True)

    with claimed(folder, RUN_FILE, describe_run(run, named)):  # before the minutes that a model may take to make
        inputs = gather(run, say, progress=notes.is_terminal)
        with training_progress(notes, label) as heard:
            result = train_run(run, folder, inputs, name=named, heard=heard, say=say)
    if as_json:
        print_json(result.to_dict())
        return
    out_console.print(before_after(result))
    print_line(f"\n{folder / 'model'}  · progloc evaluate {folder / 'model'}")
