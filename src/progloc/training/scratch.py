"""`scratch:tiny`: a small GPT-2 built and pretrained on the corpus itself, so that everything runs with no download."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from progloc.data import Corpus, collate
from progloc.data.cache import cached_folder, key_of
from progloc.data.sequences import tokenizer_key
from progloc.errors import ProglocError, suggest
from progloc.files import cache_dir
from progloc.report.progress import progress_bar

FORMAT = 1
"""Part of the cache's key: raise it whenever the same settings would give another tokenizer or model."""
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class ScratchSize:
    """A model's shape, and how it is pretrained: AdamW in float32, linear warm-up, then a cosine to 0."""

    layers: int
    width: int
    heads: int
    vocabulary: int
    epochs: int
    max_steps: int
    """Bounds the time on a long corpus, whatever ``epochs`` asks for."""
    batch_size: int
    learning_rate: float
    positions: int = 256
    """The longest context; longer where the sequences are."""
    warmup: float = 0.05
    """The share of the steps in which the learning rate rises."""
    seed: int = 0


SCRATCH_SIZES = {
    "tiny": ScratchSize(6, 128, 4, 2048, epochs=7, max_steps=1500, batch_size=4, learning_rate=2e-3),
    "nano": ScratchSize(2, 32, 2, 512, epochs=1, max_steps=8, batch_size=8, learning_rate=3e-3),
}
"""`scratch:NAME` for each of these. `nano` is for tests: it has learnt next to nothing."""


def scratch_tokenizer(corpus: Corpus, size: str = "tiny") -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the whole corpus, from the cache if it is there.

    `<|endoftext|>` begins, ends, pads and stands for the unknown, as in GPT-2; offsets count the space before a word.

    Raises:
        ProglocError: an unknown size (the known ones are named).
    """
    vocabulary = scratch_size(size).vocabulary

    def build(folder: Path) -> None:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator([corpus.text], trainer)
        roles = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), END_OF_TEXT)
        PreTrainedTokenizerFast(tokenizer_object=backend, **roles).save_pretrained(folder)

    key = key_of(FORMAT, "tokenizer", corpus.sha256, vocabulary)
    return PreTrainedTokenizerFast.from_pretrained(cached_folder(cache_dir() / "scratch" / key, build))


def scratch_model(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    train: Dataset,
    *,
    split_sha256: str,
    size: str = "tiny",
    console: Console | None = None,
) -> Path:
    """Return the folder of a GPT-2 pretrained on ``train`` (``input_ids`` of T tokens), from the cache if it is there.

    The tokenizer has seen the whole corpus; the weights have seen the training split only, so validation perplexity is
    that of unseen text. The folder holds model and tokenizer as any Hugging Face model's does. The same arguments give
    the same weights on the same machine. A progress bar is shown on ``console``, where that is a terminal.

    Raises:
        ProglocError: an unknown size (the known ones are named).
    """
    settings = scratch_size(size)
    key = key_of(FORMAT, "model", corpus.sha256, tokenizer_key(tokenizer), split_sha256, dataclasses.asdict(settings))

    def build(folder: Path) -> None:
        model = _untrained(settings, tokenizer, length=len(train[0]["input_ids"]))
        _pretrain(model, train, settings, f"pretraining scratch:{size}", console)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return cached_folder(cache_dir() / "scratch" / key, build)


def scratch_size(name: str) -> ScratchSize:
    """Return the size of `scratch:NAME`; raises ProglocError for an unknown one, naming those there are."""
    if name not in SCRATCH_SIZES:
        raise ProglocError(f"unknown size in 'scratch:{name}'; {suggest(name, SCRATCH_SIZES)}")
    return SCRATCH_SIZES[name]


def _untrained(size: ScratchSize, tokenizer: PreTrainedTokenizerFast, length: int) -> GPT2LMHeadModel:
    set_seed(size.seed)
    end = tokenizer.eos_token_id
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=max(size.positions, length),
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


class _Steps(TrainerCallback):
    """Calls a function with the number of steps done after each."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.advance(state.global_step)


def _pretrain(model: GPT2LMHeadModel, train: Dataset, size: ScratchSize, label: str, console: Console | None) -> None:
    """Train ``model`` in place with a plain Trainer."""
    model.loss_type = "ForCausalLM"  # GPT2LMHeadModel's own, which it otherwise warns of not finding
    steps = min(size.epochs * math.ceil(len(train) / size.batch_size), size.max_steps)
    with tempfile.TemporaryDirectory() as folder, progress_bar(console) as bar:
        task = bar.add_task(label, total=steps)
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=size.batch_size,
                learning_rate=size.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=round(size.warmup * steps),
                seed=size.seed,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                dataloader_pin_memory=False,
                disable_tqdm=True,
            ),
            train_dataset=train.select_columns("input_ids"),
            data_collator=collate,
            callbacks=[_Steps(lambda step: bar.update(task, completed=step))],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.config.use_cache = True  # Trainer turns it off, and a saved model would generate slowly
