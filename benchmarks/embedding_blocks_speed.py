"""Time the partitioners that read embeddings: tokens a second on one core, tokenising and `prepared` excluded.

OMP_NUM_THREADS=1 python benchmarks/embedding_blocks_speed.py
"""

import time
from statistics import median

import numpy as np

from progloc.blocks import TokenisedText, partitioner

VOCABULARY, WIDTH, REPEATS = 50_257, 768, 9
rng = np.random.default_rng(0)
EMBEDDINGS = rng.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)  # GPT-2's shape: time depends on no value in it


def speeds(name: str, tokens: int, calls: int) -> list[float]:
    """Return the tokens a second of each repeat: ``calls`` texts of ``tokens`` tokens, of Zipf's frequencies."""
    prepared, rates = partitioner(name).prepared(EMBEDDINGS), []
    ids = np.minimum(rng.zipf(1.2, size=(calls, tokens)), VOCABULARY) - 1
    for _ in range(REPEATS):
        started = time.perf_counter()
        for row in ids:
            prepared(TokenisedText("", row, np.zeros((tokens, 2), dtype=np.int64)))
        rates.append(calls * tokens / (time.perf_counter() - started))
    return sorted(rates)


if __name__ == "__main__":
    for name in ("similarity", "similarity-clusters", "recruited"):
        for tokens, calls in ((128, 200), (1024, 25), (250_000, 1)):
            found = speeds(name, tokens, calls)
            print(f"{name:20} {tokens:7} tokens: {median(found):9,.0f}/s ({found[0]:,.0f} to {found[-1]:,.0f})")
