"""What commands print: the text they were given, in a pipe, in a narrow terminal and in any encoding."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import matplotlib.text
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from command_line import progloc, refused
from progloc import LocalityConfig, localize

MODEL = "m_$x_y$[red] (v2)"
LONG = "a-folder-whose-name-is-longer-than-a-terminal-of-eighty-characters-is-wide-" * 2
HOSTILE = "Keep :key: and [final] and [/red].\tTab. \x1b[31mRed\x1b[0m \x9b1m \u202eright\u202c zero\u200bwidth \x07."
SHOWN = "<U+001B>[31mRed<U+001B>[0m <U+009B>1m <U+202E>right<U+202C> zero<U+200B>width <U+0007>."
COMMAND = [sys.executable, "-m", "progloc"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a model of bytes lies, under a name that other programs would read as markup."""
    folder = tmp_path_factory.mktemp("printing")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=256, n_positions=512, bos_token_id=0, eos_token_id=0)
    )
    for name in (MODEL, "_other"):
        localize(model, LocalityConfig(blocks="sentences")).save_pretrained(folder / name)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / name)
    (folder / "hostile.txt").write_text(HOSTILE, encoding="utf-8")
    (folder / "mixed.txt").write_text("λ rises. 犬は走る。 𝒳 ≠ 😀.", encoding="utf-8")
    return folder


def in_terminal(*arguments: str, cwd: Path, columns: int) -> str:
    """Run a command in a terminal of its own that is so many characters wide; return what it was shown."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen([*COMMAND, *arguments], cwd=cwd, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return shown.decode()


class TestTextIsNoMarkup:
    @pytest.mark.slow
    def test_a_prompt_comes_back_as_it_was_but_for_what_hides_or_commands(self, folder: Path) -> None:
        result = progloc("generate", MODEL, "--prompt", HOSTILE, "--max-new-tokens", "2", cwd=folder)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("Keep :key: and [final] and [/red].\tTab. " + SHOWN)

    def test_so_do_the_blocks_of_a_text(self, folder: Path) -> None:
        result = progloc("blocks", "sentences", "hostile.txt", "--model", MODEL, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert "Keep :key: and [final] and [/red].\tTab. " + SHOWN in result.stdout.replace("│", "")

    @pytest.mark.slow
    def test_and_paths_and_names_in_what_is_said_of_them(self, folder: Path) -> None:
        out = f"run[final] :key:/{LONG}/a.html"
        audit = ["audit", MODEL, "--prompt", "One [b]is[/b] here. Two :key: is there. Three.", "--max-new-tokens", "3"]
        result = progloc(*audit, "--base", "none", "--out", out, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert any(line.endswith(out) for line in result.stdout.splitlines())
        assert "One [b]is[/b] here." in result.stdout
        assert "Two :key: is there." in result.stdout

    @pytest.mark.parametrize("given", ["no[bold]such.txt", ":key:.txt", "a  b\x1b[2J.txt", f"{LONG}.txt"])
    def test_and_in_what_is_refused(self, folder: Path, given: str) -> None:
        line = refused(progloc("blocks", "sentences", given, "--model", MODEL, cwd=folder))
        assert given.replace("\x1b", "<U+001B>") in line

    @pytest.mark.slow
    def test_a_figure_and_its_tables_name_models_as_they_are_called(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn: dict[str, bool] = {}
        monkeypatch.setattr(
            matplotlib.text.Text, "draw",
            lambda self, *_: drawn.update({self.get_text(): self.get_parse_math()}),
        )  # fmt: skip
        (folder / "corpus.txt").write_text("The dog ran home. It was late, and cold. " * 8)
        dial = ["dial", MODEL, "--against", "_other", "--corpus", "corpus.txt", "--sequences", "2"]
        result = progloc(*dial, "--sequence-length", "32", "--deltas", "0,1", "--out", "curve", cwd=folder)
        assert result.returncode == 0, result.stderr
        names = {text for text in drawn if "m_$" in text or "_other" in text}
        assert names == {
            f"F° by layer: {MODEL}",
            *(f"{name}, sink {sink}" for name in (MODEL, "_other") for sink in ("kept", "dialled")),
        }
        assert not any(drawn[name] for name in names)
        assert f"The dial: {MODEL}" in result.stdout
        assert f"From δ = 0 to 1, {MODEL} goes from perplexity" in result.stdout
        assert "## The dial: m\\_\\$x_y\\$[red] (v2)" in (folder / "curve/tables.md").read_text()


class TestNothingIsCutSilently:
    def test_a_pipe_is_given_whole_lines(self, folder: Path) -> None:
        sentence = "It is a very long sentence that goes on and on and comes to no end of its own accord at all, " * 2
        audit = ["audit", MODEL, "--prompt", f"One. {sentence}indeed.", "--max-new-tokens", "3", "--base", "none"]
        result = progloc(*audit, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert f"{sentence}indeed." in result.stdout

    @pytest.mark.slow
    def test_a_narrow_terminal_is_shown_what_is_cut(self, folder: Path) -> None:
        audit = ["audit", MODEL, "--prompt", f"One. {'so long ' * 20}indeed.", "--max-new-tokens", "3"]
        shown = in_terminal(*audit, cwd=folder, columns=60)
        (line,) = [line for line in shown.splitlines() if "so long so" in line]
        assert "…" in line


class TestAnyEncoding:
    @pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
    def test_json_is_the_same_document(self, folder: Path, encoding: str) -> None:
        command = ["blocks", "sentences", "mixed.txt", "--model", MODEL, "--json"]
        result = progloc(*command, cwd=folder, encoding=encoding)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == json.loads(progloc(*command, cwd=folder).stdout)
        assert json.loads(result.stdout)["text"] == (folder / "mixed.txt").read_text(encoding="utf-8")

    @pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
    @pytest.mark.parametrize(
        "command",
        [
            ["schedule", "quintic"],
            ["blocks", "sentences", "mixed.txt", "--model", MODEL],
            ["generate", MODEL, "--prompt", "λ 犬 😀", "--max-new-tokens", "3"],
            ["audit", MODEL, "--prompt", "λ is. 犬. 😀 is.", "--max-new-tokens", "3", "--base", "none"],
            ["evaluate", MODEL, "--corpus", "mixed.txt", "--sequence-length", "16"],
            ["doctor", "--help"],
        ],
        ids=lambda command: command[0],
    )
    def test_tables_and_texts_are_printed(self, folder: Path, encoding: str, command: list[str]) -> None:
        result = progloc(*command, cwd=folder, encoding=encoding)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip()

    def test_an_error_is_too(self, folder: Path) -> None:
        line = refused(progloc("blocks", "sentences", "犬.txt", "--model", MODEL, cwd=folder, encoding="ascii"))
        assert "no file at \\u72ac.txt" in line

    def test_symbols_of_tables_have_names_in_ascii(self, folder: Path) -> None:
        first = progloc("schedule", "quintic", cwd=folder, encoding="ascii").stdout.splitlines()[0]
        assert first.split() == ["lambda(l),", "quintic"]

    @pytest.mark.slow
    def test_a_process_of_its_own_does_so(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        ran = subprocess.run(
            [*COMMAND, "schedule", "quintic"], cwd=folder, env=environment, capture_output=True, check=True
        )
        assert b"lambda(l), quintic" in ran.stdout
