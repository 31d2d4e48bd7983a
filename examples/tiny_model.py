"""A GPT-2 of two layers, made in seconds, so that the examples run with no download; it has learnt next to nothing."""

from progloc.data import load_corpus, split, tokenise
from progloc.training.scratch import scratch_model, scratch_tokenizer


def tiny_model() -> str:
    """Return the folder of the model and its tokenizer, made of Python's documentation at the first call."""
    corpus = load_corpus("python-docs")
    tokenizer = scratch_tokenizer(corpus, "nano")
    parts = split(tokenise(corpus, tokenizer, sequence_length=128), validation_fraction=0.2, seed=0)
    return str(scratch_model(corpus, tokenizer, parts.train, split_sha256=parts.sha256, size="nano"))
