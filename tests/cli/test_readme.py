"""What README.md and some pages tell a reader to type is typed here, on a tiny model in folders called as theirs."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from progloc.cli import main
from progloc.data import Corpus
from progloc.training.scratch import scratch_tokenizer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("tutorial.md", "dial.md", "audit.md")}
SMALL = {
    "--study": "--texts 1 --prompt-tokens 24 --answer-tokens 6",
}
"""What is added to a command that has this in it, for as it stands it takes minutes."""
PROSE = "The overseer must see what an output rested on; the engineer names the price. "


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str = README) -> list[str]:
    lines = [line for block in blocks("bash", page) for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.startswith("progloc ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands: two texts and two short ones, and GPT-2, smaller."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("reader")
    for name in ("my-text.txt", "another-text.txt"):
        (folder / name).write_text("".join(f"{n}. {PROSE}" for n in range(150)))
    for name in ("handbook.txt", "memo.txt"):
        (folder / name).write_text(PROSE)
    tokenizer = scratch_tokenizer(Corpus("prose", PROSE * 99), "nano")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0)
    for name in ("gpt2", "stories15m"):
        tokenizer.save_pretrained(folder / name)
        GPT2LMHeadModel(config).save_pretrained(folder / name)
    return folder


def test_the_two_commands_are_there_and_do_what_they_say() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    typed = [line.partition("  #")[0].strip() for line in lines if line.startswith("make")]
    assert typed == ["make reproduce", "make test"]
    for target, command in (("reproduce", "progloc reproduce --suite quick"), ("test", "pytest")):
        shown = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert command in shown.stdout


@pytest.fixture(scope="module")
def followed(folder: Path) -> Path:
    """The folder, once everything that the README tells to type was typed there, in its order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in commands():
            run(line, patch)
    return folder


@pytest.mark.slow
def test_every_command_runs(followed: Path) -> None:
    assert (followed / "results/mine/model").is_dir()
    assert {line.split()[1] for line in commands()} >= {
        "train", "evaluate", "reproduce", "report", "schedule", "blocks", "doctor",
    }  # fmt: skip


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = " ".join(options for word, options in SMALL.items() if word in line)
    monkeypatch.setattr(sys, "argv", shlex.split(f"{line} {smaller}"))
    with pytest.raises(SystemExit) as caught, redirect_stdout(io.StringIO()) as out:
        main()
    assert caught.value.code in (0, None), line
    assert out.getvalue(), line


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_the_pages_tell_to_type_runs_where_the_readme_was_followed(
    followed: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.chdir(followed)
    typed = commands(PAGES[page])
    assert len(typed) >= 2
    for line in typed:
        run(line, monkeypatch)
    (example,) = blocks("python", PAGES[page])
    with redirect_stdout(io.StringIO()):
        exec(compile(example, page, "exec"), {"tokenizer": AutoTokenizer.from_pretrained("gpt2")})


@pytest.mark.slow
def test_the_python_example_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (example,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["report"].perplexity > 1
    assert (folder / "my-local-model" / "locality.json").exists()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "examples/README.md",
        *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ],
)
def test_every_file_and_heading_a_page_links_to_exists(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / path if path else page, anchor) for path, anchor in links]
    assert [str(path) for path, _ in targets if not path.exists()] == []
    assert [anchor for path, anchor in targets if anchor and anchor not in anchors(path)] == []


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 120
