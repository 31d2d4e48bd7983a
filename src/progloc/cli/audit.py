"""`progloc audit`: what an answer rested on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from progloc.cli.options import (
    Base,
    Blocks,
    Json,
    Schedule,
    app,
    dial_value,
    notes,
    out_console,
    print_line,
    schedule_value,
    text_given,
)
from progloc.errors import ProglocError
from progloc.files import decode_text
from progloc.report.printing import print_json

STUDY = {"rich_help_panel": "With --study"}
SOURCES = {"rich_help_panel": "With --source"}
ANSWER = {"model", "out", "as_json", "continuation", "as_is", "max_new_tokens", "seed"}
USED = {
    "--prompt": {*ANSWER, "prompt", "base", "dial", "layers", "most_blocks", "schedule", "blocks"},
    "--source": {*ANSWER, "source", "question", "isolate", "shapley"},
    "--study": {"model", "out", "as_json", "study", "texts", "prompt_tokens", "answer_tokens", "random_sets", "jobs"},
}
"""Which options each way to audit uses; others are refused, not left aside."""


@app.command(name="audit")
def audit_command(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run's folder, a Hugging Face folder or a hub name; with --study a suite's folder."
        ),
    ],
    prompt: Annotated[str | None, typer.Option(help="The prompt; - reads standard input.")] = None,
    continuation: Annotated[
        str | None,
        typer.Option(help="The answer, with a space inserted before its first word; default: the model writes one."),
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Join prompt and continuation unchanged.")] = False,
    base: Base = None,
    dial: Annotated[str, typer.Option(help="δ in [0, 1], or one per layer: 0 is as trained, 1 strictly local.")] = "0",
    layers: Annotated[
        str | None, typer.Option(help="Layers to trace, e.g. 10,11; default: those with λ ≥ 0.5.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Maximum number of tokens that the model writes.")] = 64,
    most_blocks: Annotated[int, typer.Option(help="Maximum number of blocks of the prompt to remove.")] = 24,
    schedule: Schedule = None,
    blocks: Blocks = None,
    seed: Annotated[int, typer.Option(help="Seed of the random sets of blocks.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The page to write, default results/audit-MODEL.html; with --study a folder."),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(metavar="CORPUS", help="Audit every run of a suite on held-out passages of a text.", **STUDY),
    ] = None,
    texts: Annotated[int, typer.Option(help="Maximum number of held-out passages.", **STUDY)] = 100,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(help="Maximum tokens of a passage's prompt; default: those of a training sequence.", **STUDY),
    ] = None,
    answer_tokens: Annotated[int, typer.Option(help="Number of tokens of a passage's answer.", **STUDY)] = 32,
    random_sets: Annotated[int, typer.Option(help="Number of random sets of sources for each verdict.", **STUDY)] = 199,
    jobs: Annotated[int, typer.Option(help="Number of runs to audit at once.", **STUDY)] = 1,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE", help="A text that the answer may rest on; repeat it for more.", **SOURCES),
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="What follows the sources; - reads standard input.", **SOURCES)
    ] = None,
    isolate: Annotated[
        bool,
        typer.Option("--isolate/--plain", help="Keep sources apart, so that effects are exact, or not.", **SOURCES),
    ] = True,
    shapley: Annotated[
        int, typer.Option(help="Maximum number of subsets for fair shares; 0 for none.", **SOURCES)
    ] = 64,
    as_json: Json = False,
) -> None:
    """Show what an answer rested on, test whether that picture can be believed, and write a page.

    With --source, say instead what each source was worth to the answer.
    """
    from progloc.accounts.auditing import audit_folder
    from progloc.accounts.terminal import AuditProgress, audit_summary
    from progloc.accounts.text import insert_space
    from progloc.files import write_text
    from progloc.report.progress import progress_bar

    if (prompt, study, question).count(None) != 2:
        raise ProglocError(
            "expected one of --prompt TEXT, what is answered; --source FILE with --question TEXT; or --study CORPUS, "
            "to audit a suite's folder"
        )
    if (question is None) != (not source):
        raise ProglocError("expected --question TEXT with --source FILE, and --source with --question")
    _refuse_unused(context, "--prompt" if prompt is not None else "--study" if study is not None else "--source")
    if study is not None:
        sizes: dict[str, Any] = {
            "texts": texts, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens,
            "random_sets": random_sets, "jobs": jobs,
        }  # fmt: skip
        _study_faithfulness(Path(model), study, out, sizes, as_json)
        return
    asked, option = (prompt, "--prompt") if question is None else (question, "--question")
    assert asked is not None  # or none was given
    texts_given = (
        text_given(asked, option),
        None if continuation is None else text_given(continuation, "--continuation"),
    )
    if not as_is:
        texts_given = insert_space(*texts_given)
    path = out or Path("results") / f"audit-{Path(model).name.replace(':', '-')}.html"
    if path.is_dir():
        raise ProglocError(f"--out {path} is a folder; expected a file, as in --out {path / 'audit.html'}")
    if source:
        settings = {"isolate": isolate, "max_new_tokens": max_new_tokens, "shapley": shapley, "seed": seed}
        _account_for_answer(model, source, texts_given, path, settings, as_json)
        return
    with progress_bar(notes) as bar:
        progress = AuditProgress(bar)
        audit = audit_folder(
            model,
            *texts_given,
            base=base,
            schedule=schedule_value(schedule),
            blocks=blocks,
            dial=dial_value(dial),
            layers=None if layers is None else _parse_layers(layers),
            max_new_tokens=max_new_tokens,
            most_blocks=most_blocks,
            seed=seed,
            say=progress.note,
            announce=progress.announce,
            progress=progress.advance,
        )
    write_text(path, audit.to_html())
    if as_json:
        print_json(audit.to_dict(), indent=None)
        return
    out_console.print(audit_summary(audit))
    print_line(f"\nThe page, to click through: {path}")


def _account_for_answer(
    model: str, sources: list[str], texts: tuple[str, str | None], path: Path, settings: dict[str, Any], as_json: bool
) -> None:
    from progloc.accounts.account import account
    from progloc.accounts.terminal import AuditProgress, account_summary
    from progloc.files import write_text
    from progloc.report.progress import progress_bar
    from progloc.resolve import resolve

    read = [_read_source(spec) for spec in sources]
    named = resolve(model)
    with progress_bar(notes) as bar:
        progress = AuditProgress(bar)
        result = account(
            named.load(), read, *texts, tokenizer=named.load_tokenizer(), **settings,
            announce=progress.announce_subsets, progress=progress.advance,
        )  # fmt: skip
    write_text(path, result.to_html())
    if as_json:
        print_json(result.to_dict(), indent=None)
        return
    out_console.print(account_summary(result))
    print_line(f"\nThe page: {path}")


def _refuse_unused(context: typer.Context, way: str) -> None:
    """Raise ProglocError for an option that was given and does nothing in this way to audit."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in USED[way]:
            raise ProglocError(f"{parameter.opts[0]} does nothing with {way}; leave it out")


def _read_source(spec: str) -> tuple[str, str]:
    """Return the name and the text of FILE or NAME=FILE; a file whose own name has a = is read as it is."""
    name, equals, file = spec.partition("=")
    path = Path(file if equals and not Path(spec).is_file() else spec)
    try:
        text = decode_text(path.read_bytes(), f"--source {path}")
    except OSError as error:
        raise ProglocError(f"--source {spec}: {error.strerror}; expected a text file, as FILE or NAME=FILE") from error
    return (name if path == Path(file) and equals else path.stem), text


def _parse_layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ProglocError(f"--layers '{text}'; expected whole numbers separated by commas, as in 10,11") from None


def _study_faithfulness(suite: Path, corpus: str, out: Path | None, sizes: dict[str, Any], as_json: bool) -> None:
    from progloc.files import one_writer
    from progloc.paper.faithfulness import STUDY_FOLDER, conclusion, study_tables, write_study
    from progloc.paper.study import run_study
    from progloc.report.progress import progress_bar
    from progloc.report.table import to_terminal

    folder = out or suite / STUDY_FOLDER
    with one_writer(folder), progress_bar(notes) as bar:
        task = bar.add_task("auditing", total=None)
        study = run_study(
            suite,
            corpus,
            folder,
            **sizes,
            say=lambda line: notes.print(line, style="dim", soft_wrap=True),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    files = write_study(study, folder)
    if as_json:
        print_json(study.to_dict())
        return
    out_console.print(to_terminal(study_tables(study)))
    out_console.print(conclusion(study))
    print_line("\nAlso written: " + ", ".join(map(str, files)))
    if folder == suite / STUDY_FOLDER:
        print_line(f"progloc report {suite} answers claim C10 by it")
