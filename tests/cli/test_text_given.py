"""Text is read the same from files, from standard input and from options: UTF-8, a byte order mark, line ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from command_line import progloc, refused
from progloc.data import Corpus
from progloc.training.scratch import scratch_tokenizer

TEXT = "# Doors\nA door is shut.\n\nWho shut it? Nobody knows.\n- the first\n- the second\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `model` is."""
    folder = tmp_path_factory.mktemp("text")
    tokenizer = scratch_tokenizer(Corpus("doors", TEXT), "nano")
    GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=96, vocab_size=len(tokenizer))
    ).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


WRITTEN = {
    "byte order mark": ("\ufeff" + TEXT).encode(),
    "old Macintosh": TEXT.replace("\n", "\r").encode(),
    "Windows": ("\ufeff" + TEXT.replace("\n", "\r\n")).encode(),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_blocks_of_a_file_are_those_of_the_same_on_standard_input(folder: Path, kind: str) -> None:
    (folder / "plain.txt").write_text(TEXT)
    (folder / "given.txt").write_bytes(WRITTEN[kind])
    piped = WRITTEN[kind].decode()

    def shown(file: str, stdin: str = "") -> str:
        result = progloc("blocks", "paragraphs", file, "--model", "model", "--json", cwd=folder, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert shown("given.txt") == shown("-", piped) == shown("plain.txt")
    assert len({*json.loads(shown("-", piped))["block_ids"]}) == 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITTEN)
def test_prompts_and_continuations_are_read_as_files_are(folder: Path, kind: str) -> None:
    given = WRITTEN[kind].decode()
    prompts = [
        json.loads(
            progloc("generate", "model", "--max-new-tokens", "2", "--json", *how, cwd=folder, stdin=given).stdout
        )
        for how in (["--prompt", given], ["--prompt", "-"], ["--prompt", TEXT])
    ]
    assert prompts[0] == prompts[1] == prompts[2]
    audits = [
        json.loads(progloc("audit", "model", "--prompt", *how, "--json", cwd=folder, stdin=given).stdout)
        for how in (["-", "--continuation", given], [TEXT, "--continuation", TEXT])
    ]
    assert audits[0]["text"] == audits[1]["text"]


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (["generate", "model", "--prompt", "-"], "standard input"),
        (["generate", "model", "--prompt", "Caf\udce9 is open"], "--prompt"),
        (["audit", "model", "--prompt", "-"], "standard input"),
        (["audit", "model", "--prompt", "Caf\udce9 is open"], "--prompt"),
        (["audit", "model", "--prompt", "It is open", "--continuation", "Caf\udce9"], "--continuation"),
        (["blocks", "sentences", "-", "--model", "model"], "standard input"),
        (["blocks", "sentences", "latin.txt", "--model", "model"], "latin.txt"),
    ],
)
def test_bytes_that_are_no_text_are_refused(folder: Path, arguments: list[str], source: str) -> None:
    (folder / "latin.txt").write_bytes(b"Caf\xe9 is open")
    assert f"{source} is not UTF-8 at byte 3" in refused(progloc(*arguments, cwd=folder, stdin="Caf\udce9 is open"))
