"""Does `recruited` describe text better than other divisions into as many blocks? Judged on tokens it has not seen.

    python benchmarks/heldout_description.py MODEL CORPUS [--length 512] [--sequences 60]

A random half of each sequence's tokens is kept: blocks are found, and their means fitted, on those alone. Each other
token falls into the block of the last kept token before it, and is coded given that block's kept tokens.
"""

from __future__ import annotations

import numpy as np

from progloc.blocks import FloatArray, IntArray, Recruited, TokenisedText
from progloc.blocks.recruited import BlockCode
from scripts import script_parser

DRAWS = 10
"""Random divisions that a figure is the mean of."""


def bits_a_token(code: BlockCode, kept: FloatArray, kept_ids: IntArray, held: FloatArray, held_ids: IntArray) -> float:
    """Return what a token of ``held`` (n, d) costs in bits given the ``kept`` (m, d) of its block, on average."""
    kept, held = code.standardised(kept), code.standardised(held)
    blocks = kept_ids.max() + 1
    sums = np.zeros((blocks, kept.shape[1]))
    np.add.at(sums, kept_ids, kept)
    sizes = np.bincount(kept_ids, minlength=blocks)
    squares = np.bincount(kept_ids, weights=(kept**2).sum(axis=1), minlength=blocks)

    def bits(sizes: IntArray, squares: FloatArray, sums: FloatArray) -> FloatArray:
        return code.parameter_bits(sizes) + code.token_bits(sizes, squares, (sums**2).sum(axis=1))

    without = bits(sizes, squares, sums)[held_ids]
    within = bits(sizes[held_ids] + 1, squares[held_ids] + (held**2).sum(axis=1), sums[held_ids] + held)
    return float((within - without).mean())


def compare(recruited: Recruited, input_ids: IntArray, rng: np.random.Generator) -> dict[str, float]:
    """Return the held-out bits a token of one sequence's divisions: `recruited`, and others into as many blocks."""
    kept = rng.random(len(input_ids)) < 0.5
    kept[0] = True
    half = TokenisedText("", input_ids[kept], np.zeros((kept.sum(), 2), dtype=np.int64))
    rest = TokenisedText("", input_ids[~kept], np.zeros(((~kept).sum(), 2), dtype=np.int64))
    vectors, held = recruited.vectors(half), recruited.vectors(rest)
    code, found, before = BlockCode.of(vectors), recruited(half), np.cumsum(kept)[~kept] - 1
    sizes = np.bincount(found)
    count, tokens = len(sizes), len(half)

    def judge(ids: IntArray) -> float:
        return bits_a_token(code, vectors, ids, held, ids[before])

    def at_random() -> IntArray:
        ends = np.zeros(tokens, dtype=np.int64)
        ends[rng.choice(np.arange(1, tokens), count - 1, replace=False)] = 1
        return np.cumsum(ends)

    return {
        "recruited": judge(found),
        "fixed": judge(np.arange(tokens) * count // tokens),
        "random": float(np.mean([judge(at_random()) for _ in range(DRAWS)])),
        "its own sizes, shuffled": float(
            np.mean([judge(np.repeat(np.arange(count), rng.permutation(sizes))) for _ in range(DRAWS)])
        ),
        "one block": judge(np.zeros(tokens, dtype=np.int64)),
        "blocks": count,
    }


def main() -> None:
    """Print each division's bits, how much more they are than recruited's, and in what share of the sequences."""
    from progloc import LocalityConfig, load
    from progloc.data import load_corpus, tokenise
    from progloc.resolve import load_tokenizer

    parser = script_parser(__doc__)
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=60, help="spread evenly over the corpus")
    options = parser.parse_args()
    corpus = load_corpus(options.corpus)
    dataset = tokenise(corpus, load_tokenizer(options.model), options.length)
    # half of the tokens are kept, so blocks of 16 of them span about 32
    recruited = load(options.model, LocalityConfig(blocks="recruited:16")).locality.partitioner
    rng = np.random.default_rng(0)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, options.sequences).astype(int))
    rows = [compare(recruited, np.asarray(dataset[int(i)]["input_ids"]), rng) for i in chosen]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    print(f"{len(rows)} sequences of {options.length} tokens in {found.pop('blocks').mean():.1f} blocks")
    for name, bits in found.items():
        more = bits - found["recruited"]
        error = more.std(ddof=1) / len(rows) ** 0.5
        print(f"{name:24} {bits.mean():8.3f} bits  {more.mean():+.3f} ± {error:.3f}  worse in {(more > 0).mean():.0%}")


if __name__ == "__main__":
    main()
