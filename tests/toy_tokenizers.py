"""Small tokenizers of the kinds that there are: they spell spaces, bytes and special tokens as the large ones do."""

from __future__ import annotations

import copy

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PIECES = (
    " ", "  ", "\n", "\n\n", "\n\n\n", "\t", ". ", ".\n\n", "...", "?! ", ", ", ": ", ":\n", " — ", " - ",
    '"', "“", "”", "(", ") ", "「", "」", "。", "、", "|", "```\n", "```python\n", "    return x[i] != 0\n",
    "x = f(a, b)", "# ", "- ", "  * ", "1. ", "12", "Dr", "e.g", "U.S.", "vol", "3.14", "The", "the", "I", "New York",
    "in", " of the", " cat", "because", "don't", "walked", "今天", "です", "한국어", "यह।", "🎉",
    "👩\u200d👩\u200d👧", "é", "É", "\U0001f1eb\U0001f1f7", "\ufffd", "\n> ", "\n>> ", "\n>>> ", "\n>\n", "\n— ",
    "\na) ", "\nb) ", "\ni. ", "\nii. ", "````\n", ".[3]", "¹ ", ".12 ", "« ", " »", "Inc. ", "p.m. ", "He ", "am 3. ",
    "II. ", "Mai", "།", " །", "։", "．", "。[", "; ",
)  # fmt: skip

WORDS = "The cat walked. In the end, because of it: don't!\n\nNew York is in the U.S. (1. The map) 今天 é x = f(a, b)\n"
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def byte_level() -> Tokenizer:
    """As GPT-2's and Llama 3's: tokens are of bytes, and a character rare in training is several."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([WORDS] * 5, trainer)
    return made


def sentencepiece() -> Tokenizer:
    """As Llama 2's: ▁ for a space, one put before the text, and <0x..> for the bytes of what has no token."""
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.train_from_iterator([WORDS] * 5, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    ranks = learnt.get_vocab()
    pieces = sorted(ranks.keys() - {"今"}, key=ranks.__getitem__)
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    vocabulary = {token: rank for rank, token in enumerate(tokens)}
    cuts = [(token[:cut], token[cut:]) for token in pieces for cut in range(1, len(token))]
    merges = [pair for pair in cuts if vocabulary.keys() >= set(pair)]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(SPECIAL)
    return made


def metaspace() -> Tokenizer:
    """As later sentencepiece conversions: the same by pre-tokenizer, without bytes."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator([WORDS, *PIECES] * 5, trainer)
    return made


TOKENIZERS = {
    made.__name__: PreTrainedTokenizerFast(
        tokenizer_object=made(),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=SPECIAL[2:],
    )
    for made in (byte_level, sentencepiece, metaspace)
}


def beginning_with(kind: str, before: str, after: str = "") -> PreTrainedTokenizerFast:
    """Return a tokenizer that puts a token before every text, as Llama's do, and one behind it if it is to."""
    made = copy.deepcopy(TOKENIZERS[kind])
    put = [token for token in (before, after) if token]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}".strip(),
        pair=f"{before} $A $B {after}".strip(),
        special_tokens=[(token, made.convert_tokens_to_ids(token)) for token in put],
    )
    return made
